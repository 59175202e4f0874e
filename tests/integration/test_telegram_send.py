"""Each thing that a segment can be, sent by the real library to the strict fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.receive import make_bot
from adapters.telegram.request import AiohttpRequest
from adapters.telegram.send import TelegramSender
from adapters.telegram.settings import TelegramSettings
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.messages import (
    Button,
    ConversationKind,
    Delivery,
    Mark,
    MarkKind,
    Media,
    MediaKind,
    Platform,
    Segment,
)
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi

PERSON, GROUP = 7, -77
SEAL = ButtonSeal(TOKEN)


@dataclass
class Way:
    api: FakeTelegramApi
    sender: TelegramSender

    async def send(self, segment: Segment, place: str = str(PERSON)) -> str | None:
        return await self.sender.send(
            Delivery(1, 1, Platform.TELEGRAM, place, ConversationKind.PRIVATE, segment)
        )


@pytest_asyncio.fixture
async def way() -> AsyncIterator[Way]:
    async with FakeTelegramApi() as api:
        request = AiohttpRequest()
        settings = TelegramSettings(token=TOKEN, webhook=False, api_base_url=api.base_url)
        api.user_says(PERSON, "你好")
        api.user_says(PERSON, "大家好", chat_type="supergroup", chat_id=GROUP)
        yield Way(api, TelegramSender(make_bot(settings, request, request), SEAL))
        await request.shutdown()


@pytest.mark.parametrize("kind", MediaKind)
async def test_media_goes_out_whole_with_its_caption(way: Way, kind: MediaKind) -> None:
    data = bytes(range(256)) * 40
    segment = Segment(
        "这周的心情",
        marks=(Mark(MarkKind.BOLD, 0, 2),),
        buttons=((Button("好", "settings"),),),
        owner=str(PERSON),
        media=Media(kind, "mood.bin", data),
        silent=True,
    )
    message_id = await way.send(segment)
    (sent,) = way.api.sent
    assert (sent.kind, sent.text, sent.file) == (kind, "这周的心情", ("mood.bin", data))
    assert (sent.silent, str(sent.message_id), sent.entities[0]["type"]) == (True, message_id, "bold")
    assert SEAL.open(sent.data_of("好"), str(PERSON), str(PERSON)) == "settings"


async def test_a_text_with_all_that_it_can_have(way: Way) -> None:
    way.api.user_says(PERSON, "在这里", chat_type="supergroup", chat_id=GROUP, thread_id=5)
    update = way.api.user_says(PERSON, "@xinyu_fake_bot", chat_type="supergroup", chat_id=GROUP)
    asked = way.api.message_id_of(update)
    segment = Segment("听见了", answers=str(asked), silent=True)
    await way.send(segment, f"{GROUP}/5")
    (sent,) = way.api.sent
    assert (sent.chat_id, sent.thread_id, sent.reply_to, sent.silent) == (GROUP, 5, asked, True)
    await way.send(replace(segment, answers="999999"), str(GROUP))
    assert way.api.sent[-1].reply_to is None, "what it answers is gone: it is sent all the same"


async def test_a_message_of_ours_becomes_another_and_comes_anew_where_it_is_gone(way: Way) -> None:
    first = await way.send(Segment("一", buttons=((Button("好", "settings"),),), owner="7"))
    assert first is not None
    assert await way.send(Segment("二", replaces=first)) == first
    assert await way.send(Segment("二", replaces=first)) == first, "once more is no error"
    assert await way.send(Segment("三", replaces="4711")) != first
    assert way.api.sent_to(PERSON) == ["二", "三"]
    last = await way.send(Segment("四", buttons=((Button("好", "settings"),),), owner="7"))
    for _ in range(2):
        assert await way.send(Segment("", replaces=last)) is None
    assert (way.api.sent[-1].text, way.api.sent[-1].buttons) == ("四", ())


async def test_what_telegram_refuses_in_the_words_of_core(way: Way) -> None:
    with pytest.raises(RecipientGone):
        await way.send(Segment("有人吗"), "4242")
    with pytest.raises(RecipientGone):
        await way.send(Segment("有人吗"), f"{GROUP}/99")
    with pytest.raises(DeliveryFailed) as refused:
        await way.send(Segment("太长" * 3000))
    assert refused.value.permanent
    way.api.migrate(GROUP, -100777)
    with pytest.raises(ChatGoesOn) as moved:
        await way.send(Segment("还在吗"), str(GROUP))
    assert moved.value.new_chat_id == "-100777"
    way.api.block(PERSON)
    with pytest.raises(RecipientGone):
        await way.send(Segment("在吗"))


async def test_who_manages_a_group(way: Way) -> None:
    way.api.make_manager(GROUP, PERSON)
    assert await way.sender.may_manage(str(GROUP), str(PERSON))
    assert not await way.sender.may_manage(f"{GROUP}/5", "8")
    assert await way.sender.may_manage(str(GROUP), "1087968824"), "an administrator who stays anonymous"
