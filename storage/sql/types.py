"""Column types that mean the same on SQLite and on MySQL / MariaDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Integer,
    LargeBinary,
    Row,
    TypeDecorator,
)
from sqlalchemy.dialects import mysql

from core.messages import Platform

MYSQL_NAMES = frozenset({"mysql", "mariadb"})


class Utc(TypeDecorator[datetime]):
    """Aware UTC outside, naive UTC with microseconds in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in MYSQL_NAMES:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Exact(TypeDecorator[str]):
    """Text from a platform that is compared byte by byte.

    MySQL's collations fold case, width and trailing blanks: 'Ann' and 'ann ' would be one person.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int = 255) -> None:
        super().__init__()
        self.max_bytes = length

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in MYSQL_NAMES:
            return dialect.type_descriptor(mysql.VARBINARY(self.max_bytes))
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        encoded = value.encode()
        if len(encoded) > self.max_bytes:
            raise ValueError(f"more than {self.max_bytes} bytes")
        return encoded

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else value.decode()


Id = BigInteger().with_variant(Integer(), "sqlite")
"""63 bits. SQLite wants the word INTEGER to make a key the rowid itself."""

Sealed = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
"""Ciphertext of storage.keys: up to 16 MiB."""

Fixed = LargeBinary().with_variant(mysql.VARBINARY(128), "mysql", "mariadb")
"""Short bytes: wrapped keys, hashes."""

MANY_IDS = 1000
"""Values in one IN list: far below the limits of both databases, and of a plan's size."""


def batched_ids(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """The ids in lists short enough for one statement; none for none."""
    for start in range(0, len(ids), MANY_IDS):
        yield ids[start : start + MANY_IDS]


def by_platform(named: Iterable[tuple[Platform, str]]) -> dict[Platform, list[str]]:
    """Platforms' own names for things, for one query a platform.

    Not one query for all with `(platform, name) IN (VALUES …)`: SQLite reads the whole table for that.
    """
    names: dict[Platform, list[str]] = {}
    for platform, name in dict.fromkeys(named):
        names.setdefault(platform, []).append(name)
    return names


AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
