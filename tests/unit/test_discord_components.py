"""Buttons, lists and forms fit Discord whatever core offers, and say to the one who may press them what they hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.discord.components import (
    ASKS,
    BUTTON,
    CHANNEL_LIST,
    HERE,
    IN_PRIVATE,
    LIST,
    LISTS,
    NO_CHANNELS,
    OF_SERVER,
    PICKS,
    SAYS,
    Pressed,
    components_of,
    form,
    pressed,
)
from adapters.discord.notices import load_notices
from core.commands.account import ask_first
from core.commands.asked import Asked
from core.commands.asked import pressed as command_of_press
from core.commands.run import run_command
from core.commands.settings import GROUP_MENU, MOST_CHANNELS, PRIVATE_MENU, SERVER_MENU
from core.language import Language
from core.messages import Button, ChannelPicker, Command, ConversationKind, IncomingMessage, Platform, Segment
from core.persona.card import MOST_CARDS, Personas, load_personas
from core.phrases import load_phrases
from core.ports import ClaimedConversation, Pending, Transaction
from core.reply import FEEDBACK
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle
from tests.fakes import discord_rules as rules
from tests.fakes.discord_rules import Form

NOTICES, PHRASES, PERSONAS = load_notices(), load_phrases(), load_personas()
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONGEST_ID = 2**63 - 1
"""As many digits as an id will ever have."""
T = TypeVar("T")

ids = st.integers(10**16, LONGEST_ID)
zones = st.sampled_from(sorted(available_timezones()))
words = st.text(min_size=1)


@dataclass(frozen=True)
class Place:
    """One of the places where people press something."""

    name: str
    chat_id: str
    kind: ConversationKind
    menu: tuple[str, ...]
    belongs: str


PRIVATE = Place("private", f"@{LONGEST_ID}", ConversationKind.PRIVATE, PRIVATE_MENU, IN_PRIVATE)
GROUP = Place("group", f"{LONGEST_ID}/{LONGEST_ID}", ConversationKind.GROUP, GROUP_MENU, HERE)
SERVER = Place("server", f"{LONGEST_ID}", ConversationKind.GROUP, SERVER_MENU, OF_SERVER)
PLACES = (PRIVATE, GROUP, SERVER)
menus = st.sampled_from(PLACES).flatmap(
    lambda place: st.tuples(st.just(place), st.sampled_from(("", *place.menu)))
)
languages = st.sampled_from(list(Language))

hours = st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] != pair[1])
people = st.builds(
    PersonSettings,
    language=st.none() | languages,
    time_zone=st.none() | zones,
    quiet_hours=st.none() | hours.map(lambda pair: QuietHours(*pair)),
)
chosen_channels = st.lists(ids.map(str), max_size=MOST_CHANNELS, unique=True).map(tuple)
conversations = st.builds(
    ConversationSettings,
    burst_quiet_seconds=st.sampled_from([None, 0.0, 3.0]),
    answers=st.none() | st.sampled_from(list(GroupAnswers)),
    style=st.none() | st.sampled_from(list(ReplyStyle)),
    feedback=st.none() | st.booleans(),
    persona=st.none() | st.sampled_from([card.id for card in PERSONAS.cards]) | st.just("gone"),
    language=st.none() | languages,
    channels=chosen_channels,
    hourly=st.sampled_from([None, 10, 30, 77]),
)


class NoStore:
    """A menu is drawn from what the turn has read already."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("a menu writes nothing")

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("a menu reads nothing")


async def everybody(chat_id: str, user_id: str) -> bool:
    return True


def asking(
    place: Place,
    argument: str,
    language: Language = Language.ZH,
    *,
    person: PersonSettings = PersonSettings(),
    settings: ConversationSettings = ConversationSettings(),
    owner: int = LONGEST_ID,
    name: str = "settings",
    personas: Personas = PERSONAS,
) -> Asked:
    command = Command(name, argument, "1")
    message = IncomingMessage(
        Platform.DISCORD, "e", place.chat_id, str(owner), "", NOW, kind=place.kind, command=command
    )
    by = Pending(11, 22, NOW, message)
    conversation = ClaimedConversation(
        id=33,
        platform=Platform.DISCORD,
        chat_id=place.chat_id,
        kind=place.kind,
        settings=settings,
        own_settings=settings,
        person=person,
        paused=False,
        preview_message_id=None,
        attempts=1,
        pending=(by,),
        deferred=(),
        window=(),
    )
    return Asked(
        command, conversation, by, language, PHRASES, personas, NOW, "Asia/Shanghai", NoStore(), everybody
    )


async def offered(asked: Asked) -> Segment:
    """What core offers, made out to who asked."""
    segment = (await run_command(asked)).segments[0]
    return replace(segment, owner=asked.by.message.sender_id)


def check(rows: list[dict[str, Any]]) -> None:
    """As strictly as Discord. Raises Refused."""
    faults = Form()
    rules.check_components(faults, {"components": rows}, "components")
    faults.check()


def items(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for row in rows for item in row["components"]]


# --- they fit ---------------------------------------------------------------------------------------


@given(menus, languages, people, conversations, ids)
async def test_every_menu_fits(
    menu: tuple[Place, str],
    language: Language,
    person: PersonSettings,
    settings: ConversationSettings,
    owner: int,
) -> None:
    place, name = menu
    segment = await offered(asking(place, name, language, person=person, settings=settings, owner=owner))
    rows = components_of(segment, place.chat_id, NOTICES)
    assert rows
    check(rows)
    for item in items(rows):
        assert len(item["custom_id"]) <= 100
        if item["type"] == LIST:
            assert sum(option["default"] for option in item["options"]) <= 1
    assert len({item["custom_id"] for item in items(rows)}) == len(items(rows))


@given(menus, languages, people, conversations)
async def test_what_every_menu_says_comes_back_whole(
    menu: tuple[Place, str], language: Language, person: PersonSettings, settings: ConversationSettings
) -> None:
    place, name = menu
    segment = await offered(asking(place, name, language, person=person, settings=settings))
    found = []
    for item in items(components_of(segment, place.chat_id, NOTICES)):
        if item["type"] == LIST:
            said = [pressed(item["custom_id"], [one["value"]], LONGEST_ID) for one in item["options"]]
        else:
            said = [pressed(item["custom_id"], [], LONGEST_ID)]
        found += [one for one in said if one is not None]
    assert {one.belongs for one in found} == {place.belongs}
    buttons = [*segment.choices, *(button for row in segment.buttons for button in row)]
    expected = [Pressed(place.belongs, button.command, button.asks) for button in buttons]
    if segment.picker is not None:
        nothing = Pressed(place.belongs, f"{segment.picker.command}={NO_CHANNELS}")
        expected.insert(0, nothing)
    assert found == expected
    for one in found:
        command = command_of_press(one.command, "1")
        assert command is not None and command.name == "settings"


@pytest.mark.parametrize("language", list(Language))
async def test_every_other_button_fits_too(language: Language) -> None:
    start = await offered(asking(PRIVATE, "", language, name="start"))
    question = replace(ask_first(asking(PRIVATE, "", language)).segments[0], owner=str(LONGEST_ID))
    judged = Segment("我在", buttons=FEEDBACK, owner=str(LONGEST_ID))
    for segment, place in itertools.product((start, question, judged), PLACES):
        rows = components_of(segment, place.chat_id, NOTICES)
        check(rows)
        said = [pressed(item["custom_id"], [], LONGEST_ID) for item in items(rows)]
        buttons = [button for row in segment.buttons for button in row]
        assert said == [Pressed(place.belongs, button.command) for button in buttons]


async def test_as_many_personas_as_there_can_be_fit_with_names_of_any_length() -> None:
    cards = [
        replace(
            PERSONAS.default,
            id=f"{'p' * 30}{number:02}",
            names=dict.fromkeys(Language, "🌙" * 60),
            about=dict.fromkeys(Language, "晚安" * 60),
        )
        for number in range(MOST_CARDS)
    ]
    for name in ("", "persona"):
        segment = await offered(asking(PRIVATE, name, personas=Personas(tuple(cards))))
        check(components_of(segment, PRIVATE.chat_id, NOTICES))


@given(words, words, st.sampled_from(PLACES))
def test_long_labels_are_cut_and_what_is_said_never_is(label: str, command: str, place: Place) -> None:
    segment = Segment("", buttons=((Button(label * 20, command),),), owner=str(LONGEST_ID))
    fits = len(f"{LONGEST_ID}|1{place.belongs}{SAYS}|{command}") <= 100
    assume("|" not in command)
    if not fits:
        with pytest.raises(ValueError, match="100 characters"):
            components_of(segment, place.chat_id, NOTICES)
        return
    (button,) = items(components_of(segment, place.chat_id, NOTICES))
    assert button["type"] == BUTTON and rules.length(button["label"]) in (80, 79, rules.length(label * 20))
    assert pressed(button["custom_id"], [], LONGEST_ID) == Pressed(place.belongs, command)


def test_a_message_without_buttons_has_none() -> None:
    assert components_of(Segment("我在"), PRIVATE.chat_id, NOTICES) == []


# --- who may press ----------------------------------------------------------------------------------


@given(ids, ids, menus, languages)
async def test_nobody_else_may_press(
    owner: int, other: int, menu: tuple[Place, str], language: Language
) -> None:
    assume(owner != other)
    place, name = menu
    segment = await offered(asking(place, name, language, owner=owner))
    for item in items(components_of(segment, place.chat_id, NOTICES)):
        values = [option["value"] for option in item.get("options", ())][:1]
        assert pressed(item["custom_id"], values, owner) is not None
        assert pressed(item["custom_id"], values, other) is None


@given(st.text(max_size=100), st.lists(st.text(max_size=100), max_size=3), ids)
def test_what_is_none_of_ours_says_nothing(custom_id: str, values: list[str], presser: int) -> None:
    assert pressed(custom_id, values, presser) is None


@given(st.text(max_size=80), st.lists(st.text(max_size=100), max_size=3), ids)
def test_even_with_its_owner_in_front_it_says_something_or_nothing(
    rest: str, values: list[str], presser: int
) -> None:
    said = pressed(f"{presser}|{rest}", values, presser)
    if said is not None:
        assert said.belongs in (HERE, IN_PRIVATE, OF_SERVER)
        assert rest.partition("|")[0][-1] in (SAYS, ASKS, PICKS, LISTS)


@given(ids, chosen_channels, st.sampled_from(list(Language)))
def test_channels_that_are_picked_are_said_with_commas(
    owner: int, channels: tuple[str, ...], language: Language
) -> None:
    label = PHRASES[language].commands["settings"]["pick"]
    picker = ChannelPicker(label, "settings channels", channels)
    segment = Segment("", picker=picker, owner=str(owner))
    rows = components_of(segment, SERVER.chat_id, NOTICES)
    check(rows)
    (item,) = items(rows)
    assert item["type"] == CHANNEL_LIST and item["min_values"] == 0
    assert [value["id"] for value in item["default_values"]] == list(channels)
    picked = ",".join(channels) or NO_CHANNELS
    assert pressed(item["custom_id"], list(channels), owner) == Pressed(
        OF_SERVER, f"settings channels={picked}"
    )


def test_a_list_without_a_choice_says_nothing() -> None:
    assert pressed(f"{LONGEST_ID}|1p{LISTS}", [], LONGEST_ID) is None


# --- forms ------------------------------------------------------------------------------------------


@given(st.sampled_from(["timezone", "quiet"]), languages, people, ids)
async def test_what_is_asked_for_is_a_form_that_comes_back_with_its_button(
    name: str, language: Language, person: PersonSettings, owner: int
) -> None:
    segment = await offered(asking(PRIVATE, name, language, person=person, owner=owner))
    (button,) = [
        item
        for item in items(components_of(segment, PRIVATE.chat_id, NOTICES))
        if item["custom_id"].partition("|")[2].partition("|")[0].endswith(ASKS)
    ]
    said = pressed(button["custom_id"], [], owner)
    assert said is not None and said.command == f"settings {name}"
    assert said.asks == PHRASES[language].commands["ask"][name]
    opened = form(button["custom_id"], button["label"], said.asks)
    faults = Form()
    rules.check_modal(faults, opened)
    faults.check()
    assert pressed(opened["custom_id"], [], owner) == said
    (field,) = items(opened["components"])
    assert field["label"] == said.asks, "it is shown whole"
    assert field["max_length"] >= max(map(len, available_timezones()))


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_form_of_long_words_is_cut(title: str, asks: str) -> None:
    opened = form(f"{LONGEST_ID}|1p{ASKS}|settings quiet", title * 10, asks * 10)
    faults = Form()
    rules.check_modal(faults, opened)
    faults.check()
