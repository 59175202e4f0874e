"""Insert what is not there yet, whoever else is inserting it at the same moment."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, UniqueConstraint, insert, select
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import IntegrityError

from storage.sql.models import Table
from storage.sql.types import by_platform

_MYSQL_DUPLICATE_ENTRY = 1062


def insert_new(connection: Connection, table: type[Table], rows: list[dict[str, Any]]) -> bool:
    """Insert the rows whose unique key (a platform and its name for something) is free; whether all of them were.

    Tried plainly first: that is the common case. Not INSERT IGNORE, which would also swallow values
    that do not fit; not ON DUPLICATE KEY UPDATE: the failed insert holds a shared lock on the row
    that is there, and of several that want it exclusively next, all but one die of a deadlock.
    """
    try:
        connection.execute(insert(table), rows)
        return True
    except IntegrityError as error:
        if not _is_duplicate(error):
            raise
    for _ in rows:  # each time that it fails again, somebody has added one more of them
        missing = _missing(connection, table, rows)
        if not missing:
            break
        try:
            connection.execute(insert(table), missing)
            break
        except IntegrityError as error:
            if not _is_duplicate(error):
                raise
    return False


def _missing(connection: Connection, table: type[Table], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each platform and name that are not taken."""
    assert isinstance(table.__table__, SqlTable)
    (unique,) = (one for one in table.__table__.constraints if isinstance(one, UniqueConstraint))
    platform_column, name_column = unique.columns
    missing = {(row[platform_column.name], row[name_column.name]): row for row in reversed(rows)}
    for platform, names in by_platform(missing).items():
        taken = select(name_column).where(platform_column == platform, name_column.in_(names))
        for name in connection.execute(taken).scalars():
            del missing[platform, name]
    return list(reversed(missing.values()))


def _is_duplicate(error: IntegrityError) -> bool:
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code == _MYSQL_DUPLICATE_ENTRY or str(code).startswith("UNIQUE constraint failed")
