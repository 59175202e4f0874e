"""`xinyu discord`: the link with which a server's administrators invite the bot."""

from __future__ import annotations

import argparse
import asyncio
import sys

from bot.cli.common import settings_or_complain
from bot.discord import discord_settings
from bot.doctor.discord import trouble
from bot.logs import silent
from core.errors import ConfigError

FAILED = 1
SECONDS = 15.0


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser(
        "invite",
        help="邀请链接 · the invite link",
        description="打印邀请链接，只带用得到的权限；有「管理服务器」权限的人打开它，选服务器。"
        " Prints the link with exactly the permissions that are used; whoever manages a server opens it.",
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    silent()
    wanted = discord_settings(settings_or_complain())
    if wanted is None:
        raise ConfigError("DISCORD_BOT_TOKEN: not set; docs/discord.md tells where it comes from")
    from adapters.discord.check import ask_discord

    facts = asyncio.run(ask_discord(wanted, SECONDS))
    if isinstance(facts, str):
        found, advice = trouble(facts)
        print(f"{found} ({facts}) → {advice}", file=sys.stderr)
        return FAILED
    print(facts.invite_url)
    return 0
