"""Which revision a database's schema is of, without Alembic: an up-to-date start has no need to load it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, create_engine, inspect, make_url

from core.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_SECONDS = 60
"""How long to wait for another process that migrates the same database."""


def current(url: str) -> str | None:
    """The schema's revision; None for an empty database. Blocking."""
    engine = blocking_engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return None if revision is None else str(revision)
    finally:
        engine.dispose()


def newest() -> str:
    """The revision that this program is written for."""
    return max(_known())


def refuse_unknown(revision: str | None) -> None:
    """Raises ConfigError if this program has no migration of that name."""
    if revision is not None and revision not in _known():
        raise ConfigError(
            f"the database is at revision {revision}, which this program does not know: a newer version "
            "upgraded it. Install that version again, or restore the backup of before the upgrade"
        )


def has_people(url: str) -> bool:
    """Whether anything was written for anybody. Creates nothing. Blocking."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return False
    engine = blocking_engine(url)
    try:
        with engine.connect() as connection:
            found = inspect(connection).has_table("users")
            return found and connection.exec_driver_sql("SELECT 1 FROM users LIMIT 1").first() is not None
    finally:
        engine.dispose()


def _known() -> frozenset[str]:
    """Every revision, oldest first by name: `0001_the_spine.py` is 0001."""
    return frozenset(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def blocking_engine(url: str) -> Engine:
    """A plain engine for the same database: migrations are no business of the event loop."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return create_engine(parsed.set(drivername="sqlite"), connect_args={"timeout": LOCK_SECONDS})
    return create_engine(parsed.set(drivername="mysql+pymysql"), connect_args={"connect_timeout": 10})
