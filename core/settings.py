"""What people choose about how they are talked with: some of it belongs to a person, some to a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from core.language import Language


class GroupAnswers(StrEnum):
    """What the bot answers in a group."""

    MENTION = "mention"
    """When it is mentioned, answered or commanded."""
    ALWAYS = "always"
    OFF = "off"
    """Only commands."""


class ReplyStyle(StrEnum):
    WHOLE = "whole"
    BUBBLES = "bubbles"
    """A few short messages with pauses, as people type."""


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    burst_quiet_seconds: float | None = None
    burst_max_seconds: float | None = None
    answers: GroupAnswers | None = None
    style: ReplyStyle | None = None
    """None: as the persona has it."""
    feedback: bool | None = None
    """Whether answers carry buttons that ask how they were."""
    persona: str | None = None
    """A card's id; None: the operator's default."""
    language: Language | None = None
    """What is spoken in a group; None: as each person writes."""
    channels: tuple[str, ...] = ()
    """Channels of a group that are set aside for the bot: there it answers everything."""
    hourly: int | None = None
    """How often one person of a group is answered within an hour; None: always. Danger always is."""


def lineage(chat_id: str) -> tuple[str, ...]:
    """A group's place and those that it lies in, outermost first: a server, a channel of it, a thread of that."""
    parts = chat_id.split("/")
    return tuple("/".join(parts[: count + 1]) for count in range(len(parts)))


def settings_at(chat_id: str, found: Mapping[str, ConversationSettings]) -> ConversationSettings:
    """What holds in a group's place: its own settings (in `found`), and where it has none those of the place around."""
    holds = ConversationSettings()
    for place in lineage(chat_id):
        if place.rpartition("/")[2] in holds.channels:
            holds = replace(holds, answers=GroupAnswers.ALWAYS)
        own = found.get(place, ConversationSettings())
        values = {one.name: getattr(own, one.name) for one in fields(own)}
        holds = replace(holds, **{name: value for name, value in values.items() if value not in (None, ())})
    return holds


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day, the person's own; `until` is the first one that is not quiet."""

    since: int
    until: int

    def hold(self, hour: int) -> bool:
        if self.since <= self.until:
            return self.since <= hour < self.until
        return hour >= self.since or hour < self.until


@dataclass(frozen=True, slots=True)
class PersonSettings:
    language: Language | None = None
    """None: as they write."""
    time_zone: str | None = None
    """An IANA name; None: the operator's TIMEZONE."""
    quiet_hours: QuietHours | None = None
    consented_at: datetime | None = None
    """When they agreed that what they write is stored; None: not asked, or no answer yet."""

    def is_quiet(self, now: datetime, default_zone: str) -> bool:
        """Whether it is the person's quiet hours now."""
        if self.quiet_hours is None:
            return False
        return self.quiet_hours.hold(now.astimezone(ZoneInfo(self.time_zone or default_zone)).hour)
