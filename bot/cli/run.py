"""`xinyu run`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial

from bot.cli.common import settings_or_complain
from bot.compose import model_endpoints
from bot.logs import logging_to
from bot.settings import Settings
from core.errors import ConfigError


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        default="serve,work,discord",
        help="serve, work, discord, separated by commas; all of them by default",
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    from bot.lifecycle import ROLES, run

    roles = frozenset(part.strip() for part in arguments.role.split(",") if part.strip())
    if not roles or not roles <= ROLES:
        raise ConfigError(f"--role: expected some of {', '.join(sorted(ROLES))}")
    settings = settings_or_complain()
    try:
        with (
            logging_to(settings.log_dir, secrets=settings.secrets, debug=settings.debug),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(run(settings, roles, partial(_say_ready, settings)))
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder that cannot be made or written, most likely
        where = error.filename or "LOG_DIR, DATA_DIR"
        raise ConfigError(
            f"{where}: {error.strerror or type(error).__name__}. `xinyu doctor` tells more."
        ) from error
    return 0


def _say_ready(settings: Settings, address: str) -> None:
    lines = [f"心语在这里 · XinYu is here: {address}"]
    if not model_endpoints(settings):
        lines.append("还没有设置模型：由离线倾听者作答 · No model yet: the offline listener answers.")
        lines.append(
            "在 config.env 里填 LLM_API_KEY · Put LLM_API_KEY into config.env (see config.env.example)"
        )
    if settings.wechat_app_id or settings.wechat_accounts:
        where = f"{settings.public_url or 'https://…'}/webhooks/wechat"
        lines.append(f"微信：设置页的 URL 填 · WeChat, the settings page's URL: {where}")
    lines.append("停止 · stop: Ctrl-C")
    print("\n  " + "\n  ".join(lines) + "\n", file=sys.stderr, flush=True)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: about a third less CPU a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
