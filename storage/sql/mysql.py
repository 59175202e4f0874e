"""The store on MySQL 8 / MariaDB 10.6+, through aiomysql."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from core.errors import StoreUnavailable
from storage.keys import KeyRing
from storage.sql.errors import translate
from storage.sql.transaction import SqlTransaction

T = TypeVar("T")

CONNECTIONS = 16
ANSWER_SECONDS = 15.0
TRIES = 4
_DEADLOCK, _LOCK_WAIT_TIMEOUT, _RECORD_CHANGED = 1213, 1205, 1020


class MysqlStore:
    """Implements core.ports.Store.

    A unit may run more than once: after a deadlock, or when the connection was lost before the
    commit was confirmed. Units are written for that (unique keys, leases, states that are checked).
    """

    def __init__(self, url: str, keys: KeyRing) -> None:
        self._keys = keys
        self._writing = _engine(url, "READ COMMITTED")
        # Connections of their own: to switch one to and fro costs more than a read itself, and where the server
        # goes away in between, the driver's own error comes out.
        self._reading = _engine(url, "AUTOCOMMIT")

    async def write(self, unit: Callable[[SqlTransaction], T]) -> T:
        return await self._run(self._writing, unit)

    async def read(self, unit: Callable[[SqlTransaction], T]) -> T:
        return await self._run(self._reading, unit)

    async def close(self) -> None:
        await self._writing.dispose()
        await self._reading.dispose()

    async def _run(self, engine: AsyncEngine, unit: Callable[[SqlTransaction], T]) -> T:
        def on(connection: Connection) -> T:
            return unit(SqlTransaction(connection, self._keys))

        for tried in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(ANSWER_SECONDS), engine.begin() as connection:
                    return await connection.run_sync(on)
            except TimeoutError:
                raise StoreUnavailable("the database did not answer in time") from None
            except SQLAlchemyError as error:
                if tried == TRIES or not _passing(error):
                    raise translate(error) from error
            await asyncio.sleep(random.uniform(0, 0.02 * 2**tried))
        raise AssertionError("the last try returns or raises")


def _engine(url: str, isolation_level: IsolationLevel) -> AsyncEngine:
    return create_async_engine(
        url,
        isolation_level=isolation_level,
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,  # each unit ends with a COMMIT or ROLLBACK of its own
        pool_size=CONNECTIONS,
        max_overflow=0,
        # ANSWER_SECONDS is around all of it. The pool's and the driver's own timeouts are wait_for's, which may
        # swallow our cancellation (CPython issue 86296) and then wait for a hung server without end.
        pool_timeout=None,
        pool_recycle=1800,
        connect_args={"connect_timeout": None, "charset": "utf8mb4"},
    )


def _passing(error: SQLAlchemyError) -> bool:
    """Whether the same unit may well succeed on another connection or a moment later."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code: Any = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code in (_DEADLOCK, _LOCK_WAIT_TIMEOUT, _RECORD_CHANGED)
