"""Every kind of message and event that WeChat posts, as what core knows; and nothing else gets further than parsing."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.wechat.parse import KIND_CHARACTERS, Parsed, parse
from adapters.wechat.xml import DEPTH_LIMIT, BrokenXml, fields_of
from core.messages import Attachment, AttachmentKind, Command, IncomingMessage, Platform, ReachChanged
from tests.fakes import wechat_wire as wire

APP_ID, ACCOUNT, PERSON = "wx0123456789abcdef", "gh_0123456789ab", "oPerson-0123456789abcdefghij"
AT, MSG_ID = 1_780_000_000, "23000000000000001"
PLACE = f"{APP_ID}/{PERSON}"


def of(fields: wire.Fields, msg_id: str = MSG_ID) -> Parsed:
    """What is read of a message or, without a MsgId, an event of that person's."""
    return parse(wire.push(ACCOUNT, PERSON, AT, fields, msg_id), APP_ID)


def of_event(name: str, key: str | None = None, more: wire.Fields = ()) -> Parsed:
    return of(wire.event(name, key, more=more), "")


def said(parsed: Parsed) -> IncomingMessage:
    assert parsed.message is not None
    return parsed.message


# --- messages -------------------------------------------------------------------------------


def test_a_text_is_what_somebody_says() -> None:
    parsed = of(wire.text("  睡不着 ]]> <b>&amp;🌙 "))
    assert said(parsed) == IncomingMessage(
        platform=Platform.WECHAT,
        event_id=f"{APP_ID}:{PERSON}:{MSG_ID}",
        chat_id=PLACE,
        sender_id=PLACE,
        text="睡不着 ]]> <b>&amp;🌙",
        sent_at=datetime.fromtimestamp(AT, UTC),
    )
    assert (parsed.openid, parsed.account_id, parsed.reach, parsed.known) == (PERSON, ACCOUNT, None, True)


@pytest.mark.parametrize(
    ("fields", "attachment"),
    [
        (wire.image("http://mmbiz.example/p/0", "m1"), Attachment(AttachmentKind.PHOTO, file_id="m1")),
        (wire.voice("m2"), Attachment(AttachmentKind.VOICE, file_id="m2")),
        (wire.voice("m3", ""), Attachment(AttachmentKind.VOICE, file_id="m3")),
        (wire.video("m4", "t"), Attachment(AttachmentKind.VIDEO, file_id="m4")),
        (wire.video("m5", "t", short=True), Attachment(AttachmentKind.VIDEO, file_id="m5")),
        (wire.location(39.98, 116.31, "海淀区"), Attachment(AttachmentKind.VENUE, name="海淀区")),
        (wire.location(39.98, 116.31, ""), Attachment(AttachmentKind.LOCATION)),
        (wire.link("标题", "说明", "https://a.example"), Attachment(AttachmentKind.LINK, name="标题 说明")),
        (wire.link("", "", "https://a.example"), Attachment(AttachmentKind.LINK, name="https://a.example")),
    ],
)
def test_what_is_no_text_is_an_attachment(fields: wire.Fields, attachment: Attachment) -> None:
    message = said(of(fields))
    assert (message.text, message.attachments, message.command) == ("", (attachment,), None)


def test_what_wechat_heard_in_a_voice_is_what_was_said() -> None:
    message = said(of(wire.voice("m", "今天好累。")))
    assert (message.text, message.attachments) == ("今天好累。", ())


def test_a_link_with_a_novel_for_a_title_is_cut() -> None:
    (attachment,) = said(of(wire.link("标" * 5000, "", "https://a.example"))).attachments
    assert attachment.name == "标" * 500


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("设置", Command("settings")),
        (" 导出。", Command("export")),
        ("注销", Command("delete_me")),
        ("继续", Command("more")),
        ("Export", Command("export")),
        ("设置：语言：英文", Command("settings", "language en")),
        ("设置闹钟帮我想想", None),
    ],
)
def test_commands_are_whole_messages_in_words(text: str, command: Command | None) -> None:
    message = said(of(wire.text(text)))
    assert (message.command, message.alone) == (command, command is not None)


def test_an_empty_text_is_nothing_to_answer() -> None:
    parsed = of(wire.text(" \n"))
    assert (parsed.message, parsed.reach, parsed.known) == (None, None, True)


# --- events ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "", "qrscene_123", "qrscene_春天", "qrscene_"])
def test_who_subscribes_is_welcomed_and_can_be_reached(key: str | None) -> None:
    parsed = of_event("subscribe", key)
    assert said(parsed).command == Command("start")
    assert said(parsed).alone
    assert parsed.reach == ReachChanged(Platform.WECHAT, PLACE, reachable=True)


def test_who_unsubscribes_is_not_spoken_to() -> None:
    parsed = of_event("unsubscribe", "")
    assert parsed.message is None
    assert parsed.reach == ReachChanged(Platform.WECHAT, PLACE, reachable=False)


@pytest.mark.parametrize(("key", "name"), [("设置", "settings"), ("继续", "more"), ("help", "help")])
def test_a_click_of_the_menu_is_saying_its_words(key: str, name: str) -> None:
    parsed = of_event("CLICK", key)
    assert said(parsed).command == Command(name)
    assert parsed.known


@pytest.mark.parametrize(
    "fields",
    [
        wire.event("SCAN", "123", "ticket"),
        wire.event("VIEW", "https://a.example", more=(("MenuId", 213_748_348),)),
        wire.location_event(39.98, 116.31, 119.385),
    ],
)
def test_what_asks_for_nothing_is_known_and_not_answered(fields: wire.Fields) -> None:
    parsed = of(fields, "")
    assert (parsed.message, parsed.reach, parsed.known) == (None, None, True)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (wire.event("qualification_verify_success"), "qualification_verify_success"),
        (wire.event("TEMPLATESENDJOBFINISH", more=(("Status", "success"),)), "templatesendjobfinish"),
        (wire.event("a_new_event"), "a_new_event"),
        (wire.event("another_new_event"), "another_new_event"),
        (wire.event("CLICK", "no command of ours"), "click"),
        ((("MsgType", "file"), ("Title", "报告.pdf")), "file"),
    ],
)
def test_what_nobody_knows_is_not_answered_and_each_a_kind_of_its_own(fields: wire.Fields, kind: str) -> None:
    """Logged once per kind: the log is to say which."""
    parsed = of(fields, MSG_ID if kind == "file" else "")
    assert (parsed.message, parsed.reach, parsed.known) == (None, None, False)
    assert parsed.kind.lower() == kind


def test_a_kind_is_short_and_on_one_line() -> None:
    parsed = of_event("a line\nand " + "more " * 100)
    assert (len(parsed.kind) <= KIND_CHARACTERS, parsed.kind.split()) == (True, [parsed.kind])


# --- the same, once more ----------------------------------------------------------------------


def test_a_message_is_known_again_by_its_msg_id() -> None:
    one = wire.push(ACCOUNT, PERSON, AT, wire.text("一"), MSG_ID)
    retried = wire.push(ACCOUNT, PERSON, AT + 5, wire.text("一"), MSG_ID)
    other = wire.push(ACCOUNT, PERSON, AT, wire.text("一"), "23000000000000002")
    assert parse(one, APP_ID).event_id == parse(retried, APP_ID).event_id != parse(other, APP_ID).event_id


def test_an_event_is_known_again_by_who_when_and_what() -> None:
    def event_id(openid: str = PERSON, at: int = AT, name: str = "CLICK") -> str:
        return parse(wire.push(ACCOUNT, openid, at, wire.event(name, "设置")), APP_ID).event_id

    events = {
        event_id(),
        event_id(openid="oAnother"),
        event_id(at=AT + 1),
        event_id(name="subscribe"),
        event_id(name="a_new_event"),
        event_id(name="another_new_event"),
        event_id(),
    }
    assert len(events) == 6


def test_a_subscription_by_a_code_and_one_without_are_the_same_kind_of_event() -> None:
    """Two words for the Event in one second would be two welcomes."""
    assert of_event("subscribe", "qrscene_1").message is not None
    assert of_event("subscribe", "qrscene_1").event_id == of_event("subscribe", "qrscene_2").event_id


def test_people_of_two_accounts_with_one_openid_are_two() -> None:
    xml = wire.push(ACCOUNT, PERSON, AT, wire.text("一"), MSG_ID)
    one, other = said(parse(xml, APP_ID)), said(parse(xml, "wx5823bf96d3bd56c7"))
    assert one.chat_id != other.chat_id
    assert one.sender_id != other.sender_id
    assert one.event_id != other.event_id


# --- what no WeChat sends -----------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
WHOLE = wire.push(ACCOUNT, PERSON, AT, wire.text("%s"), MSG_ID).replace("<![CDATA[%s]]>", "%s")


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<",
        "success",
        "{}",
        "<xml>",
        "<xml/>",
        "<xml></xml>",
        "<xml>text</xml>",
        "<html></html>",
        "<xml></xml><xml></xml>",
        WHOLE.removesuffix("</xml>"),
        WHOLE % "&undefined;",
        WHOLE % "\x00",
        WHOLE % "\ud800",
        WHOLE % "<b>nested</b>",
        WHOLE % ("<b>" * 5000 + "</b>" * 5000),
        WHOLE % "<?php system('id') ?>",
        WHOLE % "x" + "<!-- a comment is nothing",
        f"<!DOCTYPE xml>{WHOLE % 'x'}",
        f'<!DOCTYPE xml SYSTEM "http://127.0.0.1:1/evil.dtd">{WHOLE % "x"}',
        f'<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]>{WHOLE % "&e;"}',
        f'<!DOCTYPE xml [<!ENTITY % e SYSTEM "http://127.0.0.1:1/"> %e;]>{WHOLE.replace("%s", "x")}',
        f'<!DOCTYPE xml [<!ENTITY l0 "ha">{LAUGHS}]>{WHOLE % "&l9;"}',
        (WHOLE % "x").replace(f"<FromUserName><![CDATA[{PERSON}]]></FromUserName>", ""),
        (WHOLE % "x").replace(PERSON, ""),
        (WHOLE % "x").replace(ACCOUNT, ""),
        (WHOLE % "x").replace("<MsgType><![CDATA[text]]></MsgType>", ""),
        (WHOLE % "x").replace(str(AT), "soon"),
        (WHOLE % "x").replace(str(AT), "9" * 30),
        (WHOLE % "x").replace(str(AT), "9" * 5000),
        (WHOLE % "x").replace(MSG_ID, "one"),
    ],
)
def test_what_no_wechat_sends_is_broken(xml: str) -> None:
    with pytest.raises(BrokenXml):
        parse(xml, APP_ID)


def test_nothing_is_nested_deeper_than_it_may_be() -> None:
    def nested(depth: int) -> str:
        return "<xml>" + "<a>" * (depth - 1) + "</a>" * (depth - 1) + "</xml>"

    assert fields_of(nested(DEPTH_LIMIT)) == {"a": ""}
    with pytest.raises(BrokenXml):
        fields_of(nested(DEPTH_LIMIT + 1))


# --- whatever comes -----------------------------------------------------------------------------

NAMES = re.findall(
    r"\w+",
    "ToUserName FromUserName CreateTime MsgType Content MsgId Event EventKey Ticket MediaId PicUrl Format"
    " Recognition ThumbMediaId Location_X Location_Y Scale Label Title Description Url Latitude Longitude"
    " Precision MenuId Encrypt bizmsgmenuid ScanCodeInfo SendPicsInfo",
)
KINDS = re.findall(
    r"\w+", "text image voice video shortvideo location link event file device_text device_event"
)
EVENTS = re.findall(r"\w+", "subscribe unsubscribe SCAN CLICK VIEW LOCATION scancode_push pic_weixin bind")
KEYS = ["", "qrscene_1", "scanbarcode|1|2", "scanimage|", "设置", "继续", "last_trade_no_1"]
readable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
values = st.one_of(
    readable, st.integers().map(str), st.floats().map(str), st.sampled_from([*KINDS, *EVENTS, *KEYS])
)
names = st.one_of(
    st.sampled_from(NAMES),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}(:[a-z]{1,4})?", fullmatch=True),
)


def element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


cdata = values.map(lambda value: "<![CDATA[" + value.replace("]]>", "]] >") + "]]>")
escaped = values.map(lambda value: value.replace("&", "&amp;").replace("<", "&lt;"))
leaves = st.one_of(cdata, escaped, st.just("&#10;"), st.just("<!-- -->"))
nested = st.recursive(
    leaves,
    lambda inner: st.lists(st.builds(element, names, inner), max_size=3).map("".join),
    max_leaves=6,
)
elements = st.builds(element, names, nested)
whole_kind = st.one_of(
    st.sampled_from(KINDS).map(lambda kind: element("MsgType", kind)),
    st.builds(
        lambda event, key: element("MsgType", "event") + element("Event", event) + element("EventKey", key),
        st.sampled_from(EVENTS),
        st.sampled_from(KEYS),
    ),
)
beginnings = st.sampled_from(
    [
        "",
        f"<ToUserName>{ACCOUNT}</ToUserName><FromUserName>{PERSON}</FromUserName><CreateTime>{AT}</CreateTime>",
    ]
)


def check(xml: str) -> None:
    """Parsed or BrokenXml, and what was parsed can be stored, named and logged."""
    try:
        parsed = parse(xml, APP_ID)
    except BrokenXml:
        return
    assert parsed.openid and parsed.account_id
    assert len(parsed.event_id) <= 255
    assert len(parsed.kind) <= KIND_CHARACTERS
    assert "\n" not in parsed.kind
    if parsed.message is not None:
        texts = [parsed.message.text, *(one.name for one in parsed.message.attachments)]
        assert all(text.encode() or not text for text in texts)
        assert parsed.message.text or parsed.message.attachments or parsed.message.command


@given(beginnings, whole_kind, st.lists(elements, max_size=8), st.booleans())
@example("", "", [element("MsgType", "text")], False)
def test_whatever_fields_come_they_are_parsed_or_broken(
    beginning: str, kind: str, more: list[str], last: bool
) -> None:
    parts = [*more, beginning, kind] if last else [beginning, kind, *more]
    check(element("xml", "".join(parts)))


@given(st.one_of(st.text(), st.text(string.printable), st.text("<>/!&;[]xml?CDAT \"'-")))
def test_whatever_text_comes_it_is_parsed_or_broken(xml: str) -> None:
    check(xml)


@given(st.integers(0, 400), st.integers(0, 40), readable)
def test_a_message_with_a_piece_missing_or_more_is_parsed_or_broken(at: int, size: int, more: str) -> None:
    whole = WHOLE % "好"
    check(whole[:at] + more + whole[at + size :])
