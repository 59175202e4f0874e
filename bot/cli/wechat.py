"""`xinyu wechat`: the custom menu of the Official Accounts."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bot.cli.common import print_json, settings_or_complain
from bot.doctor.wechat import advice_for
from bot.logs import silent
from bot.settings import Settings
from bot.wechat import wechat_accounts
from core.errors import ConfigError
from storage.shared_cache import LocalCache

FAILED = 1


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    menu = actions.add_parser(
        "menu",
        help="设置底部菜单 · apply the custom menu",
        description="把公众号底部的菜单换成文件里的这一份；手机上过几分钟、或重新关注后看到。"
        " Replaces the account's custom menu; phones show it after some minutes, or after following again."
        " 例 · e.g.: xinyu wechat menu --file menu.toml --dry-run",
    )
    menu.add_argument(
        "--file", type=Path, help="菜单（TOML），默认 adapters/wechat/menu.toml · the menu's file"
    )
    menu.add_argument("--account", help="WECHAT_ACCOUNTS 里的名字，或 main；不写就是全部 · one; default: all")
    menu.add_argument("--dry-run", action="store_true", help="只检查、显示，不发送 · only check and show it")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    from adapters.wechat.menu import DEFAULT_MENU, load_menu

    menu = load_menu(arguments.file or DEFAULT_MENU)
    if arguments.dry_run:
        print_json(menu)
        return 0
    silent()
    return asyncio.run(_apply(settings_or_complain(), arguments.account, menu))


async def _apply(settings: Settings, name: str | None, menu: dict[str, object]) -> int:
    from adapters.proxy import proxy_for
    from adapters.wechat.api import ApiError, Session, WechatApi

    accounts = [account for account in wechat_accounts(settings) if name in (None, account.name or "main")]
    if not accounts:
        raise ConfigError(
            "WECHAT_APP_ID: no account is set" if name is None else f"--account: no account {name}"
        )
    session, code = Session(proxy_for(settings.wechat_api_base_url)), 0
    try:
        for account in accounts:
            if not account.app_secret:
                raise ConfigError(f"{account.app_id}: the menu needs the AppSecret, to call the API")
            try:
                await WechatApi(account, LocalCache(), session).set_menu(menu)
                print(f"{account.app_id}: 菜单设好了 · the menu is set")
            except ApiError as error:
                code = FAILED
                advice = advice_for(error.reason)
                print(f"{account.app_id}: {error.reason} ({error.code}) → {advice}", file=sys.stderr)
    finally:
        await session.close()
    return code
