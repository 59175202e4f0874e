"""An answer in Telegram while it is being written, and what becomes of it when something breaks half-way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.companion import rows, until
from tests.fakes.model_server import CUT
from tests.telegram_world import World, new_person, world_in

FIRST, SECOND, THIRD = "我听到了，", "你这几天都没怎么睡，", "**慢慢说**，我在。"
WHOLE = "我听到了，你这几天都没怎么睡，慢慢说，我在。"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        await world.program.start()
        yield world


@pytest_asyncio.fixture
async def old_server(tmp_path: Path) -> AsyncIterator[World]:
    """A Bot API server of before drafts."""
    async with world_in(tmp_path) as world:
        world.api.chats.drafts_offered = False
        await world.program.start()
        yield world


def drafts(world: World) -> list[str]:
    return [draft.text for draft in world.api.chats.drafts]


async def shown(world: World, *texts: str) -> None:
    await world.api.wait_until(lambda: drafts(world)[-len(texts) :] == list(texts))


async def test_a_draft_grows_and_the_answer_takes_its_place(world: World) -> None:
    person = new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await shown(world, FIRST)
    assert world.api.sent_to(person) == [], "nothing stands in the chat yet"
    world.model.say(SECOND)
    await shown(world, FIRST, FIRST + SECOND)
    world.model.say(THIRD, None)
    (answer,) = await world.api.wait_for_sent(1, chat_id=person)
    assert answer.text == WHOLE and answer.entities[0]["type"] == "bold"
    (one_draft,) = {draft.draft_id for draft in world.api.chats.drafts}
    assert one_draft != 0


async def test_a_model_that_breaks_off_begins_again_and_ends_whole(world: World) -> None:
    person = new_person()
    world.model.say("我听到一半就", CUT)
    world.api.user_says(person, "睡不着")
    await world.model.wait_for_requests(2)
    world.model.say(FIRST)
    await shown(world, FIRST)
    world.model.say(SECOND, THIRD, None)
    (answer,) = await world.api.wait_for_sent(1, chat_id=person)
    assert answer.text == WHOLE


async def test_killed_in_the_middle_it_ends_whole_all_the_same(world: World) -> None:
    person = new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await shown(world, FIRST)
    await world.program.kill()
    world.model.say(SECOND)
    world.model.pace()
    await world.program.start()
    world.model.say(FIRST, SECOND, THIRD, None)
    (answer,) = await world.api.wait_for_sent(1, chat_id=person)
    assert world.api.sent_to(person) == [WHOLE] and answer.edits == 0


async def test_without_drafts_a_message_is_edited_until_it_is_whole(old_server: World) -> None:
    world, person = old_server, new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await world.api.wait_for_sent(1, chat_id=person)
    assert world.api.sent_to(person) == [FIRST]
    world.model.say(SECOND)
    await world.api.wait_until(lambda: world.api.sent_to(person) == [FIRST + SECOND])
    world.model.say(THIRD, None)
    await world.api.wait_until(lambda: world.api.sent_to(person) == [WHOLE])
    assert world.api.calls["sendmessagedraft:404"] == 1, "it is asked for once"


async def test_without_drafts_a_kill_leaves_no_half_message_behind(old_server: World) -> None:
    world, person = old_server, new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await world.api.wait_for_sent(1, chat_id=person)
    data = world.program.folder / "data"
    remembered = "SELECT 1 FROM conversations WHERE preview_message_id IS NOT NULL"
    await until(lambda: bool(rows(data, remembered)))
    await world.program.kill()
    world.model.pace()
    await world.program.start()
    world.model.say(FIRST, SECOND, THIRD, None)
    await world.api.wait_until(lambda: world.api.sent_to(person) == [WHOLE])
    assert not rows(data, remembered)


async def test_a_long_answer_goes_on_in_further_messages(old_server: World) -> None:
    world, person = old_server, new_person()
    beginning, rest = "一句。" * 1000, "又一句。" * 1000
    world.model.say(beginning)
    world.api.user_says(person, "讲长一点")
    await world.api.wait_for_sent(1, chat_id=person)
    world.model.say(rest, None)
    await world.api.wait_until(lambda: "".join(world.api.sent_to(person)) == beginning + rest)
    assert len(world.api.sent_to(person)) == 2


async def test_what_is_shown_can_not_be_sent_and_is_answered_all_the_same(world: World) -> None:
    person = new_person()
    world.api.fail_next("sendMessageDraft", 429, "Too Many Requests: retry after 3", retry_after=3)
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await world.api.wait_until(lambda: world.api.calls["sendmessagedraft:429"] == 1)
    refused = time.monotonic()
    world.model.say(SECOND, THIRD, None)
    (answer,) = await world.api.wait_for_sent(1, chat_id=person)
    assert answer.text == WHOLE and answer.at - refused >= 2.7, "as late as Telegram asked"
    assert drafts(world) == [], "a preview that is refused is not tried again for this answer"


async def test_danger_in_the_middle_of_an_answer_is_answered_at_once(old_server: World) -> None:
    world, person = old_server, new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "睡不着")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "我不想活了")
    await world.api.wait_until(lambda: "12356" in "".join(world.api.sent_to(person)))
    assert len(world.api.sent_to(person)) == 1, "in the place of what was begun"


async def test_in_a_group_nothing_is_shown_before_it_is_whole(world: World) -> None:
    place, person = -5_000_000 - new_person(), new_person()
    world.model.say(FIRST)
    world.api.user_says(person, "@xinyu_fake_bot 睡不着", chat_type="supergroup", chat_id=place)
    await world.model.wait_for_requests(1)
    await world.api.wait_until(lambda: world.api.calls["sendchataction:200"] >= 1)
    world.model.say(SECOND, THIRD, None)
    (answer,) = await world.api.wait_for_sent(1, chat_id=place)
    assert answer.text == WHOLE and drafts(world) == []


@pytest.mark.parametrize("quick", ["回声", "好。"])
async def test_an_answer_that_comes_at_once_is_simply_sent(world: World, quick: str) -> None:
    person = new_person()
    world.model.say(quick, None)
    world.api.user_says(person, "嗯")
    await world.api.wait_for_sent(1, chat_id=person)
    assert world.api.sent_to(person) == [quick] and drafts(world) == []
