"""What holds in a place of a group: its own settings, else those of the places that it lies in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.language import Language
from core.settings import ConversationSettings, GroupAnswers, ReplyStyle, lineage, settings_at

SERVER, CHANNEL, THREAD = "1", "1/2", "1/2/3"
NOTHING = ConversationSettings()
ALWAYS = ConversationSettings(answers=GroupAnswers.ALWAYS)

chosen = st.builds(
    ConversationSettings,
    burst_quiet_seconds=st.none() | st.sampled_from([0.0, 3.0]),
    burst_max_seconds=st.none() | st.sampled_from([0.0, 15.0]),
    answers=st.none() | st.sampled_from(GroupAnswers),
    style=st.none() | st.sampled_from(ReplyStyle),
    feedback=st.none() | st.booleans(),
    persona=st.none() | st.sampled_from(["night", "peer"]),
    language=st.none() | st.sampled_from(Language),
    channels=st.lists(st.sampled_from("2389"), max_size=2, unique=True).map(tuple),
    hourly=st.none() | st.sampled_from([10, 30]),
)
found = st.dictionaries(st.sampled_from([SERVER, CHANNEL, THREAD, "1/9", "2", "11", "1/22"]), chosen)
segments = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=5)


# --- lineage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chat_id", "line"),
    [("1", ("1",)), ("1/2", ("1", "1/2")), ("1/2/3", ("1", "1/2", "1/2/3")), ("-100/4", ("-100", "-100/4"))],
)
def test_a_place_lies_in_all_that_it_is_named_after(chat_id: str, line: tuple[str, ...]) -> None:
    assert lineage(chat_id) == line


@given(st.lists(segments, min_size=1, max_size=5))
def test_a_lineage_begins_with_the_group_and_ends_with_the_place(parts: list[str]) -> None:
    line = lineage("/".join(parts))
    assert (line[0], line[-1], len(line)) == (parts[0], "/".join(parts), len(parts))
    assert all(
        inner == f"{outer}/{part}" for outer, inner, part in zip(line, line[1:], parts[1:], strict=False)
    )


# --- what holds ---------------------------------------------------------------------------------


def test_where_nothing_is_set_nothing_holds() -> None:
    assert settings_at(THREAD, {}) == NOTHING


def test_what_is_set_around_a_place_holds_in_it() -> None:
    outer = ConversationSettings(
        3.0, 15.0, GroupAnswers.OFF, ReplyStyle.BUBBLES, True, "night", Language.EN, (), 10
    )
    assert {settings_at(place, {SERVER: outer}) for place in (SERVER, CHANNEL, THREAD)} == {outer}


def test_what_is_set_nearest_holds_each_by_itself() -> None:
    places = {
        SERVER: ConversationSettings(persona="night", language=Language.EN, hourly=10),
        CHANNEL: ConversationSettings(persona="peer", style=ReplyStyle.BUBBLES),
        THREAD: ConversationSettings(style=ReplyStyle.WHOLE),
    }
    assert settings_at(THREAD, places) == ConversationSettings(
        persona="peer", language=Language.EN, hourly=10, style=ReplyStyle.WHOLE
    )


def test_what_is_set_to_nothing_at_all_is_set_all_the_same() -> None:
    """No waiting and no feedback are choices: not the same as none."""
    places = {
        SERVER: ConversationSettings(3.0, 15.0, feedback=True),
        CHANNEL: ConversationSettings(0.0, 0.0, feedback=False),
    }
    assert settings_at(CHANNEL, places) == ConversationSettings(0.0, 0.0, feedback=False)


@pytest.mark.parametrize("elsewhere", ["1/3", "1/2/4", "11", "11/2", "2", "2/1"])
def test_what_is_set_beside_a_place_is_nothing_to_it(elsewhere: str) -> None:
    assert settings_at("1/2/3", {elsewhere: ALWAYS}) == NOTHING


# --- channels set aside -------------------------------------------------------------------------

ASIDE = ConversationSettings(answers=GroupAnswers.OFF, channels=("2", "5"))


@pytest.mark.parametrize(
    ("place", "answers"),
    [
        (SERVER, GroupAnswers.OFF),
        (CHANNEL, GroupAnswers.ALWAYS),
        (THREAD, GroupAnswers.ALWAYS),
        ("1/5", GroupAnswers.ALWAYS),
        ("1/3", GroupAnswers.OFF),
        ("1/22", GroupAnswers.OFF),
    ],
)
def test_in_channels_set_aside_everything_is_answered_and_in_their_threads(
    place: str, answers: GroupAnswers
) -> None:
    assert settings_at(place, {SERVER: ASIDE}).answers is answers


@pytest.mark.parametrize("own", GroupAnswers)
def test_a_channels_own_word_counts_for_more_than_being_set_aside(own: GroupAnswers) -> None:
    places = {SERVER: ASIDE, CHANNEL: ConversationSettings(answers=own)}
    assert settings_at(CHANNEL, places).answers is own
    assert settings_at(THREAD, places).answers is own


def test_another_servers_channel_of_that_number_is_not_set_aside() -> None:
    assert settings_at("7/2", {SERVER: ASIDE}) == NOTHING


# --- whatever is set ----------------------------------------------------------------------------


@given(st.sampled_from([SERVER, CHANNEL, THREAD]), found)
def test_each_setting_is_the_nearest_one(place: str, places: Mapping[str, ConversationSettings]) -> None:
    held = settings_at(place, places)
    line = [places.get(one, NOTHING) for one in reversed(lineage(place))]
    for one in fields(ConversationSettings):
        if one.name != "answers":
            default = () if one.name == "channels" else None
            nearest = (getattr(own, one.name) for own in line if getattr(own, one.name) != default)
            assert getattr(held, one.name) == next(nearest, default), one.name


@given(st.sampled_from([SERVER, CHANNEL, THREAD]), found, chosen)
def test_only_a_places_own_line_counts(
    place: str, places: dict[str, ConversationSettings], other: ConversationSettings
) -> None:
    beside = {**places, "1/9": other, "2": other, "11": other}
    if place not in beside:
        beside[place] = NOTHING
    assert settings_at(place, beside) == settings_at(
        place, {one: places[one] for one in lineage(place) if one in places}
    )


@given(found)
def test_a_place_without_anything_of_its_own_is_as_the_place_around(
    places: dict[str, ConversationSettings],
) -> None:
    places.pop(THREAD, None)
    around = {**places, CHANNEL: replace(places.get(CHANNEL, NOTHING), channels=())}
    around[SERVER] = replace(places.get(SERVER, NOTHING), channels=())
    assert settings_at(THREAD, around) == settings_at(CHANNEL, around)


@given(st.sampled_from([SERVER, CHANNEL, THREAD]), found)
def test_asking_changes_nothing(place: str, places: dict[str, ConversationSettings]) -> None:
    before = dict(places)
    assert settings_at(place, places) == settings_at(place, places)
    assert places == before
