"""How far something got, by name."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.sql.models import MarkRow
from storage.sql.types import Utc


class SqlMarks:
    """Implements core.ports.MarkRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set(self, name: str, at: datetime) -> None:
        if self._connection.execute(_SET, {"mark": name, "then": at}).rowcount == 0:
            with suppress(IntegrityError):  # another process was first
                self._connection.execute(insert(MarkRow), {"name": name, "at": at})

    def get(self, name: str) -> datetime | None:
        found: datetime | None = self._connection.execute(
            select(MarkRow.at).where(MarkRow.name == name)
        ).scalar_one_or_none()
        return found


_SET = update(MarkRow).where(MarkRow.name == bindparam("mark")).values(at=bindparam("then", type_=Utc()))
