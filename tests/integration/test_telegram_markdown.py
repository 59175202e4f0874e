"""Whatever a model writes can be sent: Markdown becomes text and entities by a parser, in pieces that fit."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.receive import make_bot
from adapters.telegram.render import LIMIT, render
from adapters.telegram.request import AiohttpRequest
from adapters.telegram.send import TelegramSender
from adapters.telegram.settings import TelegramSettings
from core.markdown import formatted
from core.messages import ConversationKind, Delivery, Mark, MarkKind, Platform, Segment
from storage.sql.segments import packed, unpacked
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi

PERSON = 7
OUTPUTS = 5000


def marked(segment: Segment) -> list[tuple[str, str, str]]:
    """What each mark sets off, and its value."""
    return [(mark.kind, segment.text[mark.start : mark.end], mark.value) for mark in segment.marks]


@pytest.mark.parametrize(
    ("markdown", "text", "marks"),
    [
        ("我在。", "我在。", []),
        ("**抱抱**你", "抱抱你", [("bold", "抱抱", "")]),
        ("*轻轻地* ~~算了~~", "轻轻地 算了", [("italic", "轻轻地", ""), ("strikethrough", "算了", "")]),
        ("试试 `ls`", "试试 ls", [("code", "ls", "")]),
        ("**粗*斜*粗**", "粗斜粗", [("bold", "粗斜粗", ""), ("italic", "斜", "")]),
        ("一行\n下一行\n\n新的一段", "一行\n下一行\n\n新的一段", []),
        ("# 标题\n正文", "标题\n\n正文", [("bold", "标题", "")]),
        ("- 一\n- 二\n  1. 甲\n  2. 乙\n", "• 一\n• 二\n  1. 甲\n  2. 乙", []),
        ("3. 三\n4. 四", "3. 三\n4. 四", []),
        ("> 你说的\n> 我记得", "你说的\n我记得", [("quote", "你说的\n我记得", "")]),
        ("> 一\n> > 二", "一\n\n二", [("quote", "一\n\n二", "")]),
        ("```python\nprint(1)\n```", "print(1)", [("pre", "print(1)", "python")]),
        ("[去看看](https://example.org/a?b=c)", "去看看", [("link", "去看看", "https://example.org/a?b=c")]),
        ("[点我](javascript:alert)", "[点我](javascript:alert)", []),
        ("[点我](tg://user?id=1)", "点我", []),
        ("[内网](http://localhost/x)", "内网", []),
        ("<b>不是网页</b> & 5 < 6 &amp; \\*", "<b>不是网页</b> & 5 < 6 & *", []),
        ("2 * 3 * 4 = 24，a_b_c，**没有结束", "2 * 3 * 4 = 24，a_b_c，**没有结束", []),
        ("    不是代码", "不是代码", []),
        ("不是标题\n---", "不是标题\n\n———", []),
        ("# ", "# ", []),
        (">" * 300 + "很深", ">" * 300 + "很深", []),
        ("👨‍👩‍👧 **😀**", "👨‍👩‍👧 😀", [("bold", "😀", "")]),
    ],
)  # fmt: skip
def test_markdown_becomes_text_and_marks(markdown: str, text: str, marks: list[tuple[str, str, str]]) -> None:
    segment = formatted(markdown)
    assert segment.text == text
    assert marked(segment) == marks


def test_a_code_block_that_is_cut_is_closed_and_opened_again() -> None:
    code = "\n".join(f"line {number}" for number in range(30))
    pieces = render(f"先看：\n\n```js\n{code}\n```\n完了", 60)
    assert "".join(piece.text for piece in pieces) == f"先看：\n\n{code}\n\n完了"
    blocks = [marked(piece) for piece in pieces]
    assert len(pieces) > 3 and all(marks[0][0] == "pre" and marks[0][2] == "js" for marks in blocks[1:-1])
    assert "".join(text for marks in blocks for kind, text, _ in marks) == code


FRAGMENTS = (
    "**", "*", "_", "__", "~~", "`", "```", "```py\n", "\n", "\n\n", "> ", ">>", "- ", "1. ", "# ", "### ",
    "[", "](", ")", "](http://a.b)", "![", "<", "</b>", "&amp;", "&#0;", "\\", "|", "---\n", "===\n", "    ", "\t",
    "😀", "👨‍👩‍👧‍👦", "🇨🇳", "e\u0301", "我", "。", "字" * 40, "word ", "https://a.b/?a=1&b=2 ", "$x^2$",
    "\u200f",
)  # fmt: skip
markdowns = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=60).map("".join)


@given(markdowns, st.integers(4, 60))
def test_any_pieces_join_and_their_marks_are_those_of_the_whole(markdown: str, limit: int) -> None:
    whole, pieces = formatted(markdown), render(markdown, limit)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert all(len(piece.text.encode("utf-16-le", "surrogatepass")) // 2 <= limit for piece in pieces)
    assert covered(whole) == [kinds for piece in pieces for kinds in covered(piece)]


def covered(segment: Segment) -> list[set[tuple[MarkKind, str]]]:
    """For each character, what it is set off as."""
    kinds: list[set[tuple[MarkKind, str]]] = [set() for _ in segment.text]
    for mark in segment.marks:
        assert 0 <= mark.start < mark.end <= len(segment.text)
        for index in range(mark.start, mark.end):
            kinds[index].add((mark.kind, mark.value))
    return kinds


@given(st.text(alphabet="我在听，你慢慢说。abc XYZ？！\n", min_size=1, max_size=200))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert formatted(text).text.split() == text.split()


@given(markdowns)
def test_a_row_keeps_a_segment_as_it_is(markdown: str) -> None:
    segment = formatted(markdown)
    assert unpacked(packed(segment)) == segment
    link = replace(segment, marks=(Mark(MarkKind.LINK, 0, 1, "https://a.b/？"),))
    assert unpacked(packed(link)) == link


@pytest.fixture
async def api() -> AsyncIterator[FakeTelegramApi]:
    async with FakeTelegramApi() as api:
        yield api


async def test_five_thousand_outputs_are_sent_without_one_error(api: FakeTelegramApi) -> None:
    """Over the real library and HTTP, to a server that is stricter about entities than the real one."""
    api.user_says(PERSON, "你好")
    request = AiohttpRequest()
    sender = TelegramSender(
        make_bot(TelegramSettings(token=TOKEN, webhook=False, api_base_url=api.base_url), request, request),
        ButtonSeal(TOKEN),
    )
    chance = random.Random(20261124)
    ids, formats = count(1), 0
    try:
        for _ in range(OUTPUTS):
            output = "".join(chance.choice(FRAGMENTS) for _ in range(chance.randint(1, 80)))
            if chance.random() < 0.01:
                output *= 60  # longer than one message
            for segment in render(output):
                formats += len(segment.marks)
                await sender.send(
                    Delivery(next(ids), 1, Platform.TELEGRAM, str(PERSON), ConversationKind.PRIVATE, segment)
                )
    finally:
        await request.shutdown()
    assert api.calls["sendmessage:400"] == 0
    assert api.calls["sendmessage:200"] > OUTPUTS * 0.9
    assert formats > OUTPUTS, "they were no plain texts"
    assert all(len(message.text.encode("utf-16-le")) // 2 <= LIMIT for message in api.sent)
