"""Interactions: a slash command, a press, a filled-in form. Each has to be acknowledged within 3 seconds and can be
answered for 15 minutes, by its id and token (discord.com/developers/docs/interactions/receiving-and-responding)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Handle:
    """What it takes to answer an interaction, also after a restart."""

    interaction_id: int
    application_id: int
    token: str
    on_message: bool
    """It came from a message's button, list or form: that message is its `@original`."""
    ephemeral: bool
    """Only who asked gets to see the answer."""

    def packed(self) -> str:
        flags = ("m" if self.on_message else "") + ("e" if self.ephemeral else "")
        return f"{self.interaction_id}:{self.application_id}:{flags}:{self.token}"

    @classmethod
    def of(cls, packed: str) -> Handle:
        interaction_id, application_id, flags, token = packed.split(":", 3)
        return cls(int(interaction_id), int(application_id), token, "m" in flags, "e" in flags)


class Response:
    """One interaction's, as far as this process knows."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        """Held by whoever acknowledges it or answers."""
        self.acknowledged = asyncio.Event()


class Responses:
    """Shared by who receives interactions and who answers them. Forgets the oldest: Discord tells what was done."""

    def __init__(self) -> None:
        self._known: dict[int, Response] = {}

    def of(self, interaction_id: int) -> Response:
        response = self._known.setdefault(interaction_id, Response())
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return response
