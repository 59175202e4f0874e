"""The worst moments: danger that must overtake, words written while everything is erased, names that forge or break."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.companion import rows, until
from tests.fakes.model_server import Answer
from tests.services import RedisServer
from tests.telegram_world import World, new_person, webhook_settings, world_in

one_loop = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.xdist_group("telegram-worst")
FILE = {"file_id": "F", "file_unique_id": "U"}
PHOTO = {"photo": [{**FILE, "width": 90, "height": 90}]}
DANGER, HELP = "我想自杀", "12356"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_in(tmp_path_factory.mktemp("worst"), webhook_settings()) as world:
        await world.program.start()
        await world.api.wait_until(lambda: world.api.webhook_url is not None)
        yield world


def group() -> int:
    return -2_000_000 - new_person()


async def helped(world: World, chat_id: int, timeout: float = 5) -> None:
    await world.api.wait_until(lambda: HELP in "".join(world.api.sent_to(chat_id)), timeout)


@one_loop
async def test_danger_overtakes_a_reply_that_cannot_be_sent(world: World) -> None:
    person = new_person()
    world.api.fail_next("sendMessage", 500, "Internal Server Error", times=4)
    failed = world.api.calls["sendmessage:500"]
    world.api.user_says(person, "今天好累")
    await world.api.wait_until(lambda: world.api.calls["sendmessage:500"] >= failed + 4)
    world.api.user_says(person, DANGER)
    await helped(world, person, 2)
    assert len(world.api.sent_to(person)) == 1, (
        "what failed is tried again four seconds and more after the last time"
    )


@one_loop
async def test_danger_overtakes_bubbles(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings style bubbles")
    await world.api.wait_for_sent(1, chat_id=person)
    world.model.behave(
        Answer(
            "\n\n".join(
                f"这是第{n}段，写得长一些，好让它慢慢打出来，打上好几秒才行，真的。" for n in range(5)
            )
        )
    )
    world.api.user_says(person, "说说看")
    await world.api.wait_for_sent(2, chat_id=person)
    world.api.user_says(person, DANGER)
    await world.api.wait_until(lambda: HELP in "".join(world.api.sent_to(person)))
    assert len(world.api.sent_to(person)) < 6, "before the last bubbles, which follow all the same"
    await world.api.wait_for_sent(7, chat_id=person, timeout=30)


@one_loop
@pytest.mark.parametrize(
    "text", ["/@妈妈，我不想活了", "/我不想活了@所有人 我想自杀", "/help@another_bot 我想自杀"]
)
async def test_danger_that_looks_like_a_command_is_heard(world: World, text: str) -> None:
    person = new_person()
    world.api.user_says(person, text)
    await helped(world, person)


@one_loop
async def test_danger_in_the_name_of_a_file_is_heard(world: World) -> None:
    person = new_person()
    world.api.user_sends(person, {"document": {**FILE, "file_name": "我想自杀.txt"}})
    await helped(world, person)


@one_loop
async def test_danger_with_a_detail_that_nobody_can_read_is_heard(world: World) -> None:
    person = new_person()
    world.api.user_sends(person, {"text": DANGER, "reply_to_message": {"of": "another shape"}})
    await helped(world, person)


@one_loop
async def test_danger_in_a_group_leaves_the_others_their_answers(world: World) -> None:
    place, ann, bob = group(), new_person(), new_person()
    here = {"chat_type": "supergroup", "chat_id": place}
    world.model.gate.clear()
    world.api.user_says(bob, "@xinyu_fake_bot 周末去哪玩", **here)  # type: ignore[arg-type]
    await world.api.wait_until(lambda: world.model.answering > 0)
    world.api.user_says(ann, f"@xinyu_fake_bot {DANGER}", **here)  # type: ignore[arg-type]
    await helped(world, place)
    world.model.gate.set()
    await world.api.wait_until(lambda: "周末去哪玩" in "".join(world.api.sent_to(place)))


@one_loop
async def test_in_a_group_each_is_answered_by_themselves(world: World) -> None:
    place, ann, bob = group(), new_person(), new_person()
    here = {"chat_type": "supergroup", "chat_id": place}
    world.model.gate.clear()
    asked = [
        world.api.user_says(person, f"@xinyu_fake_bot {person}的秘密", **here)  # type: ignore[arg-type]
        for person in (ann, bob)
    ]
    await world.api.wait_until(lambda: world.api.pending_count == 0)
    world.model.gate.set()
    sent = await world.api.wait_for_sent(2, chat_id=place)
    assert [message.reply_to for message in sent] == [world.api.message_id_of(update) for update in asked]
    data = world.program.folder / "data"
    owners = rows(
        data,
        "SELECT i.platform_user_id FROM chat_messages m JOIN conversations c ON c.id = m.conversation_id"
        " JOIN identities i ON i.user_id = m.user_id WHERE c.chat_id = ? AND m.role = 'assistant' ORDER BY m.id",
        str(place).encode(),
    )
    assert [int(bytes(owner)) for (owner,) in owners] == [ann, bob], (
        "each answer is its person's, to take or erase"
    )


@one_loop
async def test_what_is_written_right_after_erasing_is_answered(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "我的猫叫年糕")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "/delete_me")
    *_, ask = await world.api.wait_for_sent(2, chat_id=person)
    world.api.user_presses(person, ask, "全部抹掉")
    world.api.user_says(person, DANGER)
    await helped(world, person)
    world.api.user_says(person, "我说过什么")
    await world.api.wait_until(lambda: "我说过什么" in world.api.sent_to(person)[-1])
    assert "年糕" not in json.dumps(world.model.requests[-1], ensure_ascii=False)


@one_loop
async def test_names_that_are_no_text_hold_nobody_up(world: World) -> None:
    person, next_one = new_person(), new_person()
    world.api.user_sends(person, {"document": {**FILE, "file_name": "半个\ud83d"}, "caption": "看看"})
    world.api.user_says(next_one, "轮到我了")
    await world.api.wait_for_sent(1, chat_id=next_one)
    await world.api.wait_for_sent(1, chat_id=person)


@one_loop
async def test_an_album_that_calls_the_bot_comes_whole(world: World) -> None:
    place, person = group(), new_person()
    mention = {"type": "mention", "offset": 0, "length": 15}
    first: dict[str, Any] = {**PHOTO, "caption": "@xinyu_fake_bot 海边", "caption_entities": [mention]}
    world.api.user_sends_album(person, [first, PHOTO, PHOTO], chat_type="supergroup", chat_id=place)
    await world.api.wait_for_sent(1, chat_id=place)
    assert "3 张照片" in world.model.requests[-1]["messages"][-1]["content"]


@one_loop
async def test_after_a_move_old_message_ids_name_nothing(world: World) -> None:
    old, ann, bob = group(), new_person(), new_person()
    new = -1_002_000_000_000 - ann
    world.api.user_says(ann, "@xinyu_fake_bot 我的秘密", chat_type="group", chat_id=old)
    await world.api.wait_for_sent(1, chat_id=old)
    world.api.migrate(old, new)
    overheard = world.api.user_says(bob, "别的话", chat_type="supergroup", chat_id=new)
    world.api.user_edits(overheard, "别的话，改过")
    world.api.user_says(ann, "@xinyu_fake_bot 在吗", chat_type="supergroup", chat_id=new)
    await world.api.wait_for_sent(1, chat_id=new)
    assert "改过" not in json.dumps(world.model.requests[-1], ensure_ascii=False)


@one_loop
async def test_many_edits_ask_the_model_few_times(world: World) -> None:
    person = new_person()
    before = len(world.model.requests)
    world.model.gate.clear()
    update = world.api.user_says(person, "第0版")
    await world.api.wait_until(lambda: world.model.answering > 0)
    for number in range(1, 31):
        world.api.user_edits(update, f"第{number}版")
    await world.api.wait_until(lambda: world.api.pending_count == 0)
    world.model.gate.set()
    await world.api.wait_until(lambda: "第30版" in "".join(world.api.sent_to(person)))
    assert len(world.model.requests) - before <= 4


@one_loop
async def test_a_pause_that_telegram_asks_for_holds_for_all_topics_of_a_group(world: World) -> None:
    place, person = group(), new_person()
    world.api.fail_next("sendMessage", 429, "Too Many Requests: retry after 3", retry_after=3)
    refused = world.api.calls["sendmessage:429"]
    for topic in (31, 32):
        world.api.user_says(
            person, "@xinyu_fake_bot 在吗", chat_type="supergroup", chat_id=place, thread_id=topic
        )
        await world.api.wait_until(lambda: world.api.calls["sendmessage:429"] > refused)

    began = time.monotonic()
    sent = await world.api.wait_for_sent(2, chat_id=place)
    assert all(message.at - began >= 2.5 for message in sent)


@one_loop
async def test_a_long_time_zone_holds_nobody_up(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings timezone America/Argentina/ComodRivadavia")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "/settings timezone")
    *_, menu = await world.api.wait_for_sent(2, chat_id=person)
    assert any("✓ America/Argentina/ComodRivadavia" in label for row in menu.buttons for label, _ in row)


@one_loop
async def test_a_sent_reply_is_kept_once(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "只留一份")
    await world.api.wait_for_sent(1, chat_id=person)
    data = world.program.folder / "data"
    query = (
        "SELECT d.body FROM deliveries d JOIN conversations c ON c.id = d.conversation_id WHERE c.chat_id = ?"
    )
    await until(lambda: rows(data, query, str(person).encode()) == [(b"",)])


async def test_danger_reaches_the_process_that_is_at_work(tmp_path: Path, redis: RedisServer) -> None:
    """Two processes: the wake-up may reach the one that holds nothing."""
    more = {"REDIS_URL": redis.url()}
    async with world_in(tmp_path, more) as world:
        await world.program.start()
        other = type(world.program)(world.program.folder, world.program.settings, ("run", "--role", "work"))
        world.program.folder.mkdir(exist_ok=True)
        await other.start(wait=False)
        try:
            for _ in range(4):
                person = new_person()
                world.model.gate.clear()
                world.api.user_says(person, "今天好累")
                await world.api.wait_until(lambda: world.model.answering > 0)
                world.api.user_says(person, DANGER)
                await helped(world, person, 6)
                world.model.gate.set()
        finally:
            await other.stop()
