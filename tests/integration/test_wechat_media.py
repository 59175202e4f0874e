"""Pictures and voice notes through the temporary-media upload, and what it does not take as a link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.wechat.api import Session, WechatApi
from adapters.wechat.files import FileLinks
from adapters.wechat.notices import load_notices
from adapters.wechat.places import place_of
from adapters.wechat.send import WechatSender
from adapters.wechat.settings import Delivery as Strategy
from adapters.wechat.settings import WechatAccount
from core.errors import DeliveryFailed, HeldBack, RecipientGone
from core.messages import ConversationKind, Delivery, Media, MediaKind, Platform, Segment
from storage.shared_cache import LocalCache
from tests.fakes.wechat_api import SEND, UPLOAD
from tests.fakes.wechat_platform import FakeWechat

PERSON = "oann"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
AMR = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50  # a second at 12.2 kbit/s
ADDRESS = "https://xinyu.example"


@dataclass
class Desk:
    """A sender and the WeChat on the other side."""

    wechat: FakeWechat
    sender: WechatSender

    def delivery(self, segment: Segment, person: str = PERSON) -> Delivery:
        place = place_of(self.wechat.app_id, person)
        return Delivery(1, 1, Platform.WECHAT, place, ConversationKind.PRIVATE, segment)

    async def send(self, media: Media, text: str = "") -> None:
        await self.sender.send(self.delivery(Segment(text, media=media)))

    @property
    def kinds(self) -> list[str]:
        return [shown.kind for shown in self.wechat.shown if shown.by == "api"]


@asynccontextmanager
async def desk(*, certified: bool = True) -> AsyncIterator[Desk]:
    async with FakeWechat(certified=certified) as wechat:
        account = WechatAccount(
            "",
            wechat.app_id,
            wechat.token,
            wechat.secret,
            delivery=Strategy.AUTO,
            api_base_url=wechat.base_url,
            public_url=ADDRESS,
        )
        session = Session()
        api = WechatApi(account, LocalCache(), session)
        wechat.patience_seconds = 0.05
        wechat.webhook_url = "http://127.0.0.1:9"  # what she writes reaches nobody: it only opens the window
        wechat.say(PERSON, "你好")
        await wechat.settled()
        await api.look_whether_it_may_push()
        try:
            yield Desk(
                wechat,
                WechatSender({wechat.app_id: api}, FileLinks({wechat.app_id: account}, load_notices())),
            )
        finally:
            await session.close()


async def test_a_picture_and_a_voice_note_are_uploaded_and_shown() -> None:
    async with desk() as there:
        await there.send(Media(MediaKind.PHOTO, "mood.png", PNG))
        await there.send(Media(MediaKind.VOICE, "hello.amr", AMR))
        assert there.kinds == ["image", "voice"]
        assert [(kind, name) for kind, name, _ in there.wechat.uploads] == [
            ("image", "mood.png"),
            ("voice", "hello.amr"),
        ]


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.VOICE, "long.amr", b"#!AMR\n" + (b"\x3c" + bytes(31)) * 3_100),  # 62 s
        Media(MediaKind.VOICE, "note.ogg", b"OggS" + bytes(64)),
        Media(MediaKind.DOCUMENT, "xinyu.json", b"{}"),
        Media(MediaKind.PHOTO, "drawing.svg", b"<svg/>"),
    ],
    ids=["a voice note of 62 s", "ogg", "a document", "svg"],
)
async def test_what_the_upload_does_not_take_comes_as_a_link(media: Media) -> None:
    async with desk() as there:
        await there.send(media, "给你")
        (text,) = [shown.text for shown in there.wechat.shown if shown.by == "api"]
        assert there.wechat.calls[UPLOAD] == 0
        assert text.startswith("给你\n\n<a href=")
        assert f'"{ADDRESS}/webhooks/wechat/files/' in text and f">{media.name}</a>" in text


async def test_what_the_upload_refuses_comes_as_a_link_too() -> None:
    async with desk() as there:
        there.wechat.fail_next(UPLOAD, errcode=40005)
        await there.send(Media(MediaKind.PHOTO, "mood.png", PNG))
        assert there.kinds == ["text"]


async def test_an_upload_whose_token_went_stale_is_tried_once_more_with_its_file() -> None:
    async with desk() as there:
        await there.send(Media(MediaKind.PHOTO, "one.png", PNG))
        there.wechat.expire_token()
        await there.send(Media(MediaKind.PHOTO, "two.png", PNG))
        assert there.kinds == ["image", "image"]
        assert [data for _, _, data in there.wechat.uploads] == [PNG, PNG]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (45015, HeldBack),
        (45047, HeldBack),
        (43004, RecipientGone),
        (40003, RecipientGone),
        (45009, DeliveryFailed),
        (-1, DeliveryFailed),
        (45002, DeliveryFailed),
    ],
)
async def test_what_a_call_that_failed_means(code: int, error: type[Exception]) -> None:
    async with desk() as there:
        there.wechat.fail_next(SEND, errcode=code)
        with pytest.raises(error) as raised:
            await there.sender.send(there.delivery(Segment("在")))
        if isinstance(raised.value, DeliveryFailed):
            assert raised.value.permanent == (code == 45002)


@pytest.mark.parametrize(
    ("failure", "error"),
    [({"errcode": 48001}, HeldBack), ({"errcode": 45009}, DeliveryFailed), ({"status": 502}, DeliveryFailed)],
    ids=["not certified", "the quota", "away"],
)
async def test_what_cannot_be_now_is_not_asked_again_at_once(
    failure: dict[str, Any], error: type[Exception]
) -> None:
    async with desk() as there:
        there.wechat.fail_next(SEND, **failure)
        before = there.wechat.calls[SEND]
        for _ in range(3):
            with pytest.raises(error):
                await there.sender.send(there.delivery(Segment("在")))
        assert there.wechat.calls[SEND] == before + 1
