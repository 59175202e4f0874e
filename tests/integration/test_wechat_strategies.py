"""The three ways in which answers reach people on WeChat: on the first try, pushed later, or on any of the tries.

What takes WeChat's real seconds happens to many people at once, each with a story of their own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from adapters.wechat.places import place_of
from core.safety.protocol import load_protocols
from tests.companion import rows, until
from tests.fakes.model_server import Answer, Behaviour, PacedModel, Status, echo_of
from tests.fakes.wechat_api import SEND, Shown
from tests.fakes.wechat_platform import Try
from tests.fakes.wechat_wire import TEXT_BYTES
from tests.wechat_world import MORE, WechatWorld, world_in

ECHO = "回声:"
DANGER = "我想自杀"
PROTOCOL = set(load_protocols().texts.values())
AT_ONCE_SECONDS = 3.0
"""Far below WeChat's five."""
SENTENCES = 200
STORY_SECONDS = 40.0

Story = Callable[[WechatWorld, str], Coroutine[Any, Any, None]]


class Thinker(PacedModel):
    """Thinks for as long as it is asked to (「想7秒」) and writes a long text if it is asked to (「写长信」)."""

    async def _act(
        self, request: web.Request, body: dict[str, Any], behaviour: Behaviour
    ) -> web.StreamResponse:
        said = echo_of(body)
        await asyncio.sleep(max(map(float, re.findall(r"想([\d.]+)秒", said)), default=0))
        if "写长信" in said:
            behaviour = Answer(letter())
        return await super()._act(request, body, behaviour)


def letter() -> str:
    """More than 5000 characters in Markdown, each sentence with its number."""
    sentences = [f"第{n}句话，说得慢慢的，一点一点地说给你听呀。" for n in range(SENTENCES)]
    parts = [
        f"## 这一段从{n}开始\n\n{''.join(sentences[n : n + 18])}\n\n- **{sentences[n + 18]}**\n"
        f"- 按下`好的`，{sentences[n + 19]}"
        for n in range(0, SENTENCES, 20)
    ]
    whole = "\n\n".join(parts)
    assert len(whole) > 5000
    return whole


def assert_whole(texts: list[str]) -> None:
    """Every sentence of the letter is there, once and in order, and nothing of the Markdown is."""
    together = "\n".join(texts)
    assert [int(n) for n in re.findall(r"第(\d+)句话", together)] == list(range(SENTENCES))
    assert not re.search(r"\*\*|`|^#|^[-*] ", together, re.MULTILINE)
    assert together.count("慢慢的") == together.count("一点一点地说给你听呀。") == SENTENCES
    for n in range(0, SENTENCES, 20):
        assert together.count(f"这一段从{n}开始") == 1
    assert together.count("按下好的，") == SENTENCES // 20


@asynccontextmanager
async def thinking(folder: Path, delivery: str, *, certified: bool = True) -> AsyncIterator[WechatWorld]:
    """A running program whose model is a Thinker."""
    async with (
        Thinker() as model,
        world_in(
            folder, {"WECHAT_DELIVERY": delivery, "LLM_BASE_URL": model.base_url}, certified=certified
        ) as world,
    ):
        world.model = model
        await world.program.start()
        yield world


async def live_through(world: WechatWorld, *stories: Story) -> None:
    """All stories at once, each with a person of its own; nobody ever sees the trouble notice."""
    async with asyncio.timeout(STORY_SECONDS), asyncio.TaskGroup() as group:
        for story in stories:
            group.create_task(story(world, f"o_{story.__name__}"))
    await world.wechat.settled()
    assert not [shown for shown in world.wechat.shown if shown.kind == "trouble"]
    texts = [shown.text for shown in world.wechat.shown if shown.kind == "text"]
    assert max(len(text.encode()) for text in texts) <= TEXT_BYTES


def shown_to(world: WechatWorld, person: str) -> list[Shown]:
    return [shown for shown in world.wechat.shown if shown.openid == person and shown.kind != "typing"]


async def over(world: WechatWorld, key: str) -> list[Try]:
    """The tries of a push, once it is over. What they show, if anything, is shown by then."""
    tries = world.wechat.tried[key]
    await world.wechat.wait_until(
        lambda: bool(tries) and (tries[-1].outcome in ("answered", "success") or len(tries) == 3),
        STORY_SECONDS,
    )
    return tries


async def heard(world: WechatWorld, key: str, person: str) -> str:
    """The one text that a push was answered with."""
    await over(world, key)
    (shown,) = [shown for shown in shown_to(world, person) if shown.msg_id == key]
    return shown.text


def owed(world: WechatWorld, person: str, *states: str) -> int:
    """How many pieces are kept for somebody."""
    wanted = ", ".join(f"'{state}'" for state in states or ("pending", "held"))
    query = (
        "SELECT d.id FROM deliveries d JOIN conversations c ON c.id = d.conversation_id"
        f" WHERE c.chat_id = ? AND d.state IN ({wanted}) AND d.passed_with IS NULL"
    )
    place = place_of(world.wechat.app_id, person).encode()
    return len(rows(world.program.folder / "data", query, place))


async def until_kept(world: WechatWorld, person: str) -> None:
    """Until the late answer is there to be fetched."""
    await until(lambda: owed(world, person) > 0)


def tells_how_to_fetch(text: str) -> bool:
    return "weixin://bizmsgmenu" in text and f">{MORE}</a>" in text


# --- in every strategy ------------------------------------------------------------------------------


async def answered_in_time(world: WechatWorld, person: str) -> None:
    key = world.wechat.say(person, "早上好")
    assert await heard(world, key, person) == f"{ECHO}早上好"
    (only,) = shown_to(world, person)
    assert only.by == "passive" and only.try_number == 1


async def in_danger_while_the_model_thinks(world: WechatWorld, person: str) -> None:
    tired = "今天好累，想19秒"
    world.wechat.say(person, tired)
    await until(lambda: f"{ECHO}{tired}" in [echo_of(body) for body in world.model.requests])
    key = world.wechat.say(person, DANGER)
    tries = await over(world, key)
    assert sum(one.duration for one in tries) < AT_ONCE_SECONDS
    shown = [one.text for one in shown_to(world, person)]
    assert sum(any(words in text for words in PROTOCOL) for text in shown) == 1, shown


async def talks_of_going_on(world: WechatWorld, person: str) -> None:
    """With nothing owed 继续 is a word like any other."""
    assert await heard(world, world.wechat.say(person, MORE), person) == f"{ECHO}{MORE}"


async def reads_a_letter_in_pieces(world: WechatWorld, person: str) -> None:
    """What does not fit waits for 继续."""
    texts = [await heard(world, world.wechat.say(person, "写长信"), person)]
    while tells_how_to_fetch(texts[-1]) and len(texts) < 20:
        texts.append(await heard(world, world.wechat.say(person, MORE), person))
    assert_whole(texts)
    await until(lambda: owed(world, person) == 0)
    # The last one was no word of ours: now it is talk.
    assert await heard(world, world.wechat.say(person, MORE), person) == f"{ECHO}{MORE}"


async def test_a_long_answer_takes_as_few_messages_as_possible(tmp_path: Path) -> None:
    """Each message is one of five: what a paragraph's end leaves empty is not."""
    async with thinking(tmp_path, "quick") as world:
        texts = [await heard(world, world.wechat.say("oann", "写长信"), "oann")]
        while tells_how_to_fetch(texts[-1]) and len(texts) < 20:
            texts.append(await heard(world, world.wechat.say("oann", MORE), "oann"))
        assert_whole(texts)
        assert len(texts) <= sum(len(text.encode()) for text in texts) // 1700 + 1


# --- quick ------------------------------------------------------------------------------------------


async def slow_for_one_try(world: WechatWorld, person: str) -> None:
    key = world.wechat.say(person, "想7秒再说")
    note = await heard(world, key, person)
    (only,) = world.wechat.tried[key]
    assert 4.0 < only.duration < 5.0
    assert tells_how_to_fetch(note) and ECHO not in note
    await until_kept(world, person)
    following = world.wechat.say(person, "我回来了")
    assert await heard(world, following, person) == f"{ECHO}想7秒再说\n\n{ECHO}我回来了"
    assert len(shown_to(world, person)) == 2


async def slow_for_one_try_and_fetched(world: WechatWorld, person: str) -> None:
    await heard(world, world.wechat.say(person, "想8秒再说"), person)
    await until_kept(world, person)
    fetched = world.wechat.press_link(person, MORE)
    assert await heard(world, fetched, person) == f"{ECHO}想8秒再说"
    assert len(shown_to(world, person)) == 2


async def test_quick_answers_on_the_first_try_or_with_the_next_message(tmp_path: Path) -> None:
    async with thinking(tmp_path, "quick") as world:
        await live_through(
            world,
            answered_in_time,
            slow_for_one_try,
            slow_for_one_try_and_fetched,
            talks_of_going_on,
            reads_a_letter_in_pieces,
            in_danger_while_the_model_thinks,
        )
        assert not world.wechat.calls[SEND]


# --- uncertified ------------------------------------------------------------------------------------


async def answered_on_the_second_try(world: WechatWorld, person: str) -> None:
    assert await heard(world, world.wechat.say(person, "想7秒"), person) == f"{ECHO}想7秒"
    (only,) = shown_to(world, person)
    assert only.try_number == 2


async def answered_on_the_third_try(world: WechatWorld, person: str) -> None:
    assert await heard(world, world.wechat.say(person, "想12秒"), person) == f"{ECHO}想12秒"
    (only,) = shown_to(world, person)
    assert only.try_number == 3


async def too_slow_for_all_tries(world: WechatWorld, person: str) -> None:
    """Leaves a person with the note, and their late answer ready."""
    key = world.wechat.say(person, "想17秒")
    note = await heard(world, key, person)
    assert tells_how_to_fetch(note) and ECHO not in note
    tries = world.wechat.tried[key]
    assert [one.outcome for one in tries] == ["timeout", "timeout", "answered"]
    assert tries[-1].duration < 5.0, "before WeChat gives up"
    await until_kept(world, person)


async def comes_back_with_a_message(world: WechatWorld, person: str) -> None:
    await too_slow_for_all_tries(world, person)
    key = world.wechat.say(person, "好了吗")
    assert await heard(world, key, person) == f"{ECHO}想17秒\n\n{ECHO}好了吗"
    assert len(shown_to(world, person)) == 2


async def comes_back_with_the_word(world: WechatWorld, person: str) -> None:
    await too_slow_for_all_tries(world, person)
    assert await heard(world, world.wechat.say(person, MORE), person) == f"{ECHO}想17秒"
    assert await heard(world, world.wechat.say(person, MORE), person) == f"{ECHO}{MORE}", "nothing is owed"


async def comes_back_with_the_menu(world: WechatWorld, person: str) -> None:
    await too_slow_for_all_tries(world, person)
    assert await heard(world, world.wechat.press_menu(person, MORE), person) == f"{ECHO}想17秒"
    assert len(shown_to(world, person)) == 2


async def asks_before_it_is_ready(world: WechatWorld, person: str) -> None:
    await heard(world, world.wechat.say(person, "想19.5秒"), person)
    key = world.wechat.press_link(person, MORE)
    assert await heard(world, key, person) == f"{ECHO}想19.5秒"
    assert len(shown_to(world, person)) == 2


async def says_more_meanwhile(world: WechatWorld, person: str) -> None:
    """Both are answered, together or one after the other, and each once."""
    first = world.wechat.say(person, "想6秒，先说一句")
    await until(lambda: "先说一句" in "".join(echo_of(body) for body in world.model.requests))
    second = world.wechat.say(person, "再说一句")
    await over(world, first)
    await over(world, second)
    await world.wechat.wait_until(lambda: "再说一句" in "".join(world.wechat.on_phone(person)))
    together = "".join(world.wechat.on_phone(person))
    assert together.count("先说一句") == together.count("再说一句") == 1
    await until(lambda: owed(world, person) == 0)


async def test_uncertified_answers_on_whichever_try_it_is_ready_and_keeps_what_is_late(
    tmp_path: Path,
) -> None:
    async with thinking(tmp_path, "uncertified", certified=False) as world:
        await live_through(
            world,
            answered_in_time,
            answered_on_the_second_try,
            answered_on_the_third_try,
            comes_back_with_a_message,
            comes_back_with_the_word,
            comes_back_with_the_menu,
            asks_before_it_is_ready,
            says_more_meanwhile,
            talks_of_going_on,
            reads_a_letter_in_pieces,
            in_danger_while_the_model_thinks,
        )
        assert not world.wechat.calls[SEND]


# --- certified --------------------------------------------------------------------------------------


async def pushed_when_it_is_ready(world: WechatWorld, person: str) -> None:
    key = world.wechat.say(person, "想7秒")
    (only,) = await over(world, key)
    assert only.outcome == "success" and 4.0 < only.duration < 5.0
    await world.wechat.wait_for(person, 1)
    seen = [shown for shown in world.wechat.shown if shown.openid == person]
    assert [(shown.kind, shown.text, shown.by) for shown in seen] == [
        ("typing", "", "api"),
        ("text", f"{ECHO}想7秒", "api"),
    ]
    # Nothing comes twice: what they say next is answered alone.
    assert await heard(world, world.wechat.say(person, "谢谢"), person) == f"{ECHO}谢谢"
    assert len(shown_to(world, person)) == 2


async def gets_a_letter_pushed(world: WechatWorld, person: str) -> None:
    """Five messages are what one of theirs allows; the rest comes with the next, before its answer."""
    world.wechat.say(person, "想5秒，写长信")
    await _gets_a_letter(world, person, ["api"] * 5)


async def gets_a_letter_at_once(world: WechatWorld, person: str) -> None:
    """It begins with the response, and five more are pushed."""
    world.wechat.say(person, "写长信")
    await _gets_a_letter(world, person, ["passive", *["api"] * 5])


async def _gets_a_letter(world: WechatWorld, person: str, at_first: list[str]) -> None:
    await world.wechat.wait_for(person, len(at_first))
    await until(lambda: owed(world, person) == owed(world, person, "held") > 0)
    assert [shown.by for shown in shown_to(world, person)] == at_first
    world.wechat.say(person, "真好")
    await world.wechat.wait_until(lambda: f"{ECHO}真好" in world.wechat.on_phone(person)[-1])
    texts = world.wechat.on_phone(person)
    assert texts[-1].endswith(f"{ECHO}真好") and "".join(texts).count(ECHO) == 1
    texts[-1] = texts[-1].removesuffix(f"{ECHO}真好")
    assert_whole(texts)
    await until(lambda: owed(world, person) == 0)


async def test_certified_answers_on_the_first_try_or_pushes(tmp_path: Path) -> None:
    async with thinking(tmp_path, "certified") as world:
        await live_through(
            world,
            answered_in_time,
            pushed_when_it_is_ready,
            gets_a_letter_pushed,
            gets_a_letter_at_once,
            says_more_meanwhile,
            talks_of_going_on,
            in_danger_while_the_model_thinks,
        )


# --- a model that is away ---------------------------------------------------------------------------


async def test_with_the_model_away_the_listener_answers_and_the_real_answer_comes_late(
    tmp_path: Path,
) -> None:
    async with (
        thinking(tmp_path / "certified", "certified") as certified,
        thinking(tmp_path / "uncertified", "uncertified", certified=False) as uncertified,
    ):
        for world in (certified, uncertified):
            world.model.behave(Status(503), Status(503))  # in vain, and once more in vain
            listened = await heard(world, world.wechat.say("oann", "睡不着"), "oann")
            assert ECHO not in listened and not tells_how_to_fetch(listened)
        await certified.wechat.wait_for("oann", 2, STORY_SECONDS)
        await until_kept(uncertified, "oann")
        uncertified.wechat.say("oann", "在吗")
        for world, following in ((certified, ""), (uncertified, f"\n\n{ECHO}在吗")):
            _, late = await world.wechat.wait_for("oann", 2)
            assert "睡不着" in late and late.endswith(following)
        assert [shown.by for shown in shown_to(certified, "oann")] == ["passive", "api"]
