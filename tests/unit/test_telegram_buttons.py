"""Buttons are sealed: they open for the one person and in the one place they were made for, and fit Telegram."""

from __future__ import annotations

import itertools
from zoneinfo import available_timezones

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from telegram.constants import InlineKeyboardButtonLimit

from adapters.telegram.buttons import ButtonSeal, keyboard
from core.commands.asked import pressed
from core.commands.settings import GROUP_MENU, OPTIONS, PRIVATE_MENU
from core.messages import Button, Command, Segment
from core.reply import FEEDBACK

TOKEN = "123456789:AAE-token-of-a-test"
SEAL = ButtonSeal(TOKEN)
FITS = int(InlineKeyboardButtonLimit.MAX_CALLBACK_DATA)
OWNERS = ("7", "1234567890", "9999999999999")
PLACES = ("7", "-1009999999999", "-1009999999999/2147483647")
OFFERED = [
    "settings",
    *(f"settings {name}" for name in dict.fromkeys((*PRIVATE_MENU, *GROUP_MENU))),
    *(f"settings {name}={value}" for name, values in OPTIONS.items() for value in values),
    *(f"settings quiet={since}-{until}" for since in range(24) for until in range(24)),
    "consent yes",
    "consent no",
    "delete_me yes",
    "delete_me no",
    *(button.command for row in FEEDBACK for button in row),
]
"""What buttons say, but for time zones that somebody typed."""

# What a press brings back is JSON, where half a character can stand.
anything = st.text(max_size=40) | st.text(st.characters(), max_size=40)
commands = st.sampled_from(OFFERED)
owners = st.integers(1, 10**13 - 1).map(str)
places = st.sampled_from(PLACES) | st.integers(-(10**13), 10**13).map(str)


@given(commands, owners, places)
def test_a_button_opens_for_its_owner_in_its_place(command: str, owner: str, place: str) -> None:
    assert SEAL.open(SEAL.seal(command, owner, place), owner, place) == command


@given(commands, owners, places, anything)
def test_it_opens_for_nobody_else(command: str, owner: str, place: str, presser: str) -> None:
    assume(presser != owner)
    assert SEAL.open(SEAL.seal(command, owner, place), presser, place) is None


@given(commands, owners, places, anything | places)
def test_it_opens_nowhere_else(command: str, owner: str, place: str, elsewhere: str) -> None:
    assume(elsewhere != place)
    assert SEAL.open(SEAL.seal(command, owner, place), owner, elsewhere) is None


@given(commands, owners, places, anything | st.lists(anything, min_size=3, max_size=3).map("|".join))
@example("settings", "7", "7", "")
@example("settings", "7", "7", "||")
@example("settings", "7", "7", "settings|7|")
@example("settings", "7", "7", "settings|7|\ud800")
def test_other_data_does_not_open(command: str, owner: str, place: str, data: str) -> None:
    assume(data != SEAL.seal(command, owner, place))
    assert SEAL.open(data, owner, place) is None


@given(commands, owners, places, st.data())
def test_nothing_of_it_can_be_changed(command: str, owner: str, place: str, data: st.DataObject) -> None:
    sealed = SEAL.seal(command, owner, place)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    assume(other != sealed[at])
    changed = sealed[:at] + other + sealed[at + 1 :]
    assert SEAL.open(changed, owner, place) is None
    assert SEAL.open(sealed[:at] + sealed[at + 1 :], owner, place) is None


@given(commands, owners)
def test_another_owner_cannot_be_written_into_it(command: str, owner: str) -> None:
    _, _, mac = SEAL.seal(command, owner, "7").split("|")
    thief = f"{owner}0"
    assert SEAL.open(f"{command}|{thief}|{mac}", thief, "7") is None


@given(st.text(max_size=20))
def test_another_bots_button_does_not_open(token: str) -> None:
    assume(token != TOKEN)
    assert SEAL.open(ButtonSeal(token).seal("settings", "7", "7"), "7", "7") is None


def test_a_restarted_bot_opens_its_buttons() -> None:
    assert ButtonSeal(TOKEN).open(SEAL.seal("settings", "7", "7"), "7", "7") == "settings"


# --- what Telegram takes ------------------------------------------------------------------------


def test_every_button_that_is_offered_fits_and_is_a_command_of_ours() -> None:
    for command, owner, place in itertools.product(OFFERED, OWNERS, PLACES):
        sealed = SEAL.seal(command, owner, place)
        assert len(sealed.encode()) <= FITS
        name, _, argument = command.partition(" ")
        assert pressed(command, "5") == Command(name, argument, "5")


@pytest.mark.parametrize("owner", OWNERS)
def test_what_does_not_fit_is_refused_and_never_cut(owner: str) -> None:
    for zone in available_timezones():
        command = f"settings timezone={zone}"
        size = len(f"{command}|{owner}|".encode()) + 11
        if size > FITS:
            with pytest.raises(ValueError, match="64 bytes"):
                SEAL.seal(command, owner, "7")
        else:
            assert len(SEAL.seal(command, owner, "7").encode()) == size


def test_bytes_count_and_not_characters() -> None:
    assert len(SEAL.seal("心" * 13, "1234567890", "7").encode()) == 62
    with pytest.raises(ValueError, match="64 bytes"):
        SEAL.seal("心" * 14, "1234567890", "7")


def test_a_keyboard_has_the_segments_rows() -> None:
    rows = (
        (Button("是的", "delete_me yes"), Button("算了", "delete_me no")),
        (Button("‹ 返回", "settings"),),
    )
    made = keyboard(Segment("？", buttons=rows, owner="7"), SEAL, "-100/5")
    assert made is not None
    shown = [[(button.text, button.callback_data) for button in row] for row in made.inline_keyboard]
    assert shown == [
        [(button.label, SEAL.seal(button.command, "7", "-100/5")) for button in row] for row in rows
    ]
    assert keyboard(Segment("没有按钮"), SEAL, "7") is None
