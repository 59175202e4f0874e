"""The outbox on the real store: order, pace, retries, dead letters, and a platform or a store that is away."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest_asyncio

from core.errors import DeliveryFailed, RecipientGone
from core.messages import Delivery, DeliveryState, Segment
from core.model.fallback import FallbackModel
from core.outbox import BROKEN_PAUSE, OutboxOptions, Pace
from core.ports import DeliveryRecord
from tests.companion import PATIENCE, Companion, Phone, companion, fallback_model, until
from tests.fakes.model_server import FakeModelServer

QUICK = OutboxOptions(owner="", sweep_seconds=0.05, first_backoff=timedelta(milliseconds=20))
SLOW = replace(QUICK, first_backoff=timedelta(minutes=1), longest_backoff=timedelta(hours=1))


@pytest_asyncio.fixture
async def model() -> AsyncIterator[FallbackModel]:
    async with FakeModelServer() as server:
        yield fallback_model(server)


def fails(
    *, times: int = 1_000_000, error: Exception, when: str = ""
) -> Callable[[Delivery], Exception | None]:
    """The platform refuses the first so many deliveries that hold a word."""
    left = [times]

    def trouble(delivery: Delivery) -> Exception | None:
        if when not in delivery.segment.text or left[0] == 0:
            return None
        left[0] -= 1
        return error

    return trouble


async def listed(core: Companion, state: DeliveryState) -> list[DeliveryRecord]:
    return await core.store.read(lambda tx: tx.deliveries.list(state, 100))


async def counted(core: Companion, state: DeliveryState, count: int) -> list[DeliveryRecord]:
    """The deliveries in a state, as soon as there are so many."""
    await until(lambda: core.rows("select count(*) from deliveries where state = ?", state) == [(count,)])
    return await listed(core, state)


# --- order and pace -------------------------------------------------------------------------------


async def test_pieces_and_answers_arrive_in_order_and_once(tmp_path: Path, model: FallbackModel) -> None:
    phone = Phone(render=lambda text: [Segment(text[start : start + 3]) for start in range(0, len(text), 3)])
    phone.trouble = fails(times=5, error=DeliveryFailed("unreachable"))
    async with companion(tmp_path, model, phone=phone, options=QUICK) as core:
        for number in range(4):
            await core.say(f"第{number}句话说完了", alone=True)
        await counted(core, DeliveryState.SENT, 4 * 4)
        assert "".join(phone.texts()) == "".join(f"回声:第{number}句话说完了" for number in range(4))
        ids = [got.delivery.id for got in phone.received]
        assert ids == sorted(set(ids))
        assert core.rows("select count(*) from deliveries where platform_message_id is null") == [(0,)]


async def test_a_chat_is_sent_to_at_its_own_pace_and_others_do_not_wait(
    tmp_path: Path, model: FallbackModel
) -> None:
    async with companion(tmp_path, model, chat_pace=Pace(per_second=5, at_once=1)) as core:
        for number in range(4):
            await core.say(str(number), "busy", alone=True)
        await core.say("在吗", "other")
        await core.phone.wait_for(4, "busy")
        at = [got.at for got in core.phone.received if got.delivery.chat_id == "busy"]
        assert all(later - earlier > 0.15 for earlier, later in pairwise(at))
        assert [got.delivery.chat_id for got in core.phone.received].index("other") <= 2


async def test_a_platform_is_sent_to_at_its_pace_over_all_chats(tmp_path: Path, model: FallbackModel) -> None:
    async with companion(tmp_path, model, pace=Pace(per_second=10, at_once=2)) as core:
        await core.say("先来一句", "first")  # importing the model's SDK takes a second
        await core.phone.wait_for(1)
        began = time.monotonic()
        await asyncio.gather(*(core.say("在吗", f"chat-{number}") for number in range(16)))
        await core.phone.wait_for(17)
        assert core.phone.received[-1].at - began >= 1.3, "two at once, then ten a second"


async def test_no_more_at_once_than_allowed(tmp_path: Path, model: FallbackModel) -> None:
    async with companion(tmp_path, model, options=replace(QUICK, at_once=3)) as core:
        core.phone.gate.clear()
        await asyncio.gather(*(core.say("在吗", f"chat-{number}") for number in range(9)))
        await until(lambda: core.rows("select count(*) from deliveries") == [(9,)])
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 3)
        core.phone.gate.set()
        await core.phone.wait_for(9)
        assert core.phone.most_at_once == 3


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_after_a_growing_jittered_wait(
    tmp_path: Path, model: FallbackModel
) -> None:
    phone = Phone(trouble=fails(error=DeliveryFailed("unreachable")))
    options = replace(SLOW, first_backoff=timedelta(seconds=100), longest_backoff=timedelta(seconds=300))
    async with companion(tmp_path, model, phone=phone, options=options) as core:
        waits: dict[int, list[float]] = {1: [], 2: [], 3: []}
        for chat in range(6):
            await core.say("在吗", f"chat-{chat}")
        for attempt, doubled in ((1, 200.0), (2, 300.0), (3, 300.0)):
            await until(
                lambda attempt=attempt: (
                    {  # type: ignore[misc]
                        count for (count,) in core.rows("select attempts from deliveries")
                    }
                    == {attempt}
                    and core.rows("select count(*) from deliveries") == [(6,)]
                )
            )
            now = core.clock.now()
            for record in await listed(core, DeliveryState.PENDING):
                assert record.reason == "unreachable"
                wait = (record.next_attempt_at - now).total_seconds()
                assert doubled * 0.5 - 15 < wait <= doubled
                waits[attempt].append(wait)
            core.clock.forward(seconds=301)
        assert all(len({round(wait, 1) for wait in some}) > 1 for some in waits.values()), "not all together"


async def test_the_platforms_own_wait_is_kept(tmp_path: Path, model: FallbackModel) -> None:
    limited = DeliveryFailed("rate_limited", retry_after=timedelta(seconds=40))
    phone = Phone(trouble=fails(times=1, error=limited))
    async with companion(tmp_path, model, phone=phone, options=QUICK) as core:
        await core.say("在吗")
        await phone.wait_until(lambda: len(phone.attempts) == 1)
        await until(lambda: core.rows("select attempts from deliveries") == [(1,)])
        (record,) = await listed(core, DeliveryState.PENDING)
        assert 35 < (record.next_attempt_at - core.clock.now()).total_seconds() <= 40
        core.clock.forward(seconds=30)
        await core.say("还在吗", "other")
        await phone.wait_for(1, "other")
        assert phone.texts("chat") == []
        core.clock.forward(seconds=15)
        assert await phone.wait_for(1, "chat") == ["回声:在吗"]


async def test_after_the_last_attempt_it_is_a_dead_letter_and_the_next_one_follows(
    tmp_path: Path, model: FallbackModel
) -> None:
    phone = Phone(trouble=fails(error=DeliveryFailed("unreachable"), when="送不到"))
    async with companion(tmp_path, model, phone=phone, options=replace(QUICK, attempts=3)) as core:
        await core.say("送不到", alone=True)
        await core.say("送得到", alone=True)
        assert await phone.wait_for(1) == ["回声:送得到"]
        (dead,) = await counted(core, DeliveryState.DEAD, 1)
        assert (dead.attempts, dead.reason) == (3, "unreachable")
        assert [delivery.segment.text for delivery in phone.attempts] == ["回声:送不到"] * 3 + ["回声:送得到"]
        phone.trouble = lambda _: None
        assert await core.store.write(lambda tx: tx.deliveries.replay([dead.id], core.clock.now())) == 1
        assert (await phone.wait_for(2))[1] == "回声:送不到"


async def test_a_permanent_failure_is_not_tried_again(tmp_path: Path, model: FallbackModel) -> None:
    phone = Phone(trouble=fails(error=DeliveryFailed("refused", permanent=True), when="不收"))
    async with companion(tmp_path, model, phone=phone, options=QUICK) as core:
        await core.say("不收", alone=True)
        await core.say("收", alone=True)
        assert await phone.wait_for(1) == ["回声:收"]
        (dead,) = await counted(core, DeliveryState.DEAD, 1)
        assert (dead.attempts, dead.reason) == (1, "refused") and len(phone.attempts) == 2


async def test_who_is_gone_gets_nothing_more_and_who_comes_back_is_answered(
    tmp_path: Path, model: FallbackModel
) -> None:
    phone = Phone(render=lambda text: [Segment(piece) for piece in (text, "下文一", "下文二")])
    phone.trouble = fails(error=RecipientGone("forbidden"))
    async with companion(tmp_path, model, phone=phone, options=QUICK) as core:
        await core.say("在吗")
        dead = await counted(core, DeliveryState.DEAD, 3)
        assert {record.reason for record in dead} == {"recipient_gone"} and len(phone.attempts) == 1
        phone.trouble = lambda _: None
        await core.say("我回来了")
        assert await phone.wait_for(3) == ["回声:我回来了", "下文一", "下文二"]
        assert core.measured("xinyu_deliveries_total", platform="telegram", outcome="gone") == 1


async def test_a_sender_that_is_broken_neither_spins_nor_stops_the_others(
    tmp_path: Path, model: FallbackModel
) -> None:
    phone = Phone(trouble=fails(error=ZeroDivisionError("a fault of ours"), when="坏"))
    async with companion(tmp_path, model, phone=phone, options=SLOW) as core:
        await core.say("坏", "broken")
        await phone.wait_until(lambda: len(phone.attempts) == 1)
        for number in range(20):
            await core.say("好", f"fine-{number}")
        await phone.wait_for(20)
        await counted(core, DeliveryState.SENT, 20)
        assert len(phone.attempts) == 21
        (record,) = await listed(core, DeliveryState.PENDING)
        assert (record.attempts, record.reason) == (1, "internal_error")
        phone.trouble = lambda _: None
        core.clock.forward(minutes=3)
        assert await phone.wait_for(1, "broken") == ["回声:坏"]


async def test_a_platform_that_never_answers_counts_as_a_failure(
    tmp_path: Path, model: FallbackModel
) -> None:
    async with companion(tmp_path, model, options=replace(QUICK, send_seconds=0.1)) as core:
        core.phone.gate.clear()
        await core.say("在吗")
        await core.phone.wait_until(lambda: len(core.phone.attempts) >= 3)
        core.phone.gate.set()
        assert await core.phone.wait_for(1) == ["回声:在吗"]


# --- restarts and a store that is away ------------------------------------------------------------


async def test_a_stop_waits_only_so_long_and_leaves_the_rest(tmp_path: Path, model: FallbackModel) -> None:
    async with companion(tmp_path, model) as core:
        core.phone.gate.clear()
        conversation = await core.say("一", alone=True)
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 1)
        await core.say("二", alone=True)
        await until(lambda: core.rows("select count(*) from deliveries") == [(2,)])
        began = time.monotonic()
        await core.stop(deliveries=0.2)
        assert 0.15 < time.monotonic() - began < 5.0
        assert len(await listed(core, DeliveryState.PENDING)) == 2
        core.phone.gate.set()
        core.outbox.look_at(conversation)
        for _ in range(5):
            await core.store.write(lambda tx: None)  # behind what it may have asked the store for
        assert len(core.phone.attempts) == 1, "nothing new is begun"
    async with FakeModelServer() as server, companion(tmp_path, fallback_model(server)) as core:
        assert await core.phone.wait_for(2) == ["回声:一", "回声:二"]


async def test_a_stop_lets_what_is_under_way_finish(tmp_path: Path, model: FallbackModel) -> None:
    async with companion(tmp_path, model) as core:
        core.phone.gate.clear()
        await core.say("一")
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 1)
        stopping = asyncio.create_task(core.stop(deliveries=PATIENCE))
        core.phone.gate.set()
        await stopping
        assert core.phone.texts() == ["回声:一"]
        assert len(await listed(core, DeliveryState.SENT)) == 1


async def test_a_stop_keeps_hold_of_what_is_still_being_sent(tmp_path: Path, model: FallbackModel) -> None:
    """Else a second process would send it too, at every orderly stop of the first."""
    async with companion(tmp_path, model, options=QUICK) as core:
        core.phone.gate.clear()
        await core.say("在路上")
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 1)
        stopping = asyncio.create_task(core.stop(turns=PATIENCE, deliveries=PATIENCE))
        async with companion(
            tmp_path, fallback_model(FakeModelServer()), options=QUICK, owner="second"
        ) as other:
            await other.say("别人", "another")
            await until(lambda: other.rows("select count(*) from deliveries") == [(2,)])
            await other.phone.wait_for(1, "another")
            core.phone.gate.set()
            await stopping
            assert core.phone.texts("chat") == ["回声:在路上"]
            assert other.phone.texts("chat") == []


async def test_what_was_sent_and_cannot_be_recorded_is_not_sent_again(
    tmp_path: Path, model: FallbackModel
) -> None:
    """Whatever the reason: here a trigger refuses, as a full index or a broken page would."""
    async with companion(tmp_path, model, options=QUICK) as core:
        with closing(sqlite3.connect(tmp_path / "xinyu.db")) as database, database:
            database.execute(
                "create trigger refuse before update of state on deliveries when new.state = 'sent'"
                " begin select raise(abort, 'refused'); end"
            )
        await core.say("只发一次")
        await core.phone.wait_for(1)
        for number in range(3):
            core.clock.forward(seconds=BROKEN_PAUSE.total_seconds() + 1)
            await core.say("别的", f"other-{number}")
            await core.phone.wait_for(1, f"other-{number}")
        with closing(sqlite3.connect(tmp_path / "xinyu.db")) as database, database:
            database.execute("drop trigger refuse")

        def all_recorded() -> bool:
            core.clock.forward(seconds=BROKEN_PAUSE.total_seconds() + 1)
            return core.rows("select count(*) from deliveries where state != 'sent'") == [(0,)]

        await until(all_recorded)
        assert core.phone.texts("chat") == ["回声:只发一次"]


async def test_what_another_process_is_sending_is_left_to_it(tmp_path: Path, model: FallbackModel) -> None:
    options = replace(QUICK, lease=timedelta(seconds=0.6))
    async with companion(tmp_path, model, owner="one", options=options) as one:
        one.phone.gate.clear()
        await one.say("一")
        await one.phone.wait_until(lambda: len(one.phone.attempts) == 1)
        async with (
            FakeModelServer() as server,
            companion(tmp_path, fallback_model(server), owner="two") as two,
        ):
            first = one.rows("select lease_until from deliveries")
            await until(lambda: one.rows("select lease_until from deliveries") > first)
            second = one.rows("select lease_until from deliveries")
            await until(lambda: one.rows("select lease_until from deliveries") > second)
            assert two.phone.attempts == []
            one.phone.gate.set()
            await one.phone.wait_for(1)
            await counted(one, DeliveryState.SENT, 1)
            assert two.phone.attempts == []


async def test_a_store_that_is_away_while_sent_is_recorded_doubles_nothing(
    tmp_path: Path, model: FallbackModel
) -> None:
    async with companion(tmp_path, model, options=QUICK) as core:
        core.phone.gate.clear()
        await core.say("一")
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 1)
        with closing(sqlite3.connect(tmp_path / "xinyu.db", isolation_level=None)) as other:
            other.execute("begin immediate")  # somebody holds the database: every write fails
            core.phone.gate.set()
            await core.phone.wait_for(1)
            log = tmp_path / "log" / "application.log"
            await until(lambda: log.exists() and "delivery_not_recorded" in log.read_text())
            other.execute("rollback")
        await counted(core, DeliveryState.SENT, 1)
        await core.say("二")
        assert await core.phone.wait_for(2) == ["回声:一", "回声:二"]
        assert len(core.phone.attempts) == 2


async def test_the_sweeper_finds_what_is_due(tmp_path: Path, model: FallbackModel) -> None:
    async with companion(tmp_path, model, running=False) as core:
        job = asyncio.create_task(core.worker.run())
        core.phone.gate.clear()  # it is never taken
        await core.say("一")
        await core.phone.wait_until(lambda: len(core.phone.attempts) == 1)
        job.cancel()
        await core.stop()
    async with FakeModelServer() as server, companion(tmp_path, fallback_model(server)) as core:
        assert await core.phone.wait_for(1) == ["回声:一"]
