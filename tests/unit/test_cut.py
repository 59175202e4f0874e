"""Cutting a text for a platform, as each counts: all of it, within the limit, at the best place, its marks along."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cut import cut, cut_segment, utf8_bytes, utf16_units
from core.messages import Button, Mark, MarkKind, Segment

CLUSTERS = [
    *'a字。！ \n.?"”',
    "\r\n",
    "e\u0301",
    "u\u0308\u0323",
    "👍🏽",
    "👩🏽‍🚀",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇨🇳",
    "🇯🇵",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "1️⃣",
    "❤️",
    "😀",
    "ｶﾞ",
    "\u1112\u1161\u11ab",
    "한",
    "कि",
    "ก็",
]
"""Each seen as one by readers, and never as one with what comes after it."""


def in_utf8(text: str) -> int:
    return len(text.encode())


def in_utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


COUNTS = [(utf8_bytes, in_utf8), (utf16_units, in_utf16)]
Size = Callable[[str], int]
both = pytest.mark.parametrize(("size", "measured"), COUNTS, ids=["utf8", "utf16"])


@given(st.text())
def test_characters_count_as_their_platform_counts_them(text: str) -> None:
    assert sum(map(utf8_bytes, text)) == in_utf8(text)
    assert sum(map(utf16_units, text)) == in_utf16(text)


@both
@given(text=st.text(max_size=200), limit=st.integers(4, 60))
def test_pieces_join_to_any_text_within_any_limit(size: Size, measured: Size, text: str, limit: int) -> None:
    pieces = cut(text, limit, size)
    assert "".join(pieces) == text
    assert all(piece and measured(piece) <= limit for piece in pieces)


@both
@given(clusters=st.lists(st.sampled_from(CLUSTERS), max_size=60), limit=st.integers(4, 60))
def test_what_readers_see_as_one_is_cut_only_where_it_is_longer_than_a_piece(
    size: Size, measured: Size, clusters: list[str], limit: int
) -> None:
    text = "".join(clusters)
    boundaries = {0}
    for cluster in clusters:
        boundaries.add(max(boundaries) + len(cluster))
    start = 0
    for piece in cut(text, limit, size):
        end = start + len(piece)
        assert measured(piece) <= limit
        assert end in boundaries or not any(start < one < end for one in boundaries), (piece, text)
        start = end
    assert start == len(text)


@both
@given(clusters=st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=30), times=st.integers(1, 300))
def test_there_are_no_crumbs(size: Size, measured: Size, clusters: list[str], times: int) -> None:
    """A piece, but for the last, is at least a quarter full: messages are counted."""
    limit, text = 2048, "".join(clusters) * times
    pieces = cut(text, limit, size)
    assert "".join(pieces) == text
    # At least a quarter of the characters that fit, and these count one to four each.
    assert len(pieces) <= measured(text) // (limit // 16) + 1


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("一句话。", ["一句话。"]),
        ("第一段。\n\n第二段。还有。", ["第一段。\n\n", "第二段。还有。"]),
        ("第一行\n第二行很长很", ["第一行\n", "第二行很长很"]),
        ("他说：“好。”然后走", ["他说：“好。”", "然后走"]),
        ("在吗？！我有点睡不着", ["在吗？！", "我有点睡不着"]),
        ("one two. three four. five six", ["one two. three four. ", "five six"]),
        ("a" * 20 + " " + "b" * 20, ["a" * 20 + " ", "b" * 20]),
        ("一二三四五六七八九", ["一二三四五六七八", "九"]),
        ("一二三四五六七😀", ["一二三四五六七", "😀"]),
        ("？一二三四五六七八九", ["？一二三四五六七", "八九"]),  # no crumb
    ],
)
def test_a_cut_is_made_at_the_best_place(text: str, pieces: list[str]) -> None:
    assert cut(text, 24, utf8_bytes) == pieces


def test_a_text_of_just_the_limit_is_one_piece_and_one_byte_more_are_two() -> None:
    text = "我" * 682 + "ab"
    assert in_utf8(text) == 2048
    assert cut(text, 2048, utf8_bytes) == [text]
    assert cut(text + "c", 2048, utf8_bytes) == [text, "c"]


@pytest.mark.parametrize(
    "text",
    [
        "我在听。你慢慢说，" * 20_000,
        "字" * 180_000,
        "👨‍👩‍👧‍👦" * 25_000,
        "🇨🇳" * 90_000,
        "\u0301" * 180_000,
        "\n" * 180_000,
        "a " * 90_000,
        "?" * 180_000,
        "?”" * 90_000,
        "\u200d" * 180_000,
    ],
    ids=[
        "talk",
        "characters",
        "families",
        "flags",
        "accents",
        "lines",
        "blanks",
        "ends",
        "quotes",
        "joiners",
    ],
)
def test_cutting_takes_time_in_proportion_to_the_text(text: str) -> None:
    began = time.process_time()
    assert "".join(cut(text, 2048, utf8_bytes)) == text
    assert time.process_time() - began < 1.5


# --- with marks -----------------------------------------------------------------------------------


def test_marks_go_along_with_what_they_mark() -> None:
    whole = Segment(
        "粗体。\n\n这里有链接，后面没了",
        (Mark(MarkKind.BOLD, 0, 2), Mark(MarkKind.LINK, 8, 10, "https://example.org")),
    )
    first, second = cut_segment(whole, 36, utf8_bytes)
    assert (first.text, first.marks) == ("粗体。\n\n", (Mark(MarkKind.BOLD, 0, 2),))
    assert (second.text, second.marks) == (
        "这里有链接，后面没了",
        (Mark(MarkKind.LINK, 3, 5, "https://example.org"),),
    )


def test_a_mark_that_is_cut_through_is_in_both_pieces() -> None:
    whole = Segment("一二三四五六", (Mark(MarkKind.PRE, 1, 5, "python"),))
    first, second = cut_segment(whole, 9, utf8_bytes)
    assert first == Segment("一二三", (Mark(MarkKind.PRE, 1, 3, "python"),))
    assert second == Segment("四五六", (Mark(MarkKind.PRE, 0, 2, "python"),))


def test_a_mark_beside_the_cut_is_in_one_piece_only() -> None:
    whole = Segment("一二三四", (Mark(MarkKind.BOLD, 0, 2), Mark(MarkKind.ITALIC, 2, 4)))
    first, second = cut_segment(whole, 6, utf8_bytes)
    assert (first.marks, second.marks) == ((Mark(MarkKind.BOLD, 0, 2),), (Mark(MarkKind.ITALIC, 0, 2),))


def test_nothing_is_cut_to_nothing() -> None:
    assert cut_segment(Segment("", buttons=((Button("好", "consent yes"),),)), 9, utf8_bytes) == []


@given(data=st.data(), text=st.text(min_size=1, max_size=120), limit=st.integers(4, 60))
def test_every_marked_character_stays_marked(data: st.DataObject, text: str, limit: int) -> None:
    spans = data.draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, 40)), max_size=5))
    marks = tuple(
        Mark(MarkKind.LINK, start, min(len(text), start + length), f"https://example.org/{number}")
        for number, (start, length) in enumerate(spans)
    )
    pieces = cut_segment(Segment(text, marks), limit, utf8_bytes)
    assert "".join(piece.text for piece in pieces) == text
    found: list[tuple[int, str]] = []
    offset = 0
    for piece in pieces:
        for mark in piece.marks:
            assert 0 <= mark.start < mark.end <= len(piece.text)
            found += [(offset + index, mark.value) for index in range(mark.start, mark.end)]
        offset += len(piece.text)
    assert sorted(found) == sorted(
        (index, mark.value) for mark in marks for index in range(mark.start, mark.end)
    )
