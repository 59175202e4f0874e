"""Alembic, without its command line and its ini file."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

from core.errors import ConfigError
from storage.sql.revision import MIGRATIONS, blocking_engine, current, refuse_unknown


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


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = blocking_engine(url)
    return config
