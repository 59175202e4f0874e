"""How answers go out: without a sound in quiet hours, not unasked where a person paused, in a persona's style."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from core.errors import ConfigError
from core.messages import Segment
from core.outbox import Channel, Pace
from core.persona.card import DEFAULT_CARD, load_card
from core.reply import FEEDBACK, Manner, spoken
from core.settings import PersonSettings, QuietHours, ReplyStyle
from core.worker import LATE_ANSWER_PAUSE
from tests.companion import Companion, Phone, companion, fallback_model, until
from tests.fakes.model_server import FakeModelServer

FREELY = Pace(per_second=1000, at_once=1000)


@pytest_asyncio.fixture
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as model:
        await model.stop()
        yield model


@pytest.mark.parametrize("quiet", [True, False])
async def test_a_late_answer_comes_without_a_sound_in_quiet_hours(
    tmp_path: Path, model: FakeModelServer, quiet: bool
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        await core.say("睡不着")
        await core.phone.wait_for(1)
        hour = (core.clock.now() + timedelta(hours=9)).hour  # in Tokyo, where nobody puts the clocks forward
        since = hour if quiet else (hour + 3) % 24
        hours = QuietHours((since - 1) % 24, (since + 2) % 24)
        ((user_id,),) = core.rows("SELECT id FROM users")
        settings = PersonSettings(time_zone="Asia/Tokyo", quiet_hours=hours)
        await core.store.write(lambda tx: tx.people.update_settings(user_id, settings))
        await model.start()
        await time_goes_by(core, 2)
        listener, late = core.phone.received
        assert not listener.delivery.segment.silent, "an answer to what was just said is heard"
        assert late.delivery.segment.silent is quiet


async def test_who_paused_gets_no_late_answer_until_they_resume(
    tmp_path: Path, model: FakeModelServer
) -> None:
    async with companion(tmp_path, fallback_model(model)) as core:
        conversation_id = await core.say("睡不着")
        await core.phone.wait_for(1)
        now = core.clock.now()
        await core.store.write(lambda tx: tx.conversations.pause(conversation_id, now))
        await model.start()
        core.clock.forward(seconds=2 * LATE_ANSWER_PAUSE.total_seconds())
        await core.say("别人的话", "another")
        await core.phone.wait_for(1, "another")
        assert len(core.phone.texts("chat")) == 1
        await core.store.write(lambda tx: tx.conversations.pause(conversation_id, None))
        await time_goes_by(core, 2)
        assert core.phone.texts("chat")[1].startswith("回声:睡不着")


async def time_goes_by(core: Companion, count: int) -> None:
    """One pause between late answers after the other, until so many messages have come to the first chat."""

    def forward() -> bool:
        core.clock.forward(seconds=LATE_ANSWER_PAUSE.total_seconds() + 1)
        return len(core.phone.texts("chat")) >= count

    await until(forward)


def channel(*pieces: str) -> Channel:
    return Channel(
        Phone(), lambda text: [Segment(piece) for piece in pieces or (text,)], FREELY, FREELY, FREELY
    )


def test_feedback_is_asked_for_below_the_last_piece_and_a_preview_becomes_the_first() -> None:
    manner = Manner(ReplyStyle.WHOLE, feedback=True, replaces="42")
    first, last = spoken(channel("一", "二"), "一二", manner)
    assert (first.replaces, first.buttons) == ("42", ())
    assert (last.replaces, last.buttons) == (None, FEEDBACK)


def test_bubbles_go_out_one_after_the_other() -> None:
    text = "听起来你今天真的撑了很久。会议一个接一个，连喘口气的空都没有。你现在是一个人在家吗？"
    segments = spoken(channel(), text, Manner(ReplyStyle.BUBBLES, silent=True))
    assert "".join(segment.text for segment in segments) == text and len(segments) == 3
    assert segments[0].pause_seconds == 0 and all(segment.pause_seconds > 0 for segment in segments[1:])
    assert all(segment.silent for segment in segments)


def test_a_card_says_how_its_persona_answers(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    text = DEFAULT_CARD.read_text(encoding="utf-8")
    assert load_card().style is ReplyStyle.WHOLE
    card.write_text(text.replace('style = "whole"', 'style = "bubbles"'), encoding="utf-8")
    assert load_card(card).style is ReplyStyle.BUBBLES
    card.write_text(text.replace('style = "whole"', 'style = "shouting"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="whole, bubbles"):
        load_card(card)
