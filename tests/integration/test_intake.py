"""The intake on the real store: stored once before it is said to be, together with what came beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from bot.metrics import Metrics
from core import intake as intake_module
from core.errors import IdempotencyConflict, StoreUnavailable
from core.intake import BATCH_LIMIT, Intake
from core.messages import (
    Command,
    ConversationKind,
    Deleted,
    Edited,
    IncomingMessage,
    Left,
    Platform,
    PlatformEvent,
)
from core.ports import Accepted, Transaction
from storage.keys import KEY_BYTES, KeyRing
from storage.sql.open import SqlStore, open_store
from storage.wakeups import LocalWakeups
from tests.companion import PATIENCE, ForwardClock, rows, said

T = TypeVar("T")
TOO_LONG = "x" * 600
"""No platform's id is as long: the store refuses it."""


class CountedStore:
    """The real store; how many units were written, and a gate before each."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.writes = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        self.writes += 1
        await self.gate.wait()
        return await self._store.write(unit)

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return await self._store.read(unit)


class Way:
    """The way in, and what it leads to."""

    def __init__(self, store: SqlStore, folder: Path) -> None:
        self.store = CountedStore(store)
        self.wakeups = LocalWakeups()
        self.metrics = Metrics(CollectorRegistry())
        self.intake = Intake(self.store, self.wakeups, ForwardClock(), self.metrics)
        self.folder = folder

    def stored(self) -> int:
        ((count,),) = rows(self.folder, "select count(*) from inbox")
        return int(count)

    async def accept(self, message: IncomingMessage) -> Accepted:
        accepted = await self.intake.accept(message)
        assert accepted is not None
        return accepted

    def all_at_once(self, messages: list[IncomingMessage]) -> asyncio.Future[list[Accepted | BaseException]]:
        return asyncio.gather(*map(self.accept, messages), return_exceptions=True)


@pytest_asyncio.fixture
async def way(tmp_path: Path) -> AsyncIterator[Way]:
    store = await open_store(f"sqlite:///{tmp_path}/xinyu.db", KeyRing(bytes(KEY_BYTES)))
    way = Way(store, tmp_path)
    yield way
    await way.intake.close()
    await store.close()


async def test_it_is_on_the_disk_before_it_is_accepted_and_then_its_conversation_is_woken(way: Way) -> None:
    accepted = await way.accept(said("你好"))
    with closing(sqlite3.connect(way.folder / "xinyu.db")) as beside:
        assert beside.execute("select id, state from inbox").fetchall() == [(accepted.inbox_id, "pending")]
    async with asyncio.timeout(PATIENCE):
        assert await way.wakeups.next() == accepted.conversation_id
    assert not accepted.duplicate


async def test_nobody_is_woken_before_the_commit(way: Way) -> None:
    way.store.gate.clear()
    accepting = asyncio.create_task(way.accept(said("你好")))
    waking = asyncio.create_task(way.wakeups.next())
    done, _ = await asyncio.wait({accepting, waking}, timeout=0.1)
    assert done == set() and way.stored() == 0
    way.store.gate.set()
    assert (await accepting).conversation_id == await waking


async def test_what_comes_together_is_stored_together(way: Way, tmp_path: Path) -> None:
    messages = [said(f"第{number}句", f"chat-{number % 7}") for number in range(5 * BATCH_LIMIT)]
    results = await way.all_at_once(messages)
    assert all(isinstance(result, Accepted) and not result.duplicate for result in results)
    assert way.stored() == len(messages)
    assert way.store.writes <= 6, "one commit for up to sixty-four of them"
    ordered = [result.inbox_id for result in results if isinstance(result, Accepted)]
    assert ordered == sorted(ordered), "in the order in which they came"
    counts = rows(tmp_path, "select count(*) from conversations union all select count(*) from users")
    assert counts == [(7,), (7,)]


async def test_a_second_batch_is_collected_while_the_first_is_written(way: Way) -> None:
    way.store.gate.clear()
    first = asyncio.create_task(way.accept(said("一")))
    while not way.store.writes:
        await asyncio.sleep(0)
    others = way.all_at_once([said("二", f"chat-{number}") for number in range(20)])
    await asyncio.sleep(0)
    way.store.gate.set()
    assert isinstance(await first, Accepted) and len(await others) == 20
    assert way.store.writes == 2


async def test_one_that_cannot_be_stored_takes_no_other_with_it(way: Way) -> None:
    bad = replace(said("坏的"), event_id=TOO_LONG)
    messages = [*(said("好", f"chat-{number}") for number in range(10)), bad, said("好", "last")]
    *fine, failed, last = await way.all_at_once(messages)
    assert isinstance(failed, Exception) and not isinstance(failed, StoreUnavailable)
    assert all(isinstance(result, Accepted) for result in [*fine, last])
    assert way.stored() == 11


async def test_the_same_event_again_is_the_same_message(way: Way) -> None:
    message = said("只说一次", event_id="same")
    first = await way.accept(message)
    again = [await way.accept(message), *await way.all_at_once([message] * 5)]
    assert again == [replace(first, duplicate=True)] * 6
    assert way.stored() == 1
    assert (
        way.metrics.registry.get_sample_value("xinyu_messages_accepted_total", {"platform": "telegram"}) == 1
    )
    async with asyncio.timeout(PATIENCE):
        assert await way.wakeups.next() == first.conversation_id
    waking = asyncio.create_task(way.wakeups.next())
    done, _ = await asyncio.wait({waking}, timeout=0.05)
    assert not done, "a repetition wakes nobody"
    waking.cancel()


async def test_the_same_event_twice_in_one_batch_is_stored_once(way: Way) -> None:
    message = said("只说一次", event_id="same")
    results = await way.all_at_once([message, said("别的"), message, message])
    accepted = [result for result in results if isinstance(result, Accepted)]
    assert len(accepted) == 4 and way.stored() == 2
    assert [result.duplicate for result in accepted].count(False) == 2
    assert len({result.inbox_id for result in accepted}) == 2


async def test_a_known_event_with_another_text_is_refused(way: Way) -> None:
    await way.accept(said("原来的话", event_id="same"))
    with pytest.raises(IdempotencyConflict) as caught:
        await way.accept(said("别的话", event_id="same"))
    assert "话" not in str(caught.value)
    assert way.stored() == 1


async def test_too_many_waiting_are_refused_and_the_others_stored(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "WAITING_LIMIT", 100)
    way.store.gate.clear()
    results = way.all_at_once([said("在吗", f"chat-{number}") for number in range(300)])
    await asyncio.sleep(0)
    way.store.gate.set()
    outcomes = await results
    refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    assert len(refused) >= 200 - BATCH_LIMIT and len(refused) + way.stored() == 300
    assert isinstance(await way.accept(said("现在")), Accepted), "and later ones are taken again"


async def test_a_database_that_is_away_refuses_all_and_stores_nothing(way: Way, tmp_path: Path) -> None:
    await way.accept(said("先来一句"))
    with closing(sqlite3.connect(tmp_path / "xinyu.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        results = await way.all_at_once([said("在吗", f"chat-{number}") for number in range(10)])
        other.execute("rollback")
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert way.store.writes <= 4, "not tried one by one"
    assert way.stored() == 1
    assert isinstance(await way.accept(said("回来了")), Accepted)


async def test_who_gave_up_before_the_store_was_asked_is_not_stored(way: Way) -> None:
    way.store.gate.clear()
    first = asyncio.create_task(way.accept(said("等着")))
    while not way.store.writes:
        await asyncio.sleep(0)
    given_up = asyncio.create_task(way.accept(said("算了")))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    way.store.gate.set()
    await first
    await way.intake.close()
    assert given_up.cancelled() and way.stored() == 1


async def test_closing_waits_for_what_is_on_its_way(way: Way) -> None:
    way.store.gate.clear()
    accepting = way.all_at_once([said("最后一句", f"chat-{number}") for number in range(100)])
    await asyncio.sleep(0)
    closing_ = asyncio.create_task(way.intake.close())
    way.store.gate.set()
    async with asyncio.timeout(PATIENCE):
        await closing_
    assert way.stored() == 100 and len(await accepting) == 100


# --- what becomes of messages and places --------------------------------------------------------


async def wakes(way: Way, event: PlatformEvent) -> int | None:
    """The conversation that an event wakes; None: none."""
    await way.intake.note(event)
    waking = asyncio.create_task(way.wakeups.next())
    done, _ = await asyncio.wait({waking}, timeout=0.05)
    waking.cancel()
    return waking.result() if done else None


async def woken(way: Way, message: IncomingMessage) -> Accepted:
    """A message that was accepted, and whose conversation was woken for it."""
    accepted = await way.accept(message)
    async with asyncio.timeout(PATIENCE):
        assert await way.wakeups.next() == accepted.conversation_id
    return accepted


async def test_a_deletion_wakes_whom_it_concerns_and_only_while_it_waits(way: Way) -> None:
    accepted = await woken(way, replace(said("说错了"), message_id="5"))
    gone = Deleted(Platform.TELEGRAM, "chat", ("5",))
    assert await wakes(way, replace(gone, chat_id="another")) is None
    assert await wakes(way, gone) == accepted.conversation_id
    assert await wakes(way, gone) is None


async def test_an_edit_of_something_unknown_is_something_new_unless_it_is_old(way: Way) -> None:
    late = Edited(replace(said("加了一个提及"), message_id="5"), late=True)
    assert await wakes(way, late) is None
    assert way.stored() == 0
    assert await wakes(way, replace(late, late=False)) is not None
    assert way.stored() == 1


async def test_danger_edited_into_what_is_old_and_unknown_is_heard(way: Way) -> None:
    late = Edited(replace(said("我不想活了"), message_id="5"), late=True)
    assert await wakes(way, late) is not None
    assert way.stored() == 1


async def test_who_is_put_out_of_a_group_forgets_it_and_wakes_nobody(way: Way, tmp_path: Path) -> None:
    await woken(way, in_group("大家好", addressed=True))
    assert await wakes(way, Left(Platform.TELEGRAM, "group")) is None
    assert rows(tmp_path, "select gone_at is null, settings from conversations") == [(0, "{}")]


# --- what nobody need ask the database about ----------------------------------------------------


def in_group(text: str, chat: str = "group", **more: Any) -> IncomingMessage:
    return replace(said(text, chat), **{"kind": ConversationKind.GROUP, "addressed": False, **more})


def overhears(way: Way, chat: str = "group", platform: Platform = Platform.TELEGRAM) -> bool:
    return way.intake.overhears(platform, chat)


async def test_a_group_that_is_not_listened_to_is_known_for_a_while(way: Way) -> None:
    assert overhears(way), "nobody looked yet"
    assert await way.intake.accept(in_group("晚饭吃什么")) is None
    assert not overhears(way)
    assert overhears(way, "another") and overhears(way, platform=Platform.DISCORD)


async def test_and_looked_at_again_after_that_while(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "UNHEARD_SECONDS", -1.0)
    assert await way.intake.accept(in_group("晚饭吃什么")) is None
    assert overhears(way)


async def test_what_was_meant_for_the_bot_says_nothing_of_the_rest(way: Way) -> None:
    await way.accept(in_group("在吗", addressed=True))
    assert overhears(way)
    with closing(sqlite3.connect(way.folder / "xinyu.db")) as beside, beside:
        beside.execute("update conversations set settings = ?", ('{"answers": "off"}',))
    assert await way.intake.accept(in_group("在吗", addressed=True)) is None, "they had their share, say"
    assert await way.intake.accept(in_group("一张图", bundle="album")) is None, "its caption may call the bot"
    assert overhears(way)


async def test_a_command_may_change_what_is_heard_anywhere_in_the_group(way: Way) -> None:
    for chat in ("group", "group/2"):
        assert await way.intake.accept(in_group("晚饭吃什么", chat)) is None
    assert not overhears(way) and not overhears(way, "group/2")
    await way.accept(in_group("", command=Command("settings")))
    assert overhears(way) and overhears(way, "group/2")


async def test_a_command_in_private_changes_nothing_of_it(way: Way) -> None:
    assert await way.intake.accept(in_group("晚饭吃什么")) is None
    await way.accept(replace(said("/settings"), command=Command("settings")))
    assert not overhears(way)


async def test_no_more_places_are_remembered_than_there_is_room_for(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "UNHEARD_LIMIT", 3)
    for number in range(4):
        assert await way.intake.accept(in_group("晚饭吃什么", f"group-{number}")) is None
    assert [overhears(way, f"group-{number}") for number in range(4)] == [True, True, True, False]
