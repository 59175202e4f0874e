"""Conversations that broke in a way nobody foresaw: left alone for a while, instead of spinning."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.ports import Clock

REMEMBERED = 1000


class Pauses:
    def __init__(self, clock: Clock, length: timedelta) -> None:
        self._clock = clock
        self._length = length
        self._until: dict[int, datetime] = {}

    def begin(self, conversation_id: int) -> None:
        self._until[conversation_id] = self._clock.now() + self._length
        if len(self._until) > REMEMBERED:
            del self._until[next(iter(self._until))]

    def hold(self, conversation_id: int) -> bool:
        """Whether it is still to be left alone."""
        until = self._until.get(conversation_id)
        if until is not None and until <= self._clock.now():
            del self._until[conversation_id]
            return False
        return until is not None
