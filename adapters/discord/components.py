"""Buttons, lists and forms of a message, and what pressing them says.

A custom id (1 to 100 characters, one of a kind in its message) holds who may press it, where it belongs, and what it
says. Nobody can forge one: Discord takes only those of the message itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.discord.notices import Notices
from adapters.discord.places import is_server, person_in
from core.cut import utf16_units
from core.language import language_of
from core.messages import Button, ChannelPicker, Segment

CUSTOM_ID = 100
LABEL = 80
OPTION = 100
FORM_LABEL = 45
FORM_VALUE = 60
ROWS, IN_A_ROW, OPTIONS = 5, 5, 25
ACTION_ROW, BUTTON, LIST, TEXT_INPUT, CHANNEL_LIST = 1, 2, 3, 4, 8
SECONDARY, DANGER = 2, 4
SHORT = 1
TEXT_CHANNEL, ANNOUNCEMENTS = 0, 5
"""Not a forum: there is no place in it where everybody could be told."""
NO_CHANNELS = "none"
_FINAL = frozenset({"delete_me yes"})
"""What cannot be undone looks so."""
_LISTED_FROM = 4
"""So many rows of one button each are a list."""
HERE, IN_PRIVATE, OF_SERVER = "c", "p", "s"
SAYS, ASKS, PICKS, LISTS = "=", "?", "#", "*"


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a component says: the command, or with `asks` the form to fill in first."""

    belongs: str
    """HERE, IN_PRIVATE or OF_SERVER."""
    command: str
    asks: str = ""


def components_of(segment: Segment, place: str, notices: Notices) -> list[dict[str, Any]]:
    """A segment's rows; none for one without buttons."""
    maker = _Maker(segment.owner, _belongs(place), notices.choose[language_of(segment.text)])
    rows: list[dict[str, Any]] = []
    if segment.choices:
        rows.append(maker.list_of(segment.choices))
    if segment.picker is not None:
        rows.append(maker.channel_list(segment.picker))
    buttons = segment.buttons
    if len(buttons) >= _LISTED_FROM and all(len(row) == 1 for row in buttons):
        rows.append(maker.list_of([row[0] for row in buttons]))
    else:
        rows += [maker.row(list(row)) for row in buttons]
    return rows


def _belongs(place: str) -> str:
    if person_in(place) is not None:
        return IN_PRIVATE
    return OF_SERVER if is_server(place) else HERE


class _Maker:
    def __init__(self, owner: str, belongs: str, choose: str) -> None:
        self._owner = owner
        self._belongs = belongs
        self._choose = choose
        self._made = 0

    def row(self, buttons: list[Button]) -> dict[str, Any]:
        return _row(*(self._button(button) for button in buttons))

    def list_of(self, choices: tuple[Button, ...] | list[Button]) -> dict[str, Any]:
        """What may be chosen. Discord does not say that the chosen one was chosen again: nothing changes."""
        options = [
            {
                "label": _shortened(choice.label, OPTION),
                "value": choice.command[:OPTION],
                "default": choice.chosen,
            }
            for choice in choices
        ]
        custom_id = self._custom_id(LISTS, "")
        return _row({"type": LIST, "custom_id": custom_id, "options": options, "placeholder": self._choose})

    def channel_list(self, picker: ChannelPicker) -> dict[str, Any]:
        return _row(
            {
                "type": CHANNEL_LIST,
                "custom_id": self._custom_id(PICKS, picker.command),
                "placeholder": picker.label,
                "channel_types": [TEXT_CHANNEL, ANNOUNCEMENTS],
                "min_values": 0,
                "max_values": OPTIONS,
                "default_values": [{"id": id_, "type": "channel"} for id_ in picker.chosen],
            }
        )

    def _button(self, button: Button) -> dict[str, Any]:
        custom_id = (
            self._custom_id(ASKS, button.command, button.asks)
            if button.asks
            else self._custom_id(SAYS, button.command)
        )
        return {
            "type": BUTTON,
            "style": DANGER if button.command in _FINAL else SECONDARY,
            "label": _shortened(button.label, LABEL),
            "custom_id": custom_id,
        }

    def _custom_id(self, kind: str, command: str, asks: str = "") -> str:
        """Raises ValueError if it says more than one can hold."""
        self._made += 1
        custom_id = "|".join((self._owner, f"{self._made}{self._belongs}{kind}", command, asks)).rstrip("|")
        if len(custom_id) > CUSTOM_ID:
            raise ValueError(f"a component of more than {CUSTOM_ID} characters: {command}")
        return custom_id


def _row(*components: dict[str, Any]) -> dict[str, Any]:
    return {"type": ACTION_ROW, "components": list(components)}


def pressed(custom_id: str, values: list[str], presser: int) -> Pressed | None:
    """What somebody's press says; None if it is not theirs, or none of ours."""
    owner, _, rest = custom_id.partition("|")
    head, _, rest = rest.partition("|")
    command, _, asks = rest.partition("|")
    if owner != str(presser) or len(head) < 3 or head[-2] not in (HERE, IN_PRIVATE, OF_SERVER):
        return None
    belongs, kind = head[-2], head[-1]
    match kind:
        case _ if kind == LISTS:
            return Pressed(belongs, values[0]) if values else None
        case _ if kind == PICKS:
            return Pressed(belongs, f"{command}={','.join(values) or NO_CHANNELS}")
        case _ if kind == ASKS:
            return Pressed(belongs, command, asks)
        case _ if kind == SAYS:
            return Pressed(belongs, command)
    return None


def form(custom_id: str, title: str, asks: str) -> dict[str, Any]:
    """The form in which somebody writes what a button asks for; it comes back with the button's custom id."""
    field = {
        "type": TEXT_INPUT,
        "custom_id": "value",
        "style": SHORT,
        "label": _shortened(asks, FORM_LABEL),
        "max_length": FORM_VALUE,
        "required": True,
    }
    return {"custom_id": custom_id, "title": _shortened(title, FORM_LABEL), "components": [_row(field)]}


def _shortened(text: str, units: int) -> str:
    """Its beginning. Counted in UTF-16 code units, which are never fewer than characters: Discord does not say."""
    left = units
    for place, character in enumerate(text):
        left -= utf16_units(character)
        if left < 0:
            return text[:place]
    return text
