"""`xinyu deliveries`: what could not be delivered, and trying it again. No text is shown."""

from __future__ import annotations

import argparse
import dataclasses

from bot.cli.common import print_json, settings_or_complain, with_store
from bot.clock import SystemClock
from core.messages import DeliveryState
from core.ports import Transaction


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="列出 · list them")
    listing.add_argument(
        "--state", choices=[state.value for state in DeliveryState], default=DeliveryState.DEAD
    )
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--json", action="store_true")
    replay = actions.add_parser("replay", help="重新投递 · deliver dead ones again")
    replay.add_argument("ids", nargs="*", type=_delivery_id, help="编号；不写则用 --all · which ones")
    replay.add_argument("--all", action="store_true", help="全部 · every dead one")
    parser.set_defaults(act=act)


def _delivery_id(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**63:
        raise ValueError
    return number


def act(arguments: argparse.Namespace) -> int:
    return _replay(arguments) if arguments.action == "replay" else _list(arguments)


def _list(arguments: argparse.Namespace) -> int:
    state = DeliveryState(arguments.state)
    records = with_store(
        settings_or_complain(),
        lambda store: store.read(lambda tx: tx.deliveries.list(state, arguments.limit)),
    )
    if arguments.json:
        print_json([{**dataclasses.asdict(record), "id": str(record.id)} for record in records])
        return 0
    for record in records:
        when = record.created_at.isoformat(timespec="seconds")
        print(
            f"{record.id}  {record.platform}  {record.state}  {when}  x{record.attempts}  {record.reason or '-'}"
        )
    if not records:
        print("没有 · none")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    now = SystemClock().now()
    if not arguments.ids and not arguments.all:
        print("给出编号，或 --all · name some, or --all")
        return 2

    def again(tx: Transaction) -> int:
        ids = arguments.ids or [record.id for record in tx.deliveries.list(DeliveryState.DEAD, 10_000)]
        return tx.deliveries.replay(ids, now)

    count = with_store(settings_or_complain(), lambda store: store.write(again))
    print(f"{count} 条将重新投递 · to be delivered again")
    return 0
