"""Alembic, without its command line and its ini file."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, make_url

from core.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_SECONDS = 60
"""How long to wait for another process that migrates the same database."""


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to a revision. Of several processes at once one does it and the others wait. Blocking.

    Raises ConfigError if the database is of a revision that this program does not know.
    """
    refuse_unknown(current(url))
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to a revision (`base`: nothing is left). Blocking.

    Raises ConfigError if the database is of a revision that this program does not know, or `revision` is.
    """
    refuse_unknown(current(url))
    try:
        command.downgrade(_config(url), revision)
    except CommandError as error:
        raise ConfigError(f"revision {revision}: {error}") from None


def current(url: str) -> str | None:
    """The schema's revision; None for an empty database. Blocking."""
    engine = blocking_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def refuse_unknown(revision: str | None) -> None:
    """Raises ConfigError if this program has no migration of that name."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    if revision is not None and all(script.revision != revision for script in scripts.walk_revisions()):
        raise ConfigError(
            f"the database is at revision {revision}, which this program does not know: a newer version "
            "upgraded it. Install that version again, or restore the backup of before the upgrade"
        )


def newest() -> str | None:
    """The revision that this program is written for."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def blocking_engine(url: str) -> Engine:
    """A plain engine for the same database: migrations are no business of the event loop."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return create_engine(parsed.set(drivername="sqlite"), connect_args={"timeout": LOCK_SECONDS})
    return create_engine(parsed.set(drivername="mysql+pymysql"), connect_args={"connect_timeout": 10})


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = blocking_engine(url)
    return config
