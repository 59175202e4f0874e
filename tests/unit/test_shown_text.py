"""A model's answer as the person sees it, however the network cuts it."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.shown_text import ShownText
from core.model.thinking import ThinkingStripper

PARTS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<thi",
        "nk>",
        "<",
        ">",
        " ",
        "\n\n",
        "我在",
        "a",
        "\x00",
        "\x1c",
        "\ud83d",
        "\t",
        "</",
    ]
)
ANSWERS = st.lists(PARTS | st.text(max_size=4), max_size=12).map("".join)


def chunks_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def shown(chunks: list[str]) -> str:
    reader = ShownText()
    return "".join([*map(reader.feed, chunks), reader.end()])


def expected(text: str) -> str:
    """What is seen of a whole answer, said in another way."""
    rest = text.lstrip()
    while rest.startswith("<think>"):
        _, closed, rest = rest.partition("</think>")
        if not closed:
            return ""
        rest = rest.lstrip()
    kept = [
        character
        for character in rest
        if character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
    ]
    return "".join(kept).strip()


@given(ANSWERS, st.lists(st.integers(0, 200), max_size=20))
def test_any_cut_shows_the_same(text: str, cuts: list[int]) -> None:
    assert shown(chunks_of(text, cuts)) == shown([text]) == shown(list(text)) == expected(text)


@given(ANSWERS, st.lists(st.integers(0, 200), max_size=20))
def test_what_was_shown_is_always_the_beginning_of_the_whole(text: str, cuts: list[int]) -> None:
    whole, reader, so_far = expected(text), ShownText(), ""
    for chunk in chunks_of(text, cuts):
        so_far += reader.feed(chunk)
        assert whole.startswith(so_far)
        assert so_far == so_far.rstrip(), "blanks wait for what follows"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("我在听。", "我在听。"),
        ("<think>他很难过，我该怎么说</think>\n\n我在听。", "我在听。"),
        ("\n <think></think><think>再想想</think> 我在。\n", "我在。"),
        ("<think>没说完", ""),
        ("<thinking>不是记号", "<thinking>不是记号"),
        ("先说话 <think>后面的不算</think>", "先说话 <think>后面的不算</think>"),
        ("<thi", "<thi"),
        ("一\n\n二\t三\x00\x1b四", "一\n\n二\t三四"),
        (" \n\t ", ""),
        ("", ""),
    ],
)
def test_examples(text: str, seen: str) -> None:
    assert shown([text]) == shown(list(text)) == seen


def test_an_answer_is_shown_while_it_comes() -> None:
    reader = ShownText()
    assert [reader.feed(piece) for piece in ("我", "在 ", "听", "。\n")] == ["我", "在", " 听", "。"]
    assert reader.end() == ""


def test_thoughts_are_not_kept() -> None:
    stripper = ThinkingStripper()
    stripper.feed("<think>")
    for _ in range(1000):
        assert stripper.feed("想" * 1000) == ""
    assert stripper.feed("</thi") == "" and stripper.feed("nk>好。") == "好。"
    assert stripper.end() == ""
