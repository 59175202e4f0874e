"""Insert what is not there yet: the one statement that the two databases spell differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import IntegrityError

from storage.sql.models import Table
from storage.sql.types import MYSQL_NAMES

_MYSQL_DUPLICATE_ENTRY = 1062


def insert_new(connection: Connection, table: type[Table], rows: list[dict[str, Any]]) -> bool:
    """Insert the rows whose unique keys are free; whether all of them were.

    Tried plainly first: that is the common case, and MySQL's driver counts a skipped row like an
    inserted one. Not INSERT IGNORE: that would also swallow values that do not fit.
    """
    try:
        connection.execute(insert(table), rows)
        return True
    except IntegrityError as error:
        if not _is_duplicate(error):
            raise
    if connection.dialect.name in MYSQL_NAMES:
        tolerant = mysql.insert(table).values(rows)
        connection.execute(tolerant.on_duplicate_key_update(id=table.__table__.c.id))
    else:
        connection.execute(sqlite.insert(table).values(rows).on_conflict_do_nothing())
    return False


def _is_duplicate(error: IntegrityError) -> bool:
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code == _MYSQL_DUPLICATE_ENTRY or str(code).startswith("UNIQUE constraint failed")
