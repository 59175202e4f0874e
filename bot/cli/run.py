"""`xinyu run`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from bot.cli.common import settings_or_complain
from bot.logs import logging_to
from core.errors import ConfigError


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", default="serve,work", help="serve, work, or both (default), separated by commas"
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    from bot.lifecycle import ROLES, run

    roles = frozenset(part.strip() for part in arguments.role.split(",") if part.strip())
    if not roles or not roles <= ROLES:
        raise ConfigError(f"--role: expected some of {', '.join(sorted(ROLES))}")
    settings = settings_or_complain()
    with logging_to(settings.log_dir, secrets=settings.secrets, debug=settings.debug):
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(run(settings, roles, _say_ready))
        except OSError as error:
            raise ConfigError(
                f"PORT {settings.port} on HOST {settings.host}: {error.strerror or type(error).__name__}. "
                "Is XinYu running already? `xinyu doctor` tells more."
            ) from error
    return 0


def _say_ready(address: str) -> None:
    print(f"\n  心语在这里 · XinYu is here: {address}\n  停止 · stop: Ctrl-C\n", file=sys.stderr, flush=True)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (chromadb brings it): about a third less CPU a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
