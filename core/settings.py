"""What people choose about how they are talked with: some of it belongs to a person, some to a place."""

from __future__ import annotations

from dataclasses import dataclass
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
