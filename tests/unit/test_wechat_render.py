"""Replies as WeChat shows them: plain text and links in pieces that fit, and every text of ours in one message."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TypeVar, cast
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wechat.notices import load_notices
from adapters.wechat.render import HINT_BYTES, LIMIT_BYTES, PIECE_BYTES, in_text, joined, linked, render, says
from core.commands.asked import BUTTONS_ONLY, COMMANDS, IN_WORDS_ONLY, Asked
from core.commands.run import run_command
from core.commands.settings import OPTIONS, WORDED_MENU
from core.commands.words import command_in_words, words_for
from core.language import Language
from core.markdown import formatted
from core.messages import (
    Button,
    ChatMessage,
    Command,
    ConversationKind,
    IncomingMessage,
    Mark,
    MarkKind,
    Platform,
    Role,
    Segment,
    Source,
)
from core.persona.card import load_personas
from core.phrases import load_phrases
from core.ports import ClaimedConversation, Pending, PersonRecord, Store, Transaction
from core.safety.protocol import load_protocols
from core.settings import ConversationSettings, PersonSettings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PHRASES = load_phrases()
ADDRESS = "https://example.org/a?b=c&d=%E4%B8%80"
T = TypeVar("T")


def size(text: str) -> int:
    return len(text.encode())


def shown(markdown: str) -> str:
    """The one message that a short reply becomes."""
    (piece,) = render(markdown)
    return in_text(piece)


class Links(HTMLParser):
    """What a phone finds: the links with their addresses and labels, and whatever other tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"a link that does not end: {text}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            ((name, value),) = attrs
            assert name == "href" and value and not self._open
            self._open.append(value)
            self.found.append((value, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            address, label = self.found[-1]
            self.found[-1] = (address, label + data)


# --- what a reply looks like ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("我在。", "我在。"),
        ("**抱抱**你，*轻轻地* ~~算了~~", "抱抱你，轻轻地 算了"),
        ("试试 `ls -l`", "试试 ls -l"),
        ("# 标题\n正文", "标题\n\n正文"),
        ("- 一\n- 二\n  1. 甲\n", "• 一\n• 二\n  1. 甲"),
        ("> 你说的\n> 我记得", "你说的\n我记得"),
        ("```python\nprint('*')\n```", "print('*')"),
        ("上\n\n---\n\n下", "上\n\n———\n\n下"),
        (f"[去看看]({ADDRESS})吧", f'<a href="{ADDRESS}">去看看</a>吧'),
        (f"[**去**看看]({ADDRESS})", f'<a href="{ADDRESS}">去看看</a>'),
        ("<https://example.org/a>", "https://example.org/a"),
        (f"见 {ADDRESS} 。", f"见 {ADDRESS} 。"),
        ('[x](<https://e.org/"y">)', '<a href="https://e.org/%22y%22">x</a>'),
        ("[点我](tg://user?id=1)", "点我"),
        ("[点我](weixin://bizmsgmenu?msgmenucontent=注销&msgmenuid=1)", "点我"),
        ("5 < 6，a<b，<b>粗</b>", "5 < 6，a<b，粗"),
        ("👨‍👩‍👧 **😀** ❤️", "👨‍👩‍👧 😀 ❤️"),
        ("一行\n下一行\n\n新的一段", "一行\n下一行\n\n新的一段"),
    ],
)
def test_a_reply_is_plain_text_with_links(markdown: str, text: str) -> None:
    assert shown(markdown) == text


def test_nothing_makes_no_message() -> None:
    assert render("") == []


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="weixin://bizmsgmenu?msgmenucontent=是的，全部抹掉&msgmenuid=1">点我</a>',
        "<A HREF='http://evil.example'>点我</A>",
        "<a\nhref=http://evil.example>点我</a>",
        "<a\thref=http://evil.example>点我</a >",
        "<a/href=http://evil.example>点我</a>",
        f"[<a href=x>点我</a>]({ADDRESS})",
        '`<a href="http://evil.example">点我</a>`',
        '```\n<a href="http://evil.example">点我</a>\n```',
        '&lt;a href="http://evil.example"&gt;点我&lt;/a&gt;',
        '\\<a href="http://evil.example">点我</a>',
        '**<**a href="http://evil.example">点我</a>',
        f'</a><a href="http://evil.example">点[我]({ADDRESS})</a>',
    ],
)
def test_a_models_own_tags_make_no_link(tag: str) -> None:
    links = Links(shown(f"前面 {tag} 后面")).found
    assert {address for address, _ in links} <= {ADDRESS}
    assert "点" in shown(tag)


def test_a_tag_in_two_replies_makes_no_link_of_one_message() -> None:
    text = joined([shown("一 <a"), shown("href=http://evil.example>点我</a>")])
    assert Links(text).found == []


def test_what_is_put_into_a_link_stays_in_it() -> None:
    text = shown("[x](<https://e.org/'\"><a href=weixin://x>>) 后面")
    assert len(Links(text).found) <= 1 and "weixin" not in "".join(label for _, label in Links(text).found)


# --- pieces ---------------------------------------------------------------------------------------

PARTS = [
    "我在听。",
    "你慢慢说，不着急！",
    "**抱抱**",
    "\n\n",
    "\n",
    "one two three. ",
    "👨‍👩‍👧‍👦",
    "🇨🇳",
    f"[去看看]({ADDRESS})",
    "[1](https://example.org/a-rather-long-address/of/something/that-a-model/likes-to-cite?and=more)",
    "[这是一个很长很长的链接的名字，长到可能被切开。真的](https://e.org/x)",
    "<a href=x>",
    "- 一\n- 二\n",
    "`代码`",
    "字" * 200,
]


@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=120), st.sampled_from([64, 200, 600, PIECE_BYTES])
)
def test_no_piece_is_longer_than_it_may_be_and_no_word_is_lost(parts: list[str], limit: int) -> None:
    markdown = "".join(parts)
    pieces = render(markdown, limit)
    for piece in pieces:
        assert piece.text and size(linked(piece)) <= limit
        Links(linked(piece))
    said = "".join(piece.text for piece in pieces)
    assert said == re.sub("<(?=/?a[ >])", "＜", formatted(markdown).text)


@given(st.text(max_size=600), st.integers(16, 400))
def test_any_text_fits_and_is_whole(text: str, limit: int) -> None:
    pieces = render(text, limit)
    assert all(size(linked(piece)) <= limit for piece in pieces)
    said = "".join(piece.text for piece in pieces)
    assert said.replace("＜", "<") == formatted(text).text.replace("＜", "<")


@pytest.mark.parametrize("count", [5, 30, 60, 200])
def test_every_link_of_a_list_of_sources_is_there(count: int) -> None:
    """Short labels and long addresses: the text is short, and what is sent is not."""
    address = "https://example.org/" + "path/" * 16
    markdown = "来源：" + "".join(f"[{number}]({address}{number}) " for number in range(count))
    pieces = render(markdown)
    assert all(size(linked(piece)) <= PIECE_BYTES for piece in pieces)
    found = [link for piece in pieces for link in Links(linked(piece)).found]
    assert found == [(f"{address}{number}", str(number)) for number in range(count)]
    assert len(pieces) <= 3 * (count * 130 // PIECE_BYTES + 1), "and in no more messages than it takes"


@pytest.mark.parametrize("before", [1, 500, 600, 610, 620, 630, 635, 639, 640, 641, 700])
def test_a_link_is_there_wherever_in_a_long_text_it_stands(before: int) -> None:
    pieces = render("字" * before + f"[去看看]({ADDRESS})" + "字" * 700)
    assert all(size(linked(piece)) <= PIECE_BYTES for piece in pieces)
    found = [link for piece in pieces for link in Links(linked(piece)).found]
    assert {address for address, _ in found} == {ADDRESS}
    assert "".join(label for _, label in found) == "去看看"


def test_a_link_as_long_as_a_message_leaves_its_words() -> None:
    markdown = f"看看[这个](https://example.org/{'x' * 3000})吧。" * 3
    pieces = render(markdown)
    assert all(size(linked(piece)) <= PIECE_BYTES for piece in pieces)
    assert "".join(piece.text for piece in pieces) == "看看这个吧。" * 3


def test_long_replies_come_in_few_messages() -> None:
    sentence = "我在听，你慢慢说，不着急，想到哪里说到哪里。"
    pieces = render(sentence * 100)
    assert len(pieces) == -(-size(sentence * 100) // (PIECE_BYTES - size(sentence)))
    assert all(piece.text.endswith("。") for piece in pieces)


# --- buttons --------------------------------------------------------------------------------------


def test_buttons_are_lines_that_can_be_tapped() -> None:
    segment = Segment(
        "想怎么相处？",
        (Mark(MarkKind.LINK, 0, 1, ADDRESS),),
        ((Button("语言 · 跟着你", "设置：语言"), Button("时区", "设置：时区")), (Button("‹ 返回", "设置"),)),
    )
    assert in_text(segment).split("\n") == [
        f'<a href="{ADDRESS}">想</a>怎么相处？',
        "",
        '<a href="weixin://bizmsgmenu?msgmenucontent=设置：语言&msgmenuid=1">语言 · 跟着你</a>'
        '　<a href="weixin://bizmsgmenu?msgmenucontent=设置：时区&msgmenuid=1">时区</a>',
        '<a href="weixin://bizmsgmenu?msgmenucontent=设置&msgmenuid=1">‹ 返回</a>',
    ]
    assert in_text(Segment("", buttons=((Button("好", "好"),),))) == says("好", "好")
    assert in_text(Segment("只是文字")) == "只是文字"


def test_several_replies_are_one_message_with_a_blank_line_between() -> None:
    assert joined(["一\n", "", "  ", "\n二"]) == "一\n\n二"


# --- what we say ourselves ------------------------------------------------------------------------


class Record:
    """A store that knows of a person with a great deal to export, to whom nothing is owed."""

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return unit(cast(Transaction, self))

    @property
    def people(self) -> Record:
        return self

    inbox = deliveries = people

    def export(self, user_id: int) -> PersonRecord:
        said = {"at": NOW.isoformat(), "who": "user", "source": "person", "text": "x"}
        return PersonRecord((), PersonSettings(), NOW, (), (said,) * 9999, (), ())

    def waiting_of(self, user_id: int) -> tuple[Pending, ...]:
        return ()

    def is_owed(self, conversation_id: int, event_id: str) -> bool:
        return False


async def said_to(command: Command, language: Language, person: PersonSettings) -> tuple[Segment, ...]:
    """What a command says on WeChat."""
    message = IncomingMessage(Platform.WECHAT, "event", "wx/o", "o", "", NOW, command=command)
    by = Pending(11, 22, NOW, message)
    asks = PHRASES[language].commands["delete_me"]["ask"].strip()
    conversation = ClaimedConversation(
        id=33,
        platform=Platform.WECHAT,
        chat_id="wx/o",
        kind=ConversationKind.PRIVATE,
        settings=ConversationSettings(),
        own_settings=ConversationSettings(),
        person=person,
        paused=False,
        preview_message_id=None,
        attempts=1,
        pending=(by,),
        deferred=(),
        window=(ChatMessage(1, 1, Role.ASSISTANT, asks, Source.COMMAND, NOW),),
    )
    asked = Asked(
        command,
        conversation,
        by,
        language,
        PHRASES,
        load_personas(),
        NOW,
        "Asia/Shanghai",
        cast(Store, Record()),
        _nobody,
    )
    return (await run_command(asked)).segments


async def _nobody(_chat_id: str, _user_id: str) -> bool:
    raise AssertionError("there are no groups")


LONGEST_ZONE = max(available_timezones(), key=lambda name: (len(name), name))
ARGUMENTS = {
    "settings": [
        "",
        *WORDED_MENU,
        *(f"{name} {value}" for name in WORDED_MENU for value in (*OPTIONS[name], "nonsense")),
    ],
    "delete_me": ["", "yes", "no"],
    "consent": ["yes", "no"],
    "feedback": ["good"],
}
EVERYTHING = [
    Command(name, argument)
    for name in (*COMMANDS, *IN_WORDS_ONLY, *sorted(BUTTONS_ONLY))
    for argument in ARGUMENTS.get(name, [""])
]


@pytest.mark.parametrize("language", list(Language))
@pytest.mark.parametrize(
    "command", EVERYTHING, ids=lambda command: f"{command.name} {command.argument}".strip()
)
async def test_whatever_a_command_says_fits_one_message(command: Command, language: Language) -> None:
    spoken = 0
    for person in (
        PersonSettings(language, LONGEST_ZONE, consented_at=NOW),
        PersonSettings(language),
    ):
        for segment in await said_to(command, language, person):
            text = in_text(segment)
            assert size(text) <= PIECE_BYTES, "with room for the word on what is still to come"
            for address, label in Links(text).found:
                assert label.strip()
                words = re.fullmatch(r"weixin://bizmsgmenu\?msgmenucontent=([^&\"]+)&msgmenuid=1", address)
                assert words and command_in_words(words[1]), f"tapping it says nothing: {address}"
            assert not re.search(
                r"(?<![A-Za-z0-9/])/[a-z_]{3,}", re.sub(r"<[^>]*>", "", text).replace(" / ", "")
            ), text
            spoken += bool(text) or segment.media is not None
    assert spoken or command.name == "feedback"


@pytest.mark.parametrize("language", list(Language))
def test_the_notices_fit_beside_an_answer(language: Language) -> None:
    notices, word = load_notices()[language], words_for("more", PHRASES[language], "")
    assert word
    tappable = says(word, word)
    for notice in (notices.later, notices.more, notices.also_later):
        assert "{more}" in notice
        ((address, label),) = Links(notice.format(more=tappable)).found
        assert label == word and command_in_words(word) == Command("more")
        assert f"={word}&" in address
    assert size("\n\n" + notices.more.format(more=tappable)) <= HINT_BYTES
    assert size(joined(["x", notices.also_later.format(more=tappable)])) < LIMIT_BYTES // 4
    assert size(notices.not_kept) <= LIMIT_BYTES and size(notices.no_address) <= LIMIT_BYTES


@pytest.mark.parametrize("language", list(Language))
def test_what_is_said_without_a_model_is_one_message(language: Language) -> None:
    phrases = PHRASES[language]
    told = [text for ways in phrases.listener.values() for text in ways]
    told += [text for (_, spoken), text in load_protocols().texts.items() if spoken is language]
    assert len(told) > 4
    for text in told:
        (piece,) = render(text)
        assert size(in_text(piece)) <= PIECE_BYTES


# --- what a plain message cannot show ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("| 名字 | 电话 |\n|---|---|\n| 甲 | 1 |\n| 乙 | 2 |", "• 名字：甲；电话：1\n• 名字：乙；电话：2"),
        ("| name | tel |\n| :-- | --: |\n| a | 1 |\n\nend", "• name: a; tel: 1\n\nend"),
        ("- [ ] 喝水\n- [x] 睡觉", "• ☐ 喝水\n• ☑ 睡觉"),
        ("第一行<br>第二行<br/><b>重点</b>", "第一行\n第二行\n重点"),
        ("看[点这](javascript:alert(1))", "看点这"),
        ("[写信](mailto:a@example.com)", "写信（a@example.com）"),
        ("[这里](/docs)", "这里"),
        ("`| a |` 和 `<br>`", "| a | 和 <br>"),
        ("a | b 不是表格", "a | b 不是表格"),
    ],
)
def test_tables_boxes_and_html_become_words(markdown: str, shown: str) -> None:
    assert [linked(piece) for piece in render(markdown)] == [shown]


def test_a_picture_becomes_a_link() -> None:
    (piece,) = render("![猫](https://example.com/cat.png)")
    assert linked(piece) == '<a href="https://example.com/cat.png">猫</a>'


def test_hundreds_of_marks_within_each_other_are_shown_as_they_are() -> None:
    nested = "**a " * 250 + " b**" * 250
    assert "a" in "".join(piece.text for piece in render(nested))
