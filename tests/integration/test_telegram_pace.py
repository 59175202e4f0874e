"""Telegram's limits are kept, also across restarts, and what it asks for is obeyed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.telegram_world import PUBLIC_URL, World, new_person, webhook_settings, world_in


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """On a Telegram that refuses what comes too fast, and counts it."""
    async with world_in(tmp_path, limits=True) as world:
        await world.program.start()
        yield world


def breaches(world: World) -> list[str]:
    assert world.api.chats.limits is not None
    return world.api.chats.limits.breaches


async def test_a_crowd_is_answered_within_thirty_a_second(world: World) -> None:
    people = [new_person() for _ in range(90)]
    for person in people:
        world.api.user_says(person, "在吗")
    sent = await world.api.wait_for_sent(90, timeout=30)
    assert {message.chat_id for message in sent} == set(people)
    assert sent[-1].at - sent[0].at >= 2.0
    assert breaches(world) == []


async def test_a_long_answer_keeps_to_one_a_second_in_a_chat(world: World) -> None:
    person = new_person()
    world.model.say("一二三四五六七八九十。" * 2400, None)
    world.api.user_says(person, "讲长一点")
    sent = await world.api.wait_for_sent(7, chat_id=person, timeout=30)
    assert sent[-1].at - sent[0].at >= 3.0
    assert breaches(world) == []


async def test_an_answer_that_is_shown_by_edits_keeps_the_pace(world: World) -> None:
    world.api.chats.drafts_offered = False
    person = new_person()
    world.model.pace()
    world.api.user_says(person, "慢慢说")
    for number in range(40):
        world.model.say(f"第{number}句。")
        await world.api.wait_until(lambda: bool(world.model.requests))
    await world.api.wait_for_sent(1, chat_id=person)
    shown = len(world.api.chats.edits)
    for number in range(40, 44):
        world.model.say(f"第{number}句。")
        await world.api.wait_until(lambda shown=shown: len(world.api.chats.edits) > shown)  # type: ignore[misc]
        shown = len(world.api.chats.edits)
    world.model.say(None)
    await world.api.wait_until(lambda: "第43句" in "".join(world.api.sent_to(person)))
    assert breaches(world) == []


async def test_the_typing_sign_lasts_as_long_as_the_turn(world: World) -> None:
    world.model.gate.clear()
    person = new_person()
    world.api.user_says(person, "想很久")
    await world.api.wait_until(
        lambda: world.api.calls["sendchataction:200"] >= 2, timeout=10
    )  # it fades after 5 s
    world.model.gate.set()
    await world.api.wait_for_sent(1, chat_id=person)


async def test_a_group_gets_twenty_a_minute_across_a_restart(world: World) -> None:
    place, person = -7_000_000 - new_person(), new_person()

    def says(number: int) -> None:
        world.api.user_says(person, f"@xinyu_fake_bot 第{number}句", chat_type="supergroup", chat_id=place)

    for number in range(3):
        says(number)
        await world.api.wait_for_sent(number + 1, chat_id=place)
    await world.program.stop()
    await world.program.start()
    for number in (3, 4):
        says(number)
        sent = await world.api.wait_for_sent(number + 1, chat_id=place)
    assert sent[4].at - sent[0].at >= 6.5, (
        "three at once were the last process's: the next ones wait their turn"
    )
    assert breaches(world) == []


async def test_what_telegram_asks_for_is_kept_across_a_restart(world: World) -> None:
    person = new_person()
    world.api.fail_next("sendMessage", 429, "Too Many Requests: retry after 6", retry_after=6)
    world.api.user_says(person, "慢一点")
    await world.api.wait_until(lambda: world.api.calls["sendmessage:429"] == 1)
    refused = time.monotonic()
    await world.program.stop()
    await world.program.start()
    (sent,) = await world.api.wait_for_sent(1, chat_id=person)
    assert sent.at - refused >= 5.5
    assert sent.text == "回声:慢一点"


async def test_replies_that_were_not_delivered_are_after_a_restart(world: World) -> None:
    people = [new_person() for _ in range(5)]
    world.api.fail_next("sendMessage", 502, "Bad Gateway", times=10)
    for person in people:
        world.api.user_says(person, "等你")
    await world.api.wait_until(lambda: world.api.calls["sendmessage:502"] >= 5)
    await world.program.kill()
    world.api.fail_next("sendMessage", 502, "Bad Gateway", times=0)
    await world.program.start()
    sent = await world.api.wait_for_sent(5, timeout=30)
    assert sorted(message.chat_id for message in sent) == people
    assert {message.text for message in sent} == {"回声:等你"}


async def test_a_press_is_answered_within_a_second_in_the_middle_of_a_crowd(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings")
    (menu,) = await world.api.wait_for_sent(1, chat_id=person)
    world.model.gate.clear()
    for _ in range(150):
        world.api.user_says(new_person(), "在吗")
    world.api.user_presses(person, menu, "语言")
    await world.api.wait_until(lambda: bool(world.api.press_answers))
    (answer,) = world.api.press_answers
    assert answer.after < 1.0
    world.model.gate.set()


async def test_a_certificate_that_signs_itself_is_handed_to_telegram(tmp_path: Path) -> None:
    certificate = tmp_path / "own.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n")
    more = {**webhook_settings(), "TELEGRAM_WEBHOOK_CERTIFICATE": str(certificate)}
    async with world_in(tmp_path / "program", more) as world:
        await world.program.start()
        await world.api.wait_until(lambda: world.api.webhook_url is not None)
        assert world.api.certificate == certificate.read_bytes()
        assert world.api.webhook_url == f"{PUBLIC_URL}/webhooks/telegram"
        person = new_person()
        world.api.user_says(person, "你好")
        await world.api.wait_for_sent(1, chat_id=person)
