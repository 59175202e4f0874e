"""WeChat's API from its bad sides: refusals, quotas, tokens, an API that is away. And what people ask for in words.

Answers of more than one message are the quick way to the API: what does not fit the response is pushed at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from adapters.wechat.places import place_of
from core.safety.protocol import load_protocols
from tests.companion import rows, until
from tests.fakes import wechat_api
from tests.fakes.model_server import Answer
from tests.fakes.wechat_api import SEND, STABLE_TOKEN
from tests.wechat_world import MORE, PUBLIC_URL, WechatWorld, until_pushing, world_in

one_loop = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.xdist_group("wechat-api")
ECHO = "回声:"
TWO = "".join(f"第{n}句，慢慢说给你听。" for n in range(75))
"""An answer of two messages: one for the response, one for the API."""
AT_ONCE_SECONDS = 3.0
PROTOCOL = set(load_protocols().texts.values())
_numbers = itertools.count(1)


def somebody() -> str:
    """Whom no other test talks with."""
    return f"oPerson{next(_numbers)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WechatWorld]:
    async with world_in(tmp_path_factory.mktemp("wechat"), {"WECHAT_DELIVERY": "certified"}) as world:
        await world.program.start()
        await until_pushing(world)
        yield world


def ask_for_two(world: WechatWorld, person: str) -> str:
    """Somebody says what is answered in two messages."""
    world.model.behave(Answer(TWO))
    return world.wechat.say(person, "说说看")


def assert_two(texts: list[str], following: str = "") -> None:
    """Both messages were shown, once, in order, before what follows."""
    together = "".join(texts)
    assert re.findall(r"第(\d+)句", together) == [str(n) for n in range(75)]
    assert together.endswith(following)


async def until_held(world: WechatWorld, person: str) -> None:
    """Until something is kept for somebody's next message."""
    query = (
        "SELECT d.id FROM deliveries d JOIN conversations c ON c.id = d.conversation_id"
        " WHERE c.chat_id = ? AND d.state = 'held'"
    )
    place = place_of(world.wechat.app_id, person).encode()
    await until(lambda: bool(rows(world.program.folder / "data", query, place)))


# --- the token --------------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("errcode", [40001, 42001, 40014])
async def test_a_stale_token_is_renewed_once_and_the_message_sent_again(
    world: WechatWorld, errcode: int
) -> None:
    person, wechat = somebody(), world.wechat
    asked, issued, sends = wechat.calls[STABLE_TOKEN], wechat.tokens_issued, wechat.calls[SEND]
    wechat.expire_token(errcode)
    ask_for_two(world, person)
    assert_two(await wechat.wait_for(person, 2))
    assert wechat.calls[STABLE_TOKEN] == asked + 1 and wechat.tokens_issued == issued + 1
    assert wechat.calls[SEND] == sends + 2, "refused, and sent again"
    assert wechat.forced_refreshes == 0, "the ordinary way gave a good one"


@one_loop
async def test_a_token_that_is_refused_though_it_is_the_latest_is_forced_once(world: WechatWorld) -> None:
    person, wechat = somebody(), world.wechat
    forced, sends = wechat.forced_refreshes, wechat.calls[SEND]
    wechat.fail_next(SEND, times=2, errcode=40001)
    ask_for_two(world, person)
    await wechat.wait_until(lambda: wechat.calls[SEND] == sends + 2)
    assert wechat.forced_refreshes == forced + 1
    assert_two(await wechat.wait_for(person, 2))
    assert wechat.calls[SEND] == sends + 3, "renewed once, then the outbox's own time to try again"


@one_loop
async def test_many_sends_at_once_share_one_refresh(world: WechatWorld) -> None:
    people, wechat = [somebody() for _ in range(30)], world.wechat
    asked, issued = wechat.calls[STABLE_TOKEN], wechat.tokens_issued
    world.model.gate.clear()
    for person in people:
        ask_for_two(world, person)
    await until(lambda: world.model.answering == len(people))
    wechat.expire_token()
    world.model.gate.set()
    for person in people:
        assert_two(await wechat.wait_for(person, 2))
    assert wechat.calls[STABLE_TOKEN] == asked + 1 and wechat.tokens_issued == issued + 1


async def test_a_token_is_renewed_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wechat_api, "TOKEN_SECONDS", 6)
    monkeypatch.setattr(wechat_api, "TOKEN_OVERLAP_SECONDS", 2)
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "certified"}) as world:
        await world.program.start()
        while world.wechat.tokens_issued < 2:  # one conversation after the other, all the while
            person = somebody()
            ask_for_two(world, person)
            assert_two(await world.wechat.wait_for(person, 2))
        assert world.wechat.refusals.keys() <= {40003}, "not one call went out with a token that had ended"


# --- windows, counts and quotas ---------------------------------------------------------------------


@one_loop
async def test_what_the_count_does_not_allow_comes_with_the_next_message(world: WechatWorld) -> None:
    person, wechat = somebody(), world.wechat
    refused = wechat.refusals[45047]
    world.model.gate.clear()
    ask_for_two(world, person)
    await until(lambda: world.model.answering == 1)
    wechat.exhaust(person)
    world.model.gate.set()
    await wechat.wait_until(lambda: wechat.refusals[45047] > refused)
    await until_held(world, person)
    assert len(wechat.on_phone(person)) == 1
    wechat.say(person, "你好")
    await wechat.wait_until(lambda: f"{ECHO}你好" in "".join(wechat.on_phone(person)))
    assert_two(wechat.on_phone(person), f"{ECHO}你好")


@one_loop
async def test_what_comes_after_the_window_comes_with_the_next_message(world: WechatWorld) -> None:
    person, wechat = somebody(), world.wechat
    world.model.gate.clear()
    ask_for_two(world, person)
    await until(lambda: world.model.answering == 1)
    wechat.forward(hours=49)
    world.model.gate.set()
    await wechat.wait_until(lambda: wechat.refusals[45015] > 0)
    await until_held(world, person)
    assert len(wechat.on_phone(person)) == 1
    wechat.say(person, "两天后")
    await wechat.wait_until(lambda: f"{ECHO}两天后" in "".join(wechat.on_phone(person)))
    assert_two(wechat.on_phone(person), f"{ECHO}两天后")


async def test_an_exhausted_quota_is_the_operators_to_see_and_loses_nothing(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "certified"}) as world:
        await world.program.start()
        wechat, person = world.wechat, somebody()
        wechat.quota_left = 0
        ask_for_two(world, person)
        await wechat.wait_until(lambda: wechat.refusals[45009] > 0)
        assert len(await wechat.wait_for(person, 1)) == 1
        async with asyncio.timeout(AT_ONCE_SECONDS):
            while "quota_exhausted" not in (health := (await world.health())["wechat"])["detail"]:
                await asyncio.sleep(0.02)  # another process has no event to wait on
        assert health["state"] == "degraded"
        wechat.quota_left = 1000
        # The rest comes with the next message, before its answer; that one is too long itself.
        world.model.behave(Answer(TWO))
        wechat.say(person, "接着呢")
        seen = await wechat.wait_for(person, 2)
        assert "第74句" in seen[1]
        # Nobody waits for the quota of tomorrow with what rides on a response.
        said = wechat.say(person, "还有呢")
        await wechat.settled()
        while f"{ECHO}还有呢" not in "".join(wechat.on_phone(person)):
            assert f">{MORE}</a>" in wechat.on_phone(person)[-1], "who is owed more is told how to get it"
            wechat.press_link(person, MORE)
            await wechat.settled()
        together = "".join(wechat.on_phone(person))
        assert re.findall(r"第(\d+)句", together) == [str(n) for n in range(75)] * 2
        assert all(one.duration < AT_ONCE_SECONDS for one in wechat.tried[said])
        log = world.program.output.read_text()
        assert re.search(r"\[error .*quota_exhausted", log)


# --- what an account may ----------------------------------------------------------------------------


async def test_an_account_that_may_not_push_after_all_answers_on_the_tries(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "certified"}, certified=False) as world:
        await world.program.start()
        wechat, person, slow = world.wechat, somebody(), somebody()
        ask_for_two(world, person)
        await wechat.wait_until(lambda: wechat.refusals[48001] > 0)
        await until_held(world, person)
        wechat.press_link(person, MORE)
        assert_two(await wechat.wait_for(person, 2))
        world.model.latency = 6.5
        wechat.say(slow, "慢慢想")
        assert await wechat.wait_for(slow, 1) == [f"{ECHO}慢慢想"]
        (shown,) = [shown for shown in wechat.shown if shown.openid == slow]
        assert shown.by == "passive" and shown.try_number == 2
        assert wechat.calls[SEND] <= 2, "it is not asked again"


@pytest.mark.parametrize("certified", [True, False])
async def test_what_an_account_may_is_found_out(tmp_path: Path, certified: bool) -> None:
    async with world_in(tmp_path, certified=certified) as world:
        await world.program.start()
        person, wechat = somebody(), world.wechat
        await wechat.wait_until(lambda: wechat.refusals[40003 if certified else 48001] > 0)
        ask_for_two(world, person)
        await wechat.wait_until(lambda: bool(wechat.on_phone(person)))
        if certified:
            assert_two(await wechat.wait_for(person, 2))
            assert [shown.by for shown in wechat.shown] == ["passive", "api"]
        else:
            assert f">{MORE}</a>" in wechat.on_phone(person)[0]
            wechat.press_link(person, MORE)
            assert_two(await wechat.wait_for(person, 2))
            assert wechat.calls[SEND] == 1, "only to learn that it may not"


# --- an API that is away ----------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["auto", "certified"])
async def test_an_api_that_is_away_delays_no_webhook_and_loses_nothing(tmp_path: Path, delivery: str) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": delivery}) as world:
        wechat = world.wechat
        wechat.hang()
        await world.program.start()
        await wechat.wait_until(lambda: wechat.hanging > 0)
        slow, two, quick, endangered = (somebody() for _ in range(4))
        world.model.latency = 6.0
        late = wechat.say(slow, "慢慢想")
        await world.model.wait_for_requests(1)
        world.model.latency = 0.0
        begun = ask_for_two(world, two)
        assert len(await wechat.wait_for(two, 1, AT_ONCE_SECONDS)) == 1
        assert await _at_once(world, quick, "在吗") == [f"{ECHO}在吗"]
        (protocol,) = await _at_once(world, endangered, "我想自杀")
        assert protocol in PROTOCOL
        await wechat.wait_until(lambda: bool(wechat.tried[late]))
        wechat.recover()
        wechat.fail_next(SEND, html=True)
        wechat.fail_next(SEND, status=502)
        # What is fetched and what is pushed is whole in the end.
        assert await wechat.wait_for(slow, 1, 60.0) == [f"{ECHO}慢慢想"]
        if f">{MORE}</a>" in wechat.on_phone(two)[0]:
            wechat.press_link(two, MORE)
        assert_two(await wechat.wait_for(two, 2, 60.0))
        for key in (late, begun):
            assert all(one.duration < 4.9 or one.outcome == "timeout" for one in wechat.tried[key])
        assert not [shown for shown in wechat.shown if shown.kind == "trouble"]


async def _at_once(world: WechatWorld, person: str, text: str) -> list[str]:
    key = world.wechat.say(person, text)
    texts = await world.wechat.wait_for(person, 1, AT_ONCE_SECONDS)
    assert [one.outcome for one in world.wechat.tried[key]] == ["answered"]
    return texts


@one_loop
@pytest.mark.parametrize("how", [{"html": True}, {"status": 500}, {"html": True, "status": 502}])
async def test_a_failed_send_is_tried_again_and_shown_once(world: WechatWorld, how: dict[str, Any]) -> None:
    person = somebody()
    world.wechat.fail_next(SEND, **how)
    ask_for_two(world, person)
    assert_two(await world.wechat.wait_for(person, 2))
    await _then_nothing_more(world, person)


async def _then_nothing_more(world: WechatWorld, person: str) -> None:
    """What would come twice would come before the answer to this."""
    seen = len(world.wechat.on_phone(person))
    world.wechat.say(person, "嗯")
    assert (await world.wechat.wait_for(person, seen + 1))[seen:] == [f"{ECHO}嗯"]


# --- in words -----------------------------------------------------------------------------------------


def links(text: str) -> dict[str, str]:
    """What the `weixin://bizmsgmenu` links of a text say, by their labels."""
    found = re.findall(
        r'<a href="weixin://bizmsgmenu\?msgmenucontent=([^&"]+)&msgmenuid=1">([^<]+)</a>', text
    )
    return {label: words for words, label in found}


async def answer(world: WechatWorld, person: str, words: str, *, tapped: bool = False) -> str:
    """The one text that these words are answered with."""
    seen = len(world.wechat.on_phone(person))
    (world.wechat.press_link if tapped else world.wechat.say)(person, words)
    (text,) = (await world.wechat.wait_for(person, seen + 1))[seen:]
    return text


@one_loop
async def test_an_export_is_a_link_that_opens_for_whoever_has_it_and_no_other(world: WechatWorld) -> None:
    person = somebody()
    await answer(world, person, "我的猫叫年糕")
    text = await answer(world, person, "导出")
    found = re.search(rf'<a href="{PUBLIC_URL}(/webhooks/wechat/files/[\w-]+)">([^<]+)</a>', text)
    assert found is not None and found[2].endswith(".json")
    async with aiohttp.ClientSession(world.program.url) as session:
        for _ in range(2):
            async with session.get(found[1]) as response:
                assert response.status == 200
                exported = json.loads(await response.read())
                assert "我的猫叫年糕" in json.dumps(exported, ensure_ascii=False)
        *_, sealed = found[1].split("/")
        middle = len(sealed) // 2
        for tampered in (
            ("B" if sealed[0] != "B" else "C") + sealed[1:],
            sealed[:middle] + ("B" if sealed[middle] != "B" else "C") + sealed[middle + 1 :],
            sealed[:-8],
            "A" * len(sealed),
            "A",
        ):
            async with session.get(f"/webhooks/wechat/files/{tampered}") as response:
                assert response.status == 404
                assert "年糕" not in await response.text()


@one_loop
async def test_everything_is_erased_by_words(world: WechatWorld) -> None:
    person = somebody()
    await answer(world, person, "我的猫叫年糕")
    ask = links(await answer(world, person, "注销"))
    assert list(ask) == ["是的，全部抹掉", "算了，留着"]
    kept = await answer(world, person, ask["算了，留着"], tapped=True)
    assert not links(kept)
    ask = links(await answer(world, person, "注销"))
    gone = await answer(world, person, ask["是的，全部抹掉"], tapped=True)
    assert ECHO not in gone and gone != kept
    await answer(world, person, "我说过什么")
    assert "年糕" not in json.dumps(world.model.requests[-1], ensure_ascii=False)


@one_loop
async def test_settings_are_read_and_changed_by_words(world: WechatWorld) -> None:
    person = somebody()
    menu = links(await answer(world, person, "设置"))
    language = next(words for label, words in menu.items() if label.startswith("语言"))
    choices = links(await answer(world, person, language, tapped=True))
    english = next(words for label, words in choices.items() if "English" in label)
    await answer(world, person, english, tapped=True)
    english_menu = await answer(world, person, "settings")
    assert links(english_menu) and not re.search(r"语言|时区", english_menu)
    await answer(world, person, "设置：语言：中文")
    assert "语言" in await answer(world, person, "设置")
