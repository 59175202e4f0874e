"""The database's trouble as core knows it."""

from __future__ import annotations

from sqlalchemy.exc import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)

from core.errors import StoreUnavailable


def translate(error: SQLAlchemyError) -> Exception:
    """StoreUnavailable for what the database could not do now; a programming error stays what it is."""
    # A plain DatabaseError is SQLite's for a file that is none or is damaged.
    if isinstance(error, (OperationalError, InterfaceError, InternalError)) or type(error) is DatabaseError:
        return StoreUnavailable(type(error.orig).__name__)
    return error
