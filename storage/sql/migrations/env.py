"""Run by Alembic: how a migration gets its connection, and the database to itself."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from core.errors import StoreUnavailable
from storage.sql.models import Table
from storage.sql.revision import LOCK_SECONDS


def migrate_sqlite(connection: Connection) -> None:
    """All in one transaction that begins with the write lock: whole or not at all, and one process at a time.

    Foreign keys stay off meanwhile: a table that is altered by copying must not take its children along.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.isolation_level = None  # Python's sqlite3 would commit before each CREATE TABLE
    with connection.begin():
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        run(connection)


def migrate_mysql(connection: Connection) -> None:
    """Under a lock of the server: its DDL commits by itself. The lock goes with the connection."""
    lock = "GET_LOCK(CONCAT('xinyu:', MD5(DATABASE())), %s)"
    if connection.exec_driver_sql(f"SELECT {lock}", (LOCK_SECONDS,)).scalar() != 1:
        raise StoreUnavailable("another process is migrating this database")
    connection.commit()
    run(connection)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=True,  # SQLite alters a table by copying it
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


engine = context.config.attributes["engine"]
try:
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            migrate_sqlite(connection)
        else:
            migrate_mysql(connection)
finally:
    engine.dispose()
