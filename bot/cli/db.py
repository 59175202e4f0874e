"""`xinyu db`: bring the schema up or back, and say where it is."""

from __future__ import annotations

import argparse

from bot.cli.common import print_json, settings_or_complain


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("upgrade", help="升到最新 · to the newest revision")
    down = actions.add_parser("downgrade", help="退回某个版本（会删数据）· back to a revision (drops data)")
    down.add_argument("revision", help="如 0001，或 base · such as 0001, or base")
    current = actions.add_parser("current", help="现在的版本 · where it is")
    current.add_argument("--json", action="store_true")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    from sqlalchemy.exc import OperationalError

    from core.errors import StoreUnavailable
    from storage.sql import migrate, revision

    url = settings_or_complain().store_url
    try:
        if arguments.action == "upgrade":
            migrate.upgrade(url)
        elif arguments.action == "downgrade":
            migrate.downgrade(url, arguments.revision)
        current, newest = revision.current(url), revision.newest()
    except OperationalError as error:
        raise StoreUnavailable(type(error.orig).__name__) from error
    if getattr(arguments, "json", False):
        print_json({"current": current, "newest": newest})
    else:
        print(f"{current or '-'} (最新 · newest: {newest})")
    return 0
