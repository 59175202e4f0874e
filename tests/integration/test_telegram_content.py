"""Whatever a person can send in a private chat becomes words, by the real library's reading of real payloads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.parse import Me, parse
from core.messages import IncomingMessage
from core.wording import in_words

BOT_ID = "123456789"
ME = Me(int(BOT_ID), "xinyu_fake_bot", ButtonSeal("123456789:token"))
FILE = {"file_id": "F", "file_unique_id": "U"}
STICKER = {**FILE, "type": "regular", "width": 9, "height": 9, "is_animated": False, "is_video": False}
PHOTO = [{**FILE, "width": 90, "height": 90}]
THEM = {"id": 7, "is_bot": False, "first_name": "小雨", "language_code": "zh-hans"}
US = {"id": int(BOT_ID), "is_bot": True, "first_name": "心语"}
MING = {"id": 8, "is_bot": False, "first_name": "阿明"}
CHANNEL = {"id": -2, "type": "channel", "title": "晚安"}
CHAT = {"id": 7, "type": "private", "first_name": "小雨"}


def sent(**content: Any) -> dict[str, Any]:
    return {"message_id": 1, "date": 1_780_000_000, "chat": CHAT, "from": THEM, **content}


def words(**content: Any) -> str:
    parsed = parse({"update_id": 1, "message": sent(**content)}, ME)
    assert isinstance(parsed, IncomingMessage), parsed
    return in_words(parsed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"text": "睡不着"}, "睡不着"),
        ({"photo": PHOTO}, "（发来一张照片，你现在还看不到里面的内容）"),
        ({"photo": PHOTO, "caption": "今天的晚霞"}, "（发来一张照片，你现在还看不到里面的内容）\n今天的晚霞"),
        ({"voice": {**FILE, "duration": 12}}, "（发来一段 12 秒的语音，你现在还听不了）"),
        ({"audio": {**FILE, "duration": 9, "title": "雨声"}}, "（发来一段音频：雨声，你现在还听不了）"),
        ({"audio": {**FILE, "duration": 9}}, "（发来一段音频：没有名字，你现在还听不了）"),
        ({"video": {**FILE, "duration": 9, "width": 9, "height": 9}}, "（发来一段视频，你现在还看不到里面的内容）"),
        ({"video_note": {**FILE, "duration": 5, "length": 240}}, "（发来一段 5 秒的视频留言，你现在还看不到也听不到）"),
        (
            {"animation": {**FILE, "duration": 2, "width": 9, "height": 9}, "document": FILE},
            "（发来一个动图，你现在还看不到里面的内容）",
        ),
        ({"document": {**FILE, "file_name": "日记{0}.txt"}}, "（发来一个文件：日记{0}.txt，你现在还打不开）"),
        (
            {"sticker": {**STICKER, "emoji": "😭"}},
            "😭",
        ),
        (
            {"sticker": STICKER},
            "（发来一个贴纸）",
        ),
        ({"location": {"longitude": 1.0, "latitude": 2.0}}, "（发来一个位置）"),
        (
            {
                "location": {"longitude": 1.0, "latitude": 2.0},
                "venue": {"location": {"longitude": 1.0, "latitude": 2.0}, "title": "天台", "address": "?"},
            },
            "（发来一个地点：天台）",
        ),
        ({"contact": {"phone_number": "1", "first_name": "妈妈"}}, "（发来一个联系人：妈妈）"),
        ({"dice": {"emoji": "🎲", "value": 6}}, "（掷了 🎲，结果是 6）"),
    ],
)  # fmt: skip
def test_each_kind_in_words(content: dict[str, Any], said: str) -> None:
    assert words(**content) == said


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ({"type": "user", "sender_user": MING}, "（转发阿明的话）\n别想太多"),
        ({"type": "hidden_user", "sender_user_name": "某人"}, "（转发某人的话）\n别想太多"),
        ({"type": "chat", "sender_chat": {"id": -1, "type": "group", "title": "家"}}, "（转发家的话）\n别想太多"),
        ({"type": "channel", "chat": CHANNEL, "message_id": 1}, "（转发晚安的话）\n别想太多"),
        ({"type": "channel", "chat": {"id": -2, "type": "channel"}, "message_id": 1}, "（转发别人的话）\n别想太多"),
    ],
)  # fmt: skip
def test_who_said_what_is_forwarded(origin: dict[str, Any], said: str) -> None:
    assert words(text="别想太多", forward_origin={"date": 1_780_000_000, **origin}) == said


def test_what_it_answers_is_part_of_it() -> None:
    ours = {**sent(text="你在怕什么？"), "from": US}
    assert words(text="说不清", reply_to_message=ours) == "（这是在回应你说的：「你在怕什么？」）\n说不清"
    own = sent(text="一" * 400)
    assert (
        words(text="还是这个", reply_to_message=own) == f"（这是接着自己说的：「{'一' * 300}…」）\n还是这个"
    )
    picked = {"text": "怕什么", "position": 2}
    assert words(text="很多", reply_to_message=ours, quote=picked) == "（这是在回应你说的：「怕什么」）\n很多"
    silent = sent(photo=PHOTO)
    assert words(text="这张", reply_to_message=silent) == "这张"


def test_in_the_language_of_the_words_else_of_the_person() -> None:
    assert words(photo=PHOTO, caption="my cat").startswith("(sends a photo;")
    english = {**THEM, "language_code": "en"}
    assert words(photo=PHOTO, **{"from": english}).startswith("(sends a photo;")


@pytest.mark.parametrize(
    "content",
    [
        {"new_chat_title": "别的名字"},
        {"pinned_message": sent(text="以前的")},
        {"delete_chat_photo": True},
        {},
    ],
)
def test_what_nobody_said_is_no_message(content: dict[str, Any]) -> None:
    assert parse({"update_id": 1, "message": sent(**content)}, ME) in (
        "nothing_said",
        *(f"nothing_said_{name}" for name in content),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = (
    "text",
    "caption",
    "photo",
    "voice",
    "sticker",
    "document",
    "contact",
    "quote",
    "reply_to_message",
    "poll",
    "from",
    "chat",
)


@given(st.dictionaries(st.sampled_from(KINDS), json_values, max_size=4))
def test_no_update_whatsoever_breaks_it(content: dict[str, Any]) -> None:
    parsed = parse({"update_id": 1, "message": sent(**content)}, ME)
    assert isinstance(parsed, IncomingMessage | str)
