"""`xinyu keys`: make, list and revoke API keys."""

from __future__ import annotations

import argparse
import base64
import secrets
import sys

from bot.api.access import SCOPES, hash_of, new_key
from bot.cli.common import print_json, settings_or_complain, with_store
from bot.clock import SystemClock
from core.errors import ConfigError


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="新建，只显示一次 · make one; it is shown once")
    create.add_argument("name", help="给谁用 · what it is for")
    create.add_argument("--scope", default="chat", help=f"{', '.join(sorted(SCOPES))} (逗号分隔 · commas)")
    create.add_argument("--json", action="store_true")
    listing = actions.add_parser("list", help="列出 · list them")
    listing.add_argument("--json", action="store_true")
    revoke = actions.add_parser("revoke", help="作废 · revoke one")
    revoke.add_argument("id", type=int)
    actions.add_parser("encryption", help="生成 ENCRYPTION_KEY · make an ENCRYPTION_KEY")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    return {"create": _create, "list": _list, "revoke": _revoke, "encryption": _encryption}[arguments.action](
        arguments
    )


def _create(arguments: argparse.Namespace) -> int:
    scopes = frozenset(part.strip() for part in arguments.scope.split(",") if part.strip())
    if not scopes or not scopes <= SCOPES or not 1 <= len(arguments.name) <= 64:
        raise ConfigError(f"--scope: some of {', '.join(sorted(SCOPES))}; the name: 1 to 64 characters")
    key, now = new_key(), SystemClock().now()
    made = with_store(
        settings_or_complain(),
        lambda store: store.write(lambda tx: tx.api_keys.add(arguments.name, hash_of(key), scopes, now)),
    )
    if arguments.json:
        print_json({"id": str(made.id), "name": made.name, "scopes": sorted(scopes), "key": key})
    else:
        print(key)
        print("只显示这一次，请收好。 It is shown only this once: keep it.", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    keys = with_store(settings_or_complain(), lambda store: store.read(lambda tx: tx.api_keys.list()))
    if arguments.json:
        print_json(
            [
                {
                    "id": str(key.id),
                    "name": key.name,
                    "scopes": sorted(key.scopes),
                    "created_at": key.created_at,
                    "last_used_at": key.last_used_at,
                    "revoked_at": key.revoked_at,
                }
                for key in keys
            ]
        )
        return 0
    for key in keys:
        state = "已作废 · revoked" if key.revoked_at else "有效 · valid"
        used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "-"
        print(f"{key.id}  {state}  {','.join(sorted(key.scopes))}  {used}  {key.name}")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    now = SystemClock().now()
    revoked = with_store(
        settings_or_complain(),
        lambda store: store.write(lambda tx: tx.api_keys.revoke(arguments.id, now)),
    )
    print("已作废 · revoked" if revoked else "没有这个有效的密钥 · no such valid key")
    return 0 if revoked else 1


def _encryption(arguments: argparse.Namespace) -> int:
    print(base64.b64encode(secrets.token_bytes(32)).decode())
    return 0
