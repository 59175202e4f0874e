"""A reply in bubbles: all of it, in order, cut where a person would press send."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.bubbles import COMFORTABLE, LONGEST_PAUSE, MOST_BUBBLES, SHORTEST_PAUSE, bubbles

TALK = st.text(st.sampled_from("今天好累我在abc .。！？!?…”」\n\n，AB\t\u3000"), max_size=400)
"""Text with many places to cut it."""
CODE = "先看这段：\n\n```python\nprint('晚安')\n\nprint('明天见')\n```\n\n跑一下试试。"
LIST = (
    "可以这样试试：\n\n- 先把手机放远一点，别再刷了\n- 关灯，躺下，听听自己的呼吸\n\n做不到也没关系，我在。"
)
NUMBERED = (
    "Two things you could try tonight:\n\n1. Put the phone away.\n2) Breathe slowly.\n\nI'm here either way."
)
QUOTATION = "你刚才写的是：\n\n> 我觉得没有人在意我\n\n这句话我看了很久。你愿意多说一点吗？"


def texts(text: str) -> list[str]:
    return [bubble.text for bubble in bubbles(text)]


def without_blanks(text: str) -> str:
    return "".join(text.split())


@given(st.text() | TALK)
@example("")
@example(" \n\n ")
@example("一。" * 200)
def test_nothing_is_lost_and_nothing_changes_places(text: str) -> None:
    parts = texts(text)
    assert 1 <= len(parts) <= MOST_BUBBLES
    assert without_blanks("".join(parts)) == without_blanks(text)


@given(st.text() | TALK)
def test_no_bubble_is_blank_unless_all_is(text: str) -> None:
    assert all(part.strip() for part in texts(text)) or not text.strip()


@given(st.text() | TALK)
@example("嗯。\n\n好。\n\n" + "我在听，你慢慢说。" * 20)
def test_each_but_the_first_takes_its_time(text: str) -> None:
    first, *others = bubbles(text)
    assert first.pause_seconds == 0
    assert all(SHORTEST_PAUSE <= bubble.pause_seconds <= LONGEST_PAUSE for bubble in others)


def test_han_takes_as_long_as_twice_as_many_latin_letters() -> None:
    _, han, latin = bubbles("嗯。\n\n" + "心" * 25 + "\n\n" + "a" * 50)
    assert han.pause_seconds == latin.pause_seconds > SHORTEST_PAUSE


def test_a_longer_bubble_takes_longer_to_type() -> None:
    _, short, long, longest = bubbles("你好。\n\n嗯，我在的。\n\n" + "心" * 30 + "\n\n" + "心" * 59 + "\n\n")
    assert SHORTEST_PAUSE == short.pause_seconds < long.pause_seconds < longest.pause_seconds
    assert bubbles("嗯。\n\n" + "心" * 500)[1].pause_seconds == LONGEST_PAUSE


@pytest.mark.parametrize("text", [CODE, LIST, NUMBERED, QUOTATION])
def test_what_has_a_shape_stays_whole(text: str) -> None:
    assert texts(text) == [text]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("我在。", ["我在。"]),
        ("嗯，我在听。\n\n今天发生什么了？", ["嗯，我在听。", "今天发生什么了？"]),
        ("抱抱。你已经很努力了！今晚先好好睡。", ["抱抱。你已经很努力了！今晚先好好睡。"]),
        (
            "听起来你今天真的撑了很久，换作谁都会累的。被当众那样说，心里一定又委屈又难堪。"
            "你不用急着把自己收拾好，先缓一缓。想骂两句也可以，我都听着。",
            [
                "听起来你今天真的撑了很久，换作谁都会累的。",
                "被当众那样说，心里一定又委屈又难堪。",
                "你不用急着把自己收拾好，先缓一缓。",
                "想骂两句也可以，我都听着。",
            ],
        ),
        (
            "他说的那句“你怎么这么没用！”其实一点都不公平，也不是事实，你别往心里去，更别拿它来量自己。"
            "你愿意的话，我们一件一件说。",
            [
                "他说的那句“你怎么这么没用！”其实一点都不公平，也不是事实，你别往心里去，更别拿它来量自己。",
                "你愿意的话，我们一件一件说。",
            ],
        ),
        (
            "That sounds like a really long day. You kept going even when nobody noticed. "
            "It makes sense that you feel empty now.",
            [
                "That sounds like a really long day.",
                "You kept going even when nobody noticed.",
                "It makes sense that you feel empty now.",
            ],
        ),
        (
            "Hey.\n\nIt cost 3.50 and you paid it, e.g. with the last of your money, and now you blame yourself.",
            [
                "Hey.",
                "It cost 3.50 and you paid it, e.g. with the last of your money, and now you blame yourself.",
            ],
        ),
    ],
)
def test_it_is_cut_where_a_person_would(text: str, parts: list[str]) -> None:
    assert texts(text) == parts


def test_a_paragraph_of_a_comfortable_length_is_not_cut() -> None:
    said = "好。" * (COMFORTABLE // 4)  # each as wide as two Latin letters
    assert texts(said) == [said]
    assert len(texts(f"{said}好。")) > 1


def test_of_too_many_parts_the_shortest_neighbours_share_a_bubble() -> None:
    long = ["心" * 40, "语" * 40, "听" * 40, "说" * 40]
    assert texts("\n\n".join([*long[:2], "嗯。", "好。", *long[2:]])) == [
        *long[:2],
        "嗯。\n\n好。",
        *long[2:],
    ]
