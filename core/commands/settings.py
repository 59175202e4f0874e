"""Settings, as a menu of buttons that changes in place, or typed: `/settings language en`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any
from zoneinfo import available_timezones

from core.commands.asked import FORMED, LISTENING, Asked, Done
from core.commands.words import WORDED
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.language import Language
from core.messages import Button, ChannelPicker, Command, IncomingMessage, Segment
from core.ports import Transaction
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle

PRIVATE_MENU = ("language", "persona", "timezone", "quiet", "style", "wait", "feedback")
WORDED_MENU = ("language", "timezone", "wait")
"""What has an effect where commands are said in words: no message there is silent, has bubbles or buttons."""
GROUP_MENU = ("answers", "persona", "language", "style", "wait")
SERVER_MENU = ("answers", "channels", "persona", "language", "hourly")
"""Of a group with channels: what holds in all of them."""
ZONES = (
    "Asia/Shanghai",
    "Asia/Hong_Kong",
    "Asia/Taipei",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
)
OPTIONS: dict[str, tuple[str, ...]] = {
    "language": ("auto", "zh", "en"),
    "timezone": ZONES,
    "quiet": ("off", "22-7", "23-8", "0-9"),
    "style": ("auto", "whole", "bubbles"),
    "wait": ("off", "normal", "long"),
    "feedback": ("off", "on"),
    "answers": ("mention", "always", "off"),
    "hourly": ("off", "30", "10"),
}
SERVER_ANSWERS = ("mention", "off")
"""To answer everything, channels are set aside."""
MOST_CHANNELS = 25
NO_CHANNELS = "none"
_WAITS = {"off": (0.0, 0.0), "normal": (None, None), "long": (3.0, 15.0)}
"""Quiet seconds, at most so many: how long to wait until somebody has finished typing."""
_HOURS = re.compile(r"([01]?[0-9]|2[0-3])\s*[-–~到至]\s*([01]?[0-9]|2[0-4])")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A person's and a conversation's settings, as they are or as they become."""

    person: PersonSettings
    place: ConversationSettings
    """What holds there."""
    own: ConversationSettings
    """What is set for the place itself."""


class _NoSuchValue(ValueError):
    pass


async def settings(asked: Asked) -> Done:
    if (refused := await refused_in_group(asked)) is not None:
        return refused
    conversation = asked.conversation
    now = _Chosen(conversation.person, conversation.settings, conversation.own_settings)
    name, _, value = re.sub(r"\s*[\s=]\s*", " ", asked.command.argument).partition(" ")
    offered = _offered(asked)
    if name not in offered:
        return Done((_menu(asked, now, offered),))
    if not value:
        return Done((_options(asked, now, name),))
    try:
        chosen = _with(asked, now, name, value)
    except _NoSuchValue:
        return Done((Segment(asked.say(f"no_such_value.{name}")),))
    spoken = chosen.place.language if asked.in_group else chosen.person.language
    if spoken is not None:
        asked = asked.speaking(spoken)
    user_id = asked.by.user_id
    if chosen.person != now.person:
        return Done(
            (_menu(asked, chosen, offered),),
            lambda tx: tx.people.update_settings(user_id, chosen.person),
            language=spoken,
        )
    segments = [_menu(asked, chosen, offered)]
    if chosen.place.answers is GroupAnswers.ALWAYS and now.place.answers is not GroupAnswers.ALWAYS:
        segments.append(told_to_all(asked))
    new = [channel for channel in chosen.own.channels if channel not in now.own.channels]
    return Done(tuple(segments), partial(_set, asked, chosen.own, new), language=spoken)


def _set(asked: Asked, own: ConversationSettings, new_channels: Sequence[str], tx: Transaction) -> None:
    """Write the place's settings down. In each channel that is set aside everybody is told."""
    tx.conversations.update_settings(asked.conversation.id, own)
    tx.inbox.add([_told_in(asked, channel) for channel in new_channels], asked.now)


def _told_in(asked: Asked, channel: str) -> IncomingMessage:
    by = asked.by.message
    return replace(
        by,
        event_id=f"{by.event_id}:{channel}",
        chat_id=f"{by.chat_id}/{channel}",
        command=Command(LISTENING),
        message_id=None,
        response=None,
    )


async def listening(asked: Asked) -> Done:
    return Done((told_to_all(asked),))


def told_to_all(asked: Asked) -> Segment:
    """Everybody there has to know that all they say is heard."""
    return Segment(asked.say("settings.always", settings=settings_command(asked)))


def settings_command(asked: Asked) -> str:
    """What a group's administrators type to change how the bot behaves."""
    return "/xinyu setup" if asked.conversation.platform in FORMED else "/settings"


def _is_server(asked: Asked) -> bool:
    """Whether it is about a group with channels, all of them."""
    return asked.in_group and asked.conversation.platform in FORMED and "/" not in asked.conversation.chat_id


def _offered(asked: Asked) -> tuple[str, ...]:
    if _is_server(asked):
        return SERVER_MENU
    if asked.in_group:
        return GROUP_MENU
    return WORDED_MENU if asked.conversation.platform in WORDED else PRIVATE_MENU


async def refused_in_group(asked: Asked) -> Done | None:
    """In a group only its administrators change how the bot behaves: what to say to anybody else."""
    if not asked.in_group or asked.by.message.manages:
        return None
    try:
        if asked.by.message.manages is None and await asked.may_manage(
            asked.conversation.chat_id, asked.by.message.sender_id
        ):
            return None
    except (DeliveryFailed, RecipientGone, ChatGoesOn, TimeoutError):
        return Done((Segment(asked.say("group.unknown")),))
    return Done((Segment(asked.say("group.admins_only")),))


def _menu(asked: Asked, chosen: _Chosen, offered: tuple[str, ...]) -> Segment:
    rows = tuple(
        (
            Button(
                f"{asked.say(f'setting.{name}')} · {_label(asked, name, _value(asked, chosen, name))}",
                f"settings {name}",
            ),
        )
        for name in offered
    )
    place = "server" if _is_server(asked) else "group" if asked.in_group else "private"
    text = asked.say(f"settings.{place}")
    return Segment(text, buttons=rows, replaces=asked.command.message_id)


def _options(asked: Asked, chosen: _Chosen, name: str) -> Segment:
    """One setting's values, the chosen one marked."""
    back: tuple[Button, ...] = (Button(asked.say("settings.back"), "settings"),)
    text, pressed_on = asked.say(f"about.{name}"), asked.command.message_id
    if name == "channels":
        picker = ChannelPicker(asked.say("settings.pick"), "settings channels", chosen.place.channels)
        return Segment(text, picker=picker, buttons=(back,), replaces=pressed_on)
    current = _value(asked, chosen, name)
    offered = _options_of(asked, name)
    values = offered if current in offered else (*offered, current)
    choices = tuple(
        # The chosen one says nothing new, and may be longer than a button can hold.
        Button(_label(asked, name, value), f"settings {name}", chosen=True)
        if value == current
        else Button(_label(asked, name, value), f"settings {name}={value}")
        for value in values
    )
    if name in asked.phrases.commands["ask"] and asked.conversation.platform in FORMED:
        text = asked.say(f"about_form.{name}")
        other = Button(asked.say("settings.other"), f"settings {name}", asks=asked.say(f"ask.{name}"))
        back = (other, *back)
    return Segment(text, choices=choices, buttons=(back,), replaces=pressed_on)


def _options_of(asked: Asked, name: str) -> tuple[str, ...]:
    if name == "persona":
        return tuple(card.id for card in asked.personas.cards)
    return SERVER_ANSWERS if name == "answers" and _is_server(asked) else OPTIONS[name]


def _label(asked: Asked, name: str, value: str) -> str:
    if name == "persona":
        card = asked.personas.of(value)
        about = card.about[asked.language]
        return f"{card.names[asked.language]} · {about}" if about else card.names[asked.language]
    if name == "channels":
        return (
            asked.say("settings.channels", count=int(value)) if value != "0" else asked.say("settings.none")
        )
    labels = asked.phrases.commands["value"].get(name, {})
    return str(labels.get(value, value))


def _value(asked: Asked, chosen: _Chosen, name: str) -> str:
    """What a setting is now, in the words of its options."""
    person, place = chosen.person, chosen.place
    match name:
        case "language":
            return (place.language if asked.in_group else person.language) or "auto"
        case "persona":
            return asked.personas.of(place.persona).id
        case "channels":
            return str(len(place.channels))
        case "hourly":
            return str(place.hourly) if place.hourly else "off"
        case "timezone":
            return person.time_zone or asked.default_zone
        case "quiet":
            hours = person.quiet_hours
            return f"{hours.since}-{hours.until}" if hours else "off"
        case "style":
            return place.style or "auto"
        case "wait":
            waits = (place.burst_quiet_seconds, place.burst_max_seconds)
            return next((name for name, seconds in _WAITS.items() if seconds == waits), "normal")
        case "feedback":
            return "on" if place.feedback else "off"
    return place.answers or GroupAnswers.MENTION


def _with(asked: Asked, now: _Chosen, name: str, value: str) -> _Chosen:
    """The settings with one of them changed. Raises _NoSuchValue."""
    if name == "timezone":
        return replace(now, person=replace(now.person, time_zone=_zone(value)))
    if name == "quiet":
        return replace(now, person=replace(now.person, quiet_hours=_hours(value)))
    if name == "channels":
        return _placed(now, channels=_channels(value))
    if value not in _options_of(asked, name):
        raise _NoSuchValue
    match name:
        case "language":
            language = None if value == "auto" else Language(value)
            if asked.in_group:
                return _placed(now, language=language)
            return replace(now, person=replace(now.person, language=language))
        case "persona":
            return _placed(now, persona=value)
        case "style":
            return _placed(now, style=None if value == "auto" else ReplyStyle(value))
        case "wait":
            quiet, longest = _WAITS[value]
            return _placed(now, burst_quiet_seconds=quiet, burst_max_seconds=longest)
        case "feedback":
            return _placed(now, feedback=value == "on")
        case "hourly":
            return _placed(now, hourly=None if value == "off" else int(value))
    return _placed(now, answers=GroupAnswers(value))


def _placed(now: _Chosen, **changes: Any) -> _Chosen:
    """With something else set for the place."""
    return replace(now, place=replace(now.place, **changes), own=replace(now.own, **changes))


def _channels(value: str) -> tuple[str, ...]:
    """Their ids; `none` for none."""
    if value == NO_CHANNELS:
        return ()
    ids = value.split(",")
    if len(ids) > MOST_CHANNELS or not all(re.fullmatch(r"[0-9]{1,20}", id_) for id_ in ids):
        raise _NoSuchValue
    return tuple(dict.fromkeys(ids))


def _zone(value: str) -> str:
    found = _zones().get(value.strip().replace(" ", "_").lower())
    if found is None:
        raise _NoSuchValue
    return found


@cache
def _zones() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def _hours(value: str) -> QuietHours | None:
    if value.lower() in ("off", "no", "关"):
        return None
    found = _HOURS.fullmatch(value.strip())
    if found is None:
        raise _NoSuchValue
    since, until = int(found[1]), int(found[2]) % 24
    if since == until:
        raise _NoSuchValue
    return QuietHours(since, until)
