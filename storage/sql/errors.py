"""The database's trouble as core knows it."""

from __future__ import annotations

from sqlalchemy.exc import (
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)

from core.errors import StoreUnavailable


def translate(error: SQLAlchemyError) -> Exception:
    """StoreUnavailable for what the database could not do now; a programming error stays what it is."""
    if isinstance(error, (OperationalError, InterfaceError, InternalError)):
        return StoreUnavailable(type(error.orig).__name__)
    return error
