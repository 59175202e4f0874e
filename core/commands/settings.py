"""Settings, as a menu of buttons that changes in place, or typed: `/settings language en`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from zoneinfo import available_timezones

from core.commands.asked import Asked, Done
from core.commands.words import WORDED
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.language import Language
from core.messages import Button, Segment
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle

PRIVATE_MENU = ("language", "timezone", "quiet", "style", "wait", "feedback")
WORDED_MENU = ("language", "timezone", "wait")
"""What has an effect where commands are said in words: no message there is silent, has bubbles or buttons."""
GROUP_MENU = ("answers", "style", "wait")
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
}
_WAITS = {"off": (0.0, 0.0), "normal": (None, None), "long": (3.0, 15.0)}
"""Quiet seconds, at most so many: how long to wait until somebody has finished typing."""
_HOURS = re.compile(r"([01]?[0-9]|2[0-3])\s*[-–~到至]\s*([01]?[0-9]|2[0-4])")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A person's and a conversation's settings, as they are or as they become."""

    person: PersonSettings
    place: ConversationSettings


class _NoSuchValue(ValueError):
    pass


async def settings(asked: Asked) -> Done:
    if (refused := await refused_in_group(asked)) is not None:
        return refused
    now = _Chosen(asked.conversation.person, asked.conversation.settings)
    name, _, value = re.sub(r"\s*[\s=]\s*", " ", asked.command.argument).partition(" ")
    offered = _offered(asked)
    if name not in offered:
        return Done((_menu(asked, now, offered),))
    if not value:
        return Done((_options(asked, now, name),))
    try:
        chosen = _with(now, name, value)
    except _NoSuchValue:
        return Done((Segment(asked.say(f"no_such_value.{name}")),))
    if chosen.person.language is not None:
        asked = asked.speaking(chosen.person.language)
    user_id, conversation_id = asked.by.user_id, asked.conversation.id
    if chosen.person != now.person:
        return Done(
            (_menu(asked, chosen, offered),),
            lambda tx: tx.people.update_settings(user_id, chosen.person),
            language=chosen.person.language,
        )
    segments = [_menu(asked, chosen, offered)]
    if chosen.place.answers is GroupAnswers.ALWAYS and now.place.answers is not GroupAnswers.ALWAYS:
        segments.append(Segment(asked.say("settings.always")))  # everybody there has to know
    return Done(tuple(segments), lambda tx: tx.conversations.update_settings(conversation_id, chosen.place))


def _offered(asked: Asked) -> tuple[str, ...]:
    if asked.in_group:
        return GROUP_MENU
    return WORDED_MENU if asked.conversation.platform in WORDED else PRIVATE_MENU


async def refused_in_group(asked: Asked) -> Done | None:
    """In a group only its administrators change how the bot behaves: what to say to anybody else."""
    if not asked.in_group:
        return None
    try:
        if await asked.may_manage(asked.conversation.chat_id, asked.by.message.sender_id):
            return None
    except (DeliveryFailed, RecipientGone, ChatGoesOn, TimeoutError):
        return Done((Segment(asked.say("group.unknown")),))
    return Done((Segment(asked.say("group.admins_only")),))


def _menu(asked: Asked, chosen: _Chosen, offered: tuple[str, ...]) -> Segment:
    rows = tuple(
        (
            Button(
                f"{asked.say(f'setting.{name}')} · {_label(asked, name, _value(chosen, name, asked.default_zone))}",
                f"settings {name}",
            ),
        )
        for name in offered
    )
    text = asked.say("settings.group" if asked.in_group else "settings.private")
    return Segment(text, buttons=rows, replaces=asked.command.message_id)


def _options(asked: Asked, chosen: _Chosen, name: str) -> Segment:
    """One setting's values, two in a row, the chosen one ticked."""
    current = _value(chosen, name, asked.default_zone)
    values = OPTIONS[name] if current in OPTIONS[name] else (*OPTIONS[name], current)
    buttons = [
        # The chosen one says nothing new, and may be longer than a button can hold.
        Button(f"✓ {_label(asked, name, value)}", f"settings {name}")
        if value == current
        else Button(_label(asked, name, value), f"settings {name}={value}")
        for value in values
    ]
    rows = [tuple(buttons[index : index + 2]) for index in range(0, len(buttons), 2)]
    rows.append((Button(asked.say("settings.back"), "settings"),))
    return Segment(asked.say(f"about.{name}"), buttons=tuple(rows), replaces=asked.command.message_id)


def _label(asked: Asked, name: str, value: str) -> str:
    labels = asked.phrases.commands["value"].get(name, {})
    return str(labels.get(value, value))


def _value(chosen: _Chosen, name: str, default_zone: str) -> str:
    """What a setting is now, in the words of OPTIONS."""
    person, place = chosen.person, chosen.place
    match name:
        case "language":
            return person.language or "auto"
        case "timezone":
            return person.time_zone or default_zone
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


def _with(now: _Chosen, name: str, value: str) -> _Chosen:
    """The settings with one of them changed. Raises _NoSuchValue."""
    if name == "timezone":
        return replace(now, person=replace(now.person, time_zone=_zone(value)))
    if name == "quiet":
        return replace(now, person=replace(now.person, quiet_hours=_hours(value)))
    if value not in OPTIONS[name]:
        raise _NoSuchValue
    match name:
        case "language":
            language = None if value == "auto" else Language(value)
            return replace(now, person=replace(now.person, language=language))
        case "style":
            return replace(
                now, place=replace(now.place, style=None if value == "auto" else ReplyStyle(value))
            )
        case "wait":
            quiet, longest = _WAITS[value]
            return replace(
                now, place=replace(now.place, burst_quiet_seconds=quiet, burst_max_seconds=longest)
            )
        case "feedback":
            return replace(now, place=replace(now.place, feedback=value == "on"))
    return replace(now, place=replace(now.place, answers=GroupAnswers(value)))


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
