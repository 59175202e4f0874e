"""The worker on the real store, against the strict model server: bursts, order, fairness, failures, danger."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.burst import BurstRule
from core.language import Language
from core.live import Piece
from core.messages import (
    Command,
    ConversationKind,
    Deleted,
    IncomingMessage,
    Left,
    Platform,
    Segment,
    Source,
)
from core.model.client import ModelLimits
from core.model.fallback import RetryRule
from core.model.prices import Price
from core.persona.card import load_personas
from core.phrases import ListenerMood, load_phrases
from core.ports import Outcome
from core.safety.protocol import load_protocols
from core.safety.rules import Risk
from core.settings import ConversationSettings, GroupAnswers
from core.turn import CLAIMS_BEFORE_LISTENER
from core.worker import FAILED_TURN_BACKOFF, LATE_ANSWER_PAUSE, UNCLAIMABLE_PAUSE
from tests.companion import PATIENCE, Companion, Phone, companion, fallback_model, said, until
from tests.fakes.model_server import MODEL, Answer, CutHalfWay, FakeModelServer, Silent, Status

PATIENT = BurstRule(30.0, 60.0)
"""Nobody waits this long in a test: what is answered under it did not wait for the burst."""
LISTENER = load_phrases()[Language.ZH].listener
DANGER = "我不想活了"


@pytest_asyncio.fixture
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


def prompts(model: FakeModelServer) -> list[str]:
    """What the person is heard to say at the end of each prompt."""
    return [request["messages"][-1]["content"] for request in model.requests]


async def later(core: Companion, holds: Callable[[], bool]) -> None:
    """Time goes by, one pause between late answers after the other, until something is true."""

    def forward() -> bool:
        core.clock.forward(seconds=LATE_ANSWER_PAUSE.total_seconds() + 1)
        return holds()

    await until(forward)


def is_listener(text: str, mood: ListenerMood) -> bool:
    return text in LISTENER[mood]


# --- bursts ---------------------------------------------------------------------------------------


async def test_what_is_typed_in_one_go_is_answered_as_one(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model), burst=BurstRule(0.4, 5.0)) as core:
        for text in ("今天", "真的", "好累"):
            await core.say(text)
        typed = time.monotonic()
        assert await core.phone.wait_for(1) == ["回声:今天|真的|好累"]
        assert core.phone.received[0].at - typed >= 0.35, "it waits until the typing stops"
        assert prompts(model) == ["今天\n真的\n好累"]
        await core.say("晚安")
        assert (await core.phone.wait_for(2))[1] == "回声:晚安"


async def test_who_never_stops_typing_is_answered_in_the_end(tmp_path: Path, model: FakeModelServer) -> None:
    # A pause of these fingers, however slow the machine, is never as long as the quiet: only the longest wait ends it.
    async with companion(tmp_path, fallback_model(model), burst=BurstRule(PATIENCE, 1.0)) as core:
        began, count = time.monotonic(), 0
        while not core.phone.received:
            assert time.monotonic() - began < PATIENCE
            count += 1
            await core.say(str(count))
            await asyncio.sleep(0.1)  # the person's fingers
        assert core.phone.received[0].at - began >= 0.95
        assert core.phone.texts()[0].startswith("回声:1|2|3|")


async def test_a_conversation_has_its_own_patience(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model), burst=PATIENT, running=False) as core:
        hasty = await core.say("快", "hasty")
        slow = await core.say("慢", "slow")
        await core.store.write(
            lambda tx: tx.conversations.update_settings(hasty, ConversationSettings(burst_quiet_seconds=0.0))
        )
        await core.store.write(
            lambda tx: tx.conversations.update_settings(slow, ConversationSettings(0.2, 0.5))
        )
        await core.say("等着", "default")
        core.start()
        await core.phone.wait_for(2)
        assert core.phone.texts() == ["回声:快", "回声:慢"] or core.phone.texts() == ["回声:慢", "回声:快"]
        assert core.phone.texts("default") == []


async def test_a_message_that_stands_alone_is_answered_at_once_and_by_itself(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), burst=PATIENT) as core:
        for text in ("一", "二", "三"):
            outcome = await core.dialogue.ask(said(text, alone=True), PATIENCE)
            assert outcome.reply.text == f"回声:{text}"
        assert prompts(model) == ["一", "二", "三"]


async def test_what_is_said_while_the_model_thinks_becomes_part_of_the_turn(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.gate.clear()
        await core.say("今天好累")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
            await core.say("不对，是很难过")
            await model.wait_for_requests(2)
        model.gate.set()
        assert await core.phone.wait_for(1) == ["回声:今天好累|不对，是很难过"]
        await core.say("谢谢")
        assert await core.phone.wait_for(2) == ["回声:今天好累|不对，是很难过", "回声:谢谢"]
        assert core.rows("select count(distinct turn_id) from chat_messages") == [(2,)]


async def test_an_answer_that_somebody_has_begun_to_read_is_finished_first(
    tmp_path: Path, model: FakeModelServer
) -> None:
    real = fallback_model(model, rule=RetryRule(tries=2), limits=ModelLimits(stall_seconds=1.0))
    async with companion(tmp_path, real) as core:
        model.behave(Silent(after="我在"))
        first = said("一", platform=Platform.WEB)
        seen: list[Piece | Outcome] = []
        second: asyncio.Task[Outcome] | None = None
        async with asyncio.timeout(PATIENCE):
            async for piece in core.dialogue.follow(first):
                seen.append(piece)
                if second is None and isinstance(piece, Piece) and piece.text:
                    second = asyncio.create_task(
                        core.dialogue.ask(said("二", platform=Platform.WEB), PATIENCE)
                    )
        assert second is not None
        final = seen[-1]
        assert isinstance(final, Outcome) and final.reply.text == "回声:一"
        assert (await second).reply.text == "回声:二"
        turns = {piece.turn_id for piece in seen if isinstance(piece, Piece)}
        assert len(turns) == 2, "the broken stream's words were void"


# --- order, fairness, bounds ----------------------------------------------------------------------


async def test_each_conversation_is_answered_in_its_order(tmp_path: Path, model: FakeModelServer) -> None:
    chats = [f"chat-{number}" for number in range(8)]
    async with companion(tmp_path, fallback_model(model)) as core:
        for number in range(6):
            await asyncio.gather(*(core.say(f"{chat}第{number}句", chat, alone=True) for chat in chats))
        await core.phone.wait_for(48)
        for chat in chats:
            assert core.phone.texts(chat) == [f"回声:{chat}第{number}句" for number in range(6)]


async def test_conversations_never_wait_for_each_other(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.behave(Silent())
        await core.say("卡住的", "stuck")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        for number in range(5):
            await core.say(f"第{number}句", "lively")
            await core.phone.wait_for(number + 1, "lively")
        assert core.phone.texts("stuck") == [] and model.answering == 1


async def test_who_floods_does_not_starve_the_others(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model), turns_at_once=1, running=False) as core:
        for number in range(30):
            await core.say(f"刷屏{number}", "flood", alone=True)
        for chat in ("quiet-1", "quiet-2"):
            await core.say("在吗", chat)
        core.start()
        await core.phone.wait_for(1, "quiet-1")
        await core.phone.wait_for(1, "quiet-2")
        before = len(core.phone.texts("flood"))
        assert before <= 4, "everybody has had a turn before the second round is over"
        assert len(await core.phone.wait_for(30, "flood")) == 30


@pytest.mark.parametrize(("turns", "calls", "limit"), [(3, 100, 3), (100, 2, 2)])
async def test_no_more_turns_and_calls_at_once_than_allowed(
    tmp_path: Path, model: FakeModelServer, turns: int, calls: int, limit: int
) -> None:
    real = fallback_model(model, rule=RetryRule(tries=1, calls_at_once=calls))
    model.latency = 0.02
    async with companion(tmp_path, real, turns_at_once=turns) as core:
        await asyncio.gather(*(core.say("在吗", f"chat-{number}") for number in range(12)))
        await core.phone.wait_for(12)
        assert model.most_answering == limit


async def test_two_processes_answer_each_message_once(tmp_path: Path, model: FakeModelServer) -> None:
    async with (
        companion(tmp_path, fallback_model(model), owner="one") as one,
        companion(tmp_path, fallback_model(model), owner="other") as other,
    ):
        for number in range(10):
            await asyncio.gather(
                one.say(f"甲{number}", f"chat-{number}", alone=True),
                other.say(f"乙{number}", f"chat-{number}", alone=True),
            )
        await until(lambda: one.rows("select count(*) from deliveries where state = 'sent'") == [(20,)])
        received = one.phone.texts() + other.phone.texts()
        assert sorted(received) == sorted(f"回声:{who}{number}" for who in "甲乙" for number in range(10))


# --- what nobody woke us for ----------------------------------------------------------------------


async def test_the_sweeper_finds_what_nobody_woke_it_for(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        message = said("没人叫醒")
        await core.store.write(lambda tx: tx.inbox.add([message], core.clock.now()))
        assert await core.phone.wait_for(1) == ["回声:没人叫醒"]


async def test_a_dead_processs_lease_is_waited_out_and_taken_over(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), running=False) as core:
        conversation = await core.say("接着说")
        now = core.clock.now()
        taken = await core.store.write(
            lambda tx: tx.conversations.claim(conversation, "the-dead", now, now + timedelta(minutes=5), 10)
        )
        assert taken is not None
        core.start()
        core.worker.look_at(conversation)
        await core.say("别人", "other")
        await core.phone.wait_for(1, "other")
        assert core.phone.texts("chat") == [], "its lease still holds"
        core.clock.forward(minutes=6)
        assert await core.phone.wait_for(1, "chat") == ["回声:接着说"]


async def test_a_lease_at_work_is_kept(tmp_path: Path, model: FakeModelServer) -> None:
    async with (
        companion(tmp_path, fallback_model(model), owner="slow", lease=timedelta(seconds=0.6)) as slow,
        companion(tmp_path, fallback_model(model), owner="idle") as idle,
    ):
        model.gate.clear()
        await slow.say("慢慢想")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        first = slow.rows("select lease_until from conversations")
        await until(lambda: slow.rows("select lease_until from conversations") > first)
        second = slow.rows("select lease_until from conversations")
        await until(lambda: slow.rows("select lease_until from conversations") > second)
        model.gate.set()
        assert await slow.phone.wait_for(1) == ["回声:慢慢想"]
        assert idle.phone.texts() == [] and len(model.requests) == 1


async def test_a_stop_lets_turns_finish_and_leaves_the_rest_for_the_next_start(
    tmp_path: Path, model: FakeModelServer
) -> None:
    phone = Phone()
    async with companion(tmp_path, fallback_model(model), phone=phone) as core:
        model.gate.clear()
        await core.say("答得完", "finishes")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        stopping = asyncio.create_task(core.stop(turns=PATIENCE, deliveries=PATIENCE))
        model.gate.set()
        async with asyncio.timeout(PATIENCE):
            await stopping
        assert phone.texts() == ["回声:答得完"]
    async with companion(tmp_path, fallback_model(model), phone=phone) as core:
        model.behave(Silent())
        await core.say("答不完", "given up")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(2)
            await core.stop(turns=0.05)
        assert (
            core.rows("select lease_owner, lease_until from conversations where lease_owner is not null")
            == []
        )
        assert core.rows("select count(*) from inbox where state = 'pending'") == [(1,)]
    async with companion(tmp_path, fallback_model(model), phone=phone):
        assert await phone.wait_for(2) == ["回声:答得完", "回声:答不完"]


# --- turns that break -----------------------------------------------------------------------------


def breaks_on(answer: str) -> Callable[[str], list[Segment]]:
    def render(text: str) -> list[Segment]:
        if text == answer:
            raise ZeroDivisionError("a fault of the channel's")
        return [Segment(text)]

    return render


async def test_a_turn_that_breaks_is_tried_again_later_and_at_last_declined(
    tmp_path: Path, model: FakeModelServer
) -> None:
    phone = Phone(render=breaks_on("回声:有毒"))
    async with companion(tmp_path, fallback_model(model), phone=phone) as core:
        await core.say("有毒", "poisoned")

        def broken() -> float:
            return core.measured("xinyu_turns_broken_total", reason="failed")

        for attempt in range(1, CLAIMS_BEFORE_LISTENER + 1):
            await until(lambda attempt=attempt: broken() == attempt)  # type: ignore[misc]
            await until(lambda: core.rows("select 1 from conversations where lease_owner is not null") == [])
            (held_back,) = core.rows(
                "select lease_until from conversations where cast(chat_id as text) = 'poisoned'"
            )
            assert held_back > (f"{core.clock.now() + FAILED_TURN_BACKOFF - timedelta(seconds=3):%F %T}",)
            await core.say("健康", f"healthy-{attempt}")
            await phone.wait_for(1, f"healthy-{attempt}")
            assert broken() == attempt, "not before its time"
            core.clock.forward(seconds=FAILED_TURN_BACKOFF.total_seconds())
        (text,) = await phone.wait_for(1, "poisoned")
        assert is_listener(text, ListenerMood.DECLINED)
        assert len(prompts(model)) == 2 * CLAIMS_BEFORE_LISTENER, "the last time the model is not asked"
        assert core.rows("select count(*) from inbox where state != 'done'") == [(0,)]
        await core.say("后来的话", "poisoned")
        assert (await phone.wait_for(2, "poisoned"))[1].endswith("后来的话")


async def test_a_row_that_does_not_open_is_looked_at_now_and_then_and_holds_nobody_up(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), running=False) as core:
        await core.say("坏了的一行", "damaged")
        with closing(sqlite3.connect(tmp_path / "xinyu.db")) as database, database:
            database.execute("update inbox set body = zeroblob(60)")
        core.start()

        def broken() -> float:
            return core.measured("xinyu_turns_broken_total", reason="failed")

        await until(lambda: broken() == 1)
        for number in range(20):  # the sweeper has gone round many times meanwhile
            await core.say("健康", f"healthy-{number}")
            await core.phone.wait_for(1, f"healthy-{number}")
        assert broken() == 1
        core.clock.forward(seconds=UNCLAIMABLE_PAUSE.total_seconds() + 1)
        await until(lambda: broken() == 2)


async def test_a_turn_that_broke_once_is_answered_the_next_time(
    tmp_path: Path, model: FakeModelServer
) -> None:
    breaks = iter([True])

    def render(text: str) -> list[Segment]:
        if next(breaks, False):
            raise ZeroDivisionError
        return [Segment(text)]

    async with companion(tmp_path, fallback_model(model), phone=Phone(render=render)) as core:
        await core.say("再试一次")
        await until(lambda: core.measured("xinyu_turns_broken_total", reason="failed") == 1)
        core.clock.forward(seconds=6)
        assert await core.phone.wait_for(1) == ["回声:再试一次"]
        assert core.rows("select attempts from conversations") == [(0,)]


# --- the model is away ----------------------------------------------------------------------------


async def test_the_listener_answers_and_the_real_answer_follows_once(
    tmp_path: Path, model: FakeModelServer
) -> None:
    await model.stop()
    async with companion(tmp_path, fallback_model(model)) as core:
        await core.say("我今天被辞退了")
        (first,) = await core.phone.wait_for(1)
        assert is_listener(first, ListenerMood.UNAVAILABLE)
        await core.say("你在吗")
        assert is_listener((await core.phone.wait_for(2))[1], ListenerMood.STILL_UNAVAILABLE)
        await model.start()
        await later(core, lambda: len(core.phone.received) == 3)
        late = core.phone.texts()[2]
        assert late.startswith("回声:我今天被辞退了|你在吗|") and late.endswith(
            load_phrases()[Language.ZH].late
        )
        await core.say("谢谢你")
        core.clock.forward(minutes=5)
        assert (await core.phone.wait_for(4))[3:] == ["回声:谢谢你"], "and not once more"
        assert core.rows("select count(*) from inbox where state != 'done'") == [(0,)]


async def test_who_moved_on_is_not_answered_late(tmp_path: Path, model: FakeModelServer) -> None:
    await model.stop()
    async with companion(tmp_path, fallback_model(model), sweep_seconds=3600) as core:
        await core.say("我今天被辞退了")
        await core.phone.wait_for(1)
        await model.start()
        await core.say("算了，聊点别的")
        assert (await core.phone.wait_for(2))[1] == "回声:我今天被辞退了|算了，聊点别的"
        assert core.rows("select count(*) from inbox where state != 'done'") == [(0,)]
        assert (
            await core.store.read(
                lambda tx: tx.inbox.conversations_deferred(
                    "anybody", core.clock.now() - timedelta(days=1), core.clock.now(), 10
                )
            )
            == []
        )


async def test_nobody_is_answered_half_a_day_late(tmp_path: Path, model: FakeModelServer) -> None:
    await model.stop()
    async with companion(tmp_path, fallback_model(model)) as core:
        await core.say("昨天的话", "old")
        await core.phone.wait_for(1, "old")
        core.clock.forward(hours=13)
        await core.say("今天的话", "new")
        await core.phone.wait_for(1, "new")
        await model.start()
        await later(core, lambda: len(core.phone.texts("new")) == 2)
        assert len(core.phone.texts("old")) == 1


async def test_a_late_answer_that_hangs_or_fails_holds_back_nothing_new(
    tmp_path: Path, model: FakeModelServer
) -> None:
    await model.stop()
    async with companion(tmp_path, fallback_model(model)) as core:
        await core.say("早上的话")
        await core.phone.wait_for(1)
        model.behave(Silent())
        await model.start()
        await later(core, lambda: len(model.requests) == 1)
        await core.say("现在的话")
        assert (await core.phone.wait_for(2))[1] == "回声:早上的话|现在的话"


async def test_a_failed_late_answer_is_not_tried_again_before_a_pause(
    tmp_path: Path, model: FakeModelServer
) -> None:
    model.default = Status(500)
    async with companion(tmp_path, fallback_model(model)) as core:
        await core.say("早上的话")
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(2)  # at once, and late for the first time
        for number in range(8):
            await core.say("在吗", f"chat-{number}")
            await core.phone.wait_for(1, f"chat-{number}")
        assert prompts(model).count("在吗") == 8 and len(model.requests) == 10
        await later(core, lambda: len(model.requests) > 10)


async def test_an_answer_that_failed_is_nowhere_in_the_history(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.behave(CutHalfWay("半句话说到"), Status(500), Answer("<think>盘算</think>我在听。"))
        for number, text in enumerate(("一", "二", "三", "四"), start=1):
            await core.dialogue.ask(said(text, platform=Platform.WEB, alone=True), PATIENCE)
            assert len(model.requests) >= number
        written = await core.store.read(lambda tx: tx.conversations.history(Platform.WEB, "chat", None, 50))
        assert [message.source for message in written if message.source is not Source.PERSON] == [
            Source.LISTENER,
            Source.LISTENER,
            Source.MODEL,
            Source.MODEL,
        ]
        prompt = model.requests[-1]["messages"]
        heard = "\n".join(message["content"] for message in prompt[1:])
        assert heard == "一\n二\n三\n我在听。\n四", "neither half an answer, nor the listener's, nor thoughts"
        assert not any("半句话" in message.text for message in written)


async def test_what_an_answer_took_is_kept(tmp_path: Path, model: FakeModelServer) -> None:
    price = Price("CNY", prompt=Decimal("2"), cached=Decimal("0.5"), completion=Decimal("8"))
    model.latency = 0.05
    async with companion(tmp_path, fallback_model(model, prices={MODEL: price})) as core:
        outcome = await core.dialogue.ask(said("多少钱", platform=Platform.WEB), PATIENCE)
        (usage,) = core.rows(
            "select turn_id, model, prompt_tokens, cached_tokens, completion_tokens, estimated, first_token_ms, "
            "total_ms, cost, currency from model_usage"
        )
        turn_id, name, prompt, cached, completion, estimated, first_ms, total_ms, cost, currency = usage
        sent = sum(len(message["content"]) for message in model.requests[0]["messages"])
        assert (turn_id, name, currency, estimated) == (outcome.turn_id, MODEL, "CNY", 0)
        assert (prompt, cached, completion) == (sent, sent // 2, len("回声:多少钱"))
        assert 50 <= first_ms <= total_ms < 20_000
        expected = ((prompt - cached) * 2 + cached * Decimal("0.5") + completion * 8) / Decimal(1_000_000)
        assert Decimal(str(cost)).quantize(Decimal("1e-9")) == expected.quantize(Decimal("1e-9"))
        model.behave(Answer("没有用量", usage=False))
        await core.dialogue.ask(said("估计一下", platform=Platform.WEB), PATIENCE)
        assert core.rows("select estimated, completion_tokens from model_usage order by id desc limit 1") == [
            (1, 4)
        ]
        await model.stop()
        await core.dialogue.ask(said("没有模型", platform=Platform.WEB), PATIENCE)
        assert core.rows("select count(*) from model_usage") == [(2,)], "the listener costs nothing"


async def test_the_person_sees_that_an_answer_is_being_written(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.gate.clear()
        await core.say("在吗")
        await core.phone.wait_until(lambda: core.phone.typing == ["chat"])
        assert core.phone.received == []
        model.gate.set()
        await core.phone.wait_for(1)


# --- danger ---------------------------------------------------------------------------------------


async def test_danger_is_answered_at_once_without_burst_and_model(
    tmp_path: Path, model: FakeModelServer
) -> None:
    await model.stop()
    protocols = load_protocols()
    async with companion(tmp_path, fallback_model(model), burst=PATIENT) as core:
        await core.say(DANGER, "zh")
        await core.say("I want to die", "en")
        assert await core.phone.wait_for(1, "zh") == [protocols.text(Risk.HIGH, Language.ZH)]
        assert await core.phone.wait_for(1, "en") == [protocols.text(Risk.HIGH, Language.EN)]
        assert core.rows("select count(*) from inbox where state = 'done'") == [(2,)], "no answer is owed"


async def test_danger_in_the_middle_of_a_burst_ends_the_waiting(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), burst=PATIENT) as core:
        await core.say("今天好累")
        await core.say(DANGER)
        assert await core.phone.wait_for(1) == [load_protocols().text(Risk.HIGH, Language.ZH)]
        assert len(model.requests) == 0


async def test_danger_does_not_wait_for_an_answer_that_is_being_written(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.behave(Silent("我在"))
        await core.say("今天好累", alone=True)
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        await core.say(DANGER, alone=True)
        assert await core.phone.wait_for(1) == [load_protocols().text(Risk.HIGH, Language.ZH)]


async def test_danger_split_over_two_messages_is_seen(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model), burst=PATIENT) as core:
        await core.say("我真的不想")
        await core.say("活了")
        assert await core.phone.wait_for(1) == [load_protocols().text(Risk.HIGH, Language.ZH)]


async def test_all_slots_taken_danger_is_still_answered_with_the_next(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), turns_at_once=1) as core:
        model.latency = 0.1
        for number in range(5):
            await core.say("在吗", f"chat-{number}")
        await core.say(DANGER, "danger")
        (text,) = await core.phone.wait_for(1, "danger")
        assert text == load_protocols().text(Risk.HIGH, Language.ZH)


# --- nobody is answered into the void -------------------------------------------------------


async def test_a_message_of_a_platform_that_is_switched_off_waits_until_it_is_on(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), owner="without", channel=False) as core:
        conversation = await core.say("在吗")  # of Telegram
        core.worker.look_at(conversation)
        outcome = await core.dialogue.ask(said("网页上的", platform=Platform.WEB, alone=True), PATIENCE)
        assert outcome.reply.text == "回声:网页上的"
        assert core.rows("select count(*) from inbox where state = 'pending'") == [(1,)]
    async with companion(tmp_path, fallback_model(model), owner="with") as core:
        assert await core.phone.wait_for(1) == ["回声:在吗"]


async def test_what_comes_during_an_answer_that_stands_alone_needs_no_sweep(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), sweep_seconds=600) as core:
        model.gate.clear()
        first = asyncio.create_task(core.dialogue.ask(said("一", alone=True), PATIENCE))
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        second = asyncio.create_task(core.dialogue.ask(said("二", alone=True), PATIENCE))
        await until(lambda: core.rows("select count(*) from inbox") == [(2,)])
        model.gate.set()
        assert [(await each).reply.text for each in (first, second)] == ["回声:一", "回声:二"]


async def test_what_another_process_stored_is_part_of_the_burst(
    tmp_path: Path, model: FakeModelServer
) -> None:
    """The wake-up went to the other process: the turn looks again itself before it asks the model."""
    async with companion(tmp_path, fallback_model(model), burst=BurstRule(0.5, 5), sweep_seconds=600) as core:
        await core.say("一")
        await core.store.write(lambda tx: tx.inbox.add([said("二")], core.clock.now()))
        assert await core.phone.wait_for(1) == ["回声:一|二"]


# --- what is taken back, and places --------------------------------------------------------------


async def test_what_is_deleted_while_the_model_thinks_is_not_answered(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        model.gate.clear()
        await core.intake.accept(replace(said("说错了"), message_id="5"))
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(1)
        await core.intake.note(Deleted(Platform.TELEGRAM, "chat", ("5",)))
        model.gate.set()
        await until(lambda: core.measured("xinyu_turns_broken_total", reason="lease_lost") == 1)
        await core.say("你好")
        assert await core.phone.wait_for(1) == ["回声:你好"]
        assert all("说错了" not in str(request["messages"]) for request in list(model.requests)[1:])


async def test_of_what_was_said_together_only_what_was_not_deleted_is_answered(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model), burst=BurstRule(0.3, 5.0)) as core:
        await core.intake.accept(replace(said("说错了"), message_id="5"))
        await core.say("你好")
        await core.intake.note(Deleted(Platform.TELEGRAM, "chat", ("5",)))
        assert await core.phone.wait_for(1) == ["回声:你好"]
        history = await core.store.read(
            lambda tx: tx.conversations.history(Platform.TELEGRAM, "chat", None, 9)
        )
        assert [one.text for one in history] == ["你好", "回声:你好"]


def in_group(text: str, chat: str = "1/2", **more: Any) -> IncomingMessage:
    return replace(said(text, chat), kind=ConversationKind.GROUP, **more)


@pytest.mark.parametrize("name", ["missed", "joined", "listening"])
@pytest.mark.parametrize("language", Language)
async def test_what_nobody_typed_is_said_in_the_groups_language(
    tmp_path: Path, model: FakeModelServer, name: str, language: Language
) -> None:
    texts = load_phrases()[language].commands
    text = texts["settings"]["always"] if name == "listening" else texts[name]["text"]
    async with companion(tmp_path, fallback_model(model)) as core:
        server = await core.intake.accept(in_group("你好", "1"))
        assert server is not None
        await core.phone.wait_for(1)
        chosen = ConversationSettings(language=language)
        await core.store.write(lambda tx: tx.conversations.update_settings(server.conversation_id, chosen))
        await core.intake.accept(in_group("", command=Command(name)))
        assert await core.phone.wait_for(1, "1/2") == [text.strip().format(settings="/settings")]
        await core.say("再来", "another")
        await core.phone.wait_for(1, "another")
        assert len(model.requests) == 2, "no model was asked"


async def test_who_joins_again_begins_as_they_say_of_themselves(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        accepted = await core.intake.accept(in_group("你好", "1"))
        assert accepted is not None
        await core.phone.wait_for(1)
        always, now = ConversationSettings(answers=GroupAnswers.ALWAYS), core.clock.now()
        await core.store.write(lambda tx: tx.conversations.update_settings(accepted.conversation_id, always))
        await core.store.write(lambda tx: tx.conversations.pause(accepted.conversation_id, now))
        await core.intake.note(Left(Platform.TELEGRAM, "1"))
        await core.intake.accept(in_group("", "1", command=Command("joined")))
        await core.phone.wait_for(2)
        assert await core.intake.accept(in_group("晚饭吃什么", "1", addressed=False)) is None
        assert await core.intake.accept(in_group("在吗", "1")) is not None
        assert (await core.phone.wait_for(3))[2] == "回声:在吗"


async def test_a_place_is_talked_with_by_its_persona_in_its_language(
    tmp_path: Path, model: FakeModelServer
) -> None:
    night = load_personas().of("night")
    async with companion(tmp_path, fallback_model(model)) as core:
        server = await core.intake.accept(in_group("hello there", "1"))
        assert server is not None
        await core.phone.wait_for(1)
        chosen = ConversationSettings(persona="night", language=Language.EN)
        await core.store.write(lambda tx: tx.conversations.update_settings(server.conversation_id, chosen))
        await core.intake.accept(in_group("你好", "1/2/3"))
        await core.phone.wait_for(2)
        await core.say("你好", "private")
        await core.phone.wait_for(3)
        told = [str(request["messages"]) for request in model.requests]
        assert [night.names[Language.EN] in one for one in told] == [False, True, False]


async def test_a_persona_whose_card_is_gone_is_stood_in_for(tmp_path: Path, model: FakeModelServer) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        here = await core.say("一")
        await core.phone.wait_for(1)
        gone = ConversationSettings(persona="nobody")
        await core.store.write(lambda tx: tx.conversations.update_settings(here, gone))
        await core.say("二")
        assert (await core.phone.wait_for(2))[1] == "回声:二"
        first, second = [request["messages"][0] for request in model.requests]
        assert first == second
