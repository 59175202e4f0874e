"""`xinyu`: the command line. One module a command group; each is imported only when its command runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import ConfigError, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    module: str
    help: str


COMMANDS = (
    Command("run", "bot.cli.run", "启动心语（网页、接口、Telegram、微信、Discord） · run everything"),
    Command("chat", "bot.cli.chat", "在终端里聊天 · talk in this terminal"),
    Command("doctor", "bot.cli.doctor", "检查设置和环境 · check settings and surroundings"),
    Command("db", "bot.cli.db", "数据库结构 · the database's schema"),
    Command("keys", "bot.cli.keys", "API 密钥 · API keys"),
    Command("wechat", "bot.cli.wechat", "公众号的底部菜单 · the Official Account's menu"),
    Command("discord", "bot.cli.discord", "Discord 的邀请链接 · the invite for Discord"),
    Command("deliveries", "bot.cli.deliveries", "没送到的回复 · replies that were not delivered"),
)
FAILED, MISCONFIGURED = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 well, 1 it failed, 2 wrong settings or usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = _parser(given).parse_args(given)
        code: int = parsed.act(parsed)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    except StoreUnavailable as error:
        print(f"数据库没有回应 · the database does not answer: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xinyu", description="心语：情感陪伴 · an emotional companion")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in given if not word.startswith("-")), None)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.name == chosen:  # the others' modules stay unloaded
            importlib.import_module(command.module).define(sub)
    return parser
