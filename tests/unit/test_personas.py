"""Persona cards: which there are, what each must say, and who speaks where a card is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.language import Language
from core.persona.card import CARDS, MOST_CARDS, Persona, Personas, load_card, load_personas
from core.settings import ReplyStyle

PLAIN = 'name = "小树"\n[prompt]\nzh = "你是小树。"\n'
FULL = """
name = "小树"
name_en = "Sapling"
style = "bubbles"
[about]
zh = "慢慢长"
en = "takes its time"
[prompt]
zh = "你是小树。"
en = "You are Sapling."
"""


def card(folder: Path, id_: str, text: str = PLAIN) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{id_}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def ids(personas: Personas) -> list[str]:
    return [one.id for one in personas.cards]


# --- ours ---------------------------------------------------------------------------------------


def test_ours_are_there_and_xinyu_is_first() -> None:
    personas = load_personas()
    assert ids(personas) == ["xinyu", "night", "peer"]
    assert personas.default is personas.of(None) is personas.of("xinyu")


@pytest.mark.parametrize("one", load_personas().cards, ids=lambda one: one.id)
def test_each_of_ours_is_complete_in_both_languages(one: Persona) -> None:
    assert len({one.names[language] for language in Language}) == len(Language)
    for language in Language:
        assert one.about[language]
        assert one.names[language] in one.prompts[language]
    assert len(set(one.about.values())) == len(set(one.prompts.values())) == len(Language)


@pytest.mark.parametrize("one", load_personas().cards, ids=lambda one: one.id)
def test_each_of_ours_says_that_it_is_an_ai_and_what_it_does_in_danger(one: Persona) -> None:
    assert "AI" in one.prompts[Language.ZH] and "AI" in one.prompts[Language.EN]
    assert "急救" in one.prompts[Language.ZH] and "emergency number" in one.prompts[Language.EN]


# --- what a card says ---------------------------------------------------------------------------


def test_a_card_is_named_by_its_file(tmp_path: Path) -> None:
    assert load_card(card(tmp_path, "tree", FULL)) == Persona(
        id="tree",
        names={Language.ZH: "小树", Language.EN: "Sapling"},
        prompts={Language.ZH: "你是小树。", Language.EN: "You are Sapling."},
        about={Language.ZH: "慢慢长", Language.EN: "takes its time"},
        style=ReplyStyle.BUBBLES,
    )


def test_what_a_card_leaves_out_is_as_in_chinese(tmp_path: Path) -> None:
    found = load_card(card(tmp_path, "tree"))
    assert set(found.names.values()) == {"小树"}
    assert set(found.prompts.values()) == {"你是小树。"}
    assert set(found.about.values()) == {""}
    assert found.style is ReplyStyle.WHOLE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[prompt]\nzh = "你是小树。"', "`name` must be a text"),
        ('name = " "\n[prompt]\nzh = "你是小树。"', "`name` must be a text"),
        ('name = 5\n[prompt]\nzh = "你是小树。"', "`name` must be a text"),
        ('name = "小树"', "`zh` must be a text"),
        ('name = "小树"\n[prompt]\nen = "You are Sapling."', "`zh` must be a text"),
        ('name = "小树"\n[prompt]\nzh = ""', "`zh` must be a text"),
        (
            'name = "小树"\nstyle = "loud"\n[prompt]\nzh = "你是小树。"',
            "`style` must be one of whole, bubbles",
        ),
        ('name = "小树"\nstyle = ["whole"]\n[prompt]\nzh = "你是小树。"', "`style` must be one of"),
        ('name = "小树"\nprompt = "你是小树。"', "prompt"),
        ('name = "小树"\nabout = "慢慢长"\n[prompt]\nzh = "你是小树。"', "about"),
        ('name = "小树"\nname_en = 5\n[prompt]\nzh = "你是小树。"', "name_en"),
        ('name = "小树"\n[prompt]\nzh = "你是小树。"\nen = 5', "en"),
        ("name = 小树", "line 1"),
    ],
)
def test_a_bad_card_is_refused_with_its_path_and_what_is_wrong(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = card(tmp_path, "tree", text)
    with pytest.raises(ConfigError) as refused:
        load_personas(folder=tmp_path)
    assert str(path) in str(refused.value)
    assert complaint in str(refused.value).replace(str(path), "")


def test_a_card_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tree.toml"
    with pytest.raises(ConfigError, match=r"tree\.toml"):
        load_personas(path)
    path.write_bytes("name = '小树'".encode("gb18030"))
    with pytest.raises(ConfigError, match=r"tree\.toml"):
        load_personas(path)


@pytest.mark.parametrize("id_", ["a=b", "two  blanks", " tree", "树" * 20, "x" * 60])
def test_a_card_that_no_button_can_name_is_refused(tmp_path: Path, id_: str) -> None:
    """`settings persona=…` is 64 bytes at most on Telegram, and is taken apart at blanks and at =."""
    with pytest.raises(ConfigError, match=re.escape(id_)):
        load_card(card(tmp_path, id_))


# --- the operator's -----------------------------------------------------------------------------


def test_an_operators_folder_comes_before_ours_in_the_order_of_its_names(tmp_path: Path) -> None:
    card(tmp_path, "tree")
    card(tmp_path, "brook")
    (tmp_path / "notes.txt").write_text("not a card", encoding="utf-8")
    assert ids(load_personas(folder=tmp_path)) == ["xinyu", "brook", "tree", "night", "peer"]


def test_an_operators_default_is_first_and_ours_stays_to_be_chosen(tmp_path: Path) -> None:
    personas = load_personas(card(tmp_path, "tree"))
    assert ids(personas) == ["tree", "night", "peer", "xinyu"]
    assert personas.default.names[Language.ZH] == "小树"


def test_the_first_card_of_a_name_is_it(tmp_path: Path) -> None:
    default = card(tmp_path / "one", "tree", PLAIN.replace("小树", "大树"))
    card(tmp_path / "many", "tree")
    card(tmp_path / "many", "night")
    personas = load_personas(default, tmp_path / "many")
    assert ids(personas) == ["tree", "night", "peer", "xinyu"]
    assert personas.of("tree").names[Language.ZH] == "大树"
    assert personas.of("night").names[Language.ZH] == "小树", "the operator's own, in place of ours"


def test_an_empty_folder_adds_nobody(tmp_path: Path) -> None:
    assert load_personas(folder=tmp_path) == load_personas()


def test_no_more_than_every_platforms_lists_hold(tmp_path: Path) -> None:
    ours = len(list(CARDS.glob("*.toml")))
    for number in range(MOST_CARDS - ours):
        card(tmp_path, f"tree{number}")
    assert len(load_personas(folder=tmp_path).cards) == MOST_CARDS
    card(tmp_path, "one-more")
    with pytest.raises(ConfigError, match=f"more than {MOST_CARDS}"):
        load_personas(folder=tmp_path)


# --- who speaks ---------------------------------------------------------------------------------


@given(st.text())
def test_who_is_not_there_any_more_is_stood_in_for_by_the_default(id_: str) -> None:
    personas = load_personas()
    expected = next((one for one in personas.cards if one.id == id_), personas.default)
    assert personas.of(id_) is expected


def test_each_is_found_by_its_id(tmp_path: Path) -> None:
    personas = load_personas(folder=tmp_path)
    assert [personas.of(one.id) for one in personas.cards] == list(personas.cards)
