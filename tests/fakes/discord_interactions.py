"""Interactions: what is made when somebody uses a command, a button, a menu or a form, and how it may be answered.

After discord.com/developers/docs/interactions/receiving-and-responding: one first answer within three seconds, then
follow-ups and edits under the interaction's token for fifteen minutes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import discord_rules as rules
from tests.fakes.discord_rules import Form, Refused
from tests.fakes.discord_world import (
    CHAT_INPUT_COMMAND,
    CONTEXT_MENU_COMMAND,
    EPHEMERAL,
    LOADING,
    REPLY,
    Channel,
    Message,
    User,
)

COMMAND, COMPONENT, MODAL_SUBMIT = 2, 3, 5
MESSAGE_ANSWER, DEFERRED_ANSWER, DEFERRED_UPDATE, UPDATE, MODAL = 4, 5, 6, 7, 9
SECONDS_TO_ACKNOWLEDGE, SECONDS_TO_FOLLOW = 3.0, 15 * 60.0


@dataclass(eq=False)
class Interaction:
    id: int
    kind: int
    user: User
    channel: Channel
    data: dict[str, Any]
    source: Message | None = None
    """Whose button or menu was used."""
    command_kind: int = 1
    token: str = field(default_factory=lambda: secrets.token_urlsafe(64))
    clock: Callable[[], float] = field(default=time.time, repr=False)
    made_at: float = 0.0
    acknowledged_after: float | None = None
    deferred: bool = False
    """Whether the first answer said that another is to come."""
    deferred_ephemeral: bool = False
    modal: dict[str, Any] | None = None
    """The form that was shown."""
    answers: list[Message] = field(default_factory=list)
    """First answer and follow-ups, in order, deleted ones too."""
    original: Message | None = None
    callback: int | None = None
    """The kind of the first answer."""
    updated_source: bool = False
    """Whether the first answer changed the message that the button is on."""
    delivered: bool = False
    """Whether a session was there to be told."""
    _aged: float = 0.0

    def __post_init__(self) -> None:
        self.made_at = self.clock()

    @property
    def age(self) -> float:
        """In seconds, by the fake's clock: see `FakeDiscord.advance`."""
        return self.clock() - self.made_at + self._aged

    def late(self) -> None:
        """The three seconds pass."""
        self._aged = max(self._aged, SECONDS_TO_ACKNOWLEDGE + 0.01)

    def expire(self) -> None:
        """The fifteen minutes pass."""
        self._aged = SECONDS_TO_FOLLOW + 0.01

    @property
    def ephemeral(self) -> list[Message]:
        """The answers that only the user sees (and that are still there)."""
        return [message for message in self.answers if message.ephemeral and not message.deleted]

    @property
    def public(self) -> list[Message]:
        return [message for message in self.answers if not message.ephemeral and not message.deleted]

    @property
    def thinking(self) -> bool:
        """Whether the user still sees that an answer is to come."""
        return self.original is not None and bool(self.original.flags & LOADING) and not self.original.deleted

    @property
    def failed(self) -> bool:
        """Whether the user was told that the interaction failed."""
        return self.acknowledged_after is None and self.age > SECONDS_TO_ACKNOWLEDGE

    def metadata(self) -> dict[str, Any]:
        owner = {"0": str(self.channel.guild.id) if self.channel.guild is not None else "0"}
        metadata: dict[str, Any] = {
            "id": str(self.id),
            "type": self.kind,
            "user": self.user.json(),
            "authorizing_integration_owners": owner,
        }
        if self.kind == COMPONENT and self.source is not None:
            metadata["interacted_message_id"] = str(self.source.id)
        if self.kind == MODAL_SUBMIT:
            metadata["triggering_interaction_metadata"] = {**metadata, "type": COMMAND}
        return metadata


Posts = Callable[[Interaction, dict[str, Any], dict[int, Any], Message | None, int], Message]
"""Makes the message of an answer: of the interaction, its body, its files, what it replies to, its kind."""
Changes = Callable[[Message, dict[str, Any], dict[int, Any]], Message]


class Answers:
    """The endpoints under which interactions are answered."""

    def __init__(
        self, application_id: int, post: Posts, change: Changes, remove: Callable[[Message], None]
    ) -> None:
        self._application_id = application_id
        self._post = post
        self._change = change
        self._remove = remove
        self.made: dict[str, Interaction] = {}
        """By token."""

    def respond(
        self, interaction_id: int, token: str, body: dict[str, Any], files: dict[int, Any]
    ) -> tuple[Interaction, int]:
        """The first answer. Returns the interaction and the kind of the answer."""
        interaction = self.made.get(token)
        if interaction is None or interaction.id != interaction_id:
            raise Refused(*rules.UNKNOWN_INTERACTION)
        if interaction.acknowledged_after is not None:
            raise Refused(*rules.ACKNOWLEDGED)
        if interaction.age > SECONDS_TO_ACKNOWLEDGE:
            raise Refused(*rules.UNKNOWN_INTERACTION)
        kind = _checked_kind(interaction, body)
        self._take(interaction, kind, body.get("data") or {}, files)
        interaction.acknowledged_after = interaction.age
        interaction.callback = kind
        return interaction, kind

    def _take(self, interaction: Interaction, kind: int, data: dict[str, Any], files: dict[int, Any]) -> None:
        if kind == MESSAGE_ANSWER:
            interaction.original = self._answer(interaction, data, files, first=True)
        elif kind == DEFERRED_ANSWER:
            interaction.deferred = True
            interaction.deferred_ephemeral = bool(int(data.get("flags") or 0) & EPHEMERAL)
            flags = LOADING | (EPHEMERAL if interaction.deferred_ephemeral else 0)
            interaction.original = self._waiting(interaction, flags)
        elif kind == DEFERRED_UPDATE:
            interaction.deferred = True
            interaction.original = interaction.source
        elif kind == UPDATE:
            assert interaction.source is not None
            interaction.original = self._change(interaction.source, data, files)
            interaction.updated_source = True
        elif kind == MODAL:
            form = Form()
            rules.check_modal(form, data)
            form.check()
            interaction.modal = data

    def _waiting(self, interaction: Interaction, flags: int) -> Message:
        body = {"flags": flags}
        return self._post(interaction, body, {}, interaction.source, self._kind_of_first(interaction))

    def _kind_of_first(self, interaction: Interaction) -> int:
        if interaction.kind == COMMAND:
            return CHAT_INPUT_COMMAND if interaction.command_kind == 1 else CONTEXT_MENU_COMMAND
        return REPLY if interaction.source is not None else CHAT_INPUT_COMMAND

    def _answer(
        self, interaction: Interaction, data: dict[str, Any], files: dict[int, Any], *, first: bool = False
    ) -> Message:
        replied = interaction.source if first else interaction.original
        kind = self._kind_of_first(interaction) if first else REPLY
        if not first and replied is None:
            kind = 0
        message = self._post(interaction, data, files, replied, kind)
        interaction.answers.append(message)
        return message

    # --- afterwards ------------------------------------------------------------------------------

    def followed(self, application_id: int, token: str) -> Interaction:
        """The interaction whose token may still be used."""
        interaction = self.made.get(token)
        if application_id != self._application_id:
            raise Refused(*rules.UNKNOWN_WEBHOOK)
        if interaction is None or interaction.age > SECONDS_TO_FOLLOW:
            raise Refused(*rules.BAD_WEBHOOK_TOKEN)
        if interaction.acknowledged_after is None:
            raise Refused(*rules.UNKNOWN_WEBHOOK)
        return interaction

    def follow_up(self, interaction: Interaction, body: dict[str, Any], files: dict[int, Any]) -> Message:
        """The first one after a deferral takes the place of what is waited for, and is as visible as that."""
        if interaction.thinking:
            return self._fulfil(interaction, body, files)
        return self._answer(interaction, body, files)

    def _fulfil(self, interaction: Interaction, body: dict[str, Any], files: dict[int, Any]) -> Message:
        original = interaction.original
        assert original is not None
        changed = self._change(original, body, files)
        interaction.answers.append(changed)
        return changed

    def found(self, interaction: Interaction, name: str) -> Message:
        """`@original`, or an id of one of its answers."""
        if name == "@original":
            message = interaction.original
        else:
            message = next((answer for answer in interaction.answers if str(answer.id) == name), None)
        if message is None or message.deleted:
            raise Refused(*rules.UNKNOWN_MESSAGE)
        return message

    def edit(
        self, interaction: Interaction, name: str, body: dict[str, Any], files: dict[int, Any]
    ) -> Message:
        message = self.found(interaction, name)
        if message is interaction.original and interaction.thinking:
            return self._fulfil(interaction, body, files)
        return self._change(message, body, files)

    def delete(self, interaction: Interaction, name: str) -> None:
        self._remove(self.found(interaction, name))


def _checked_kind(interaction: Interaction, body: dict[str, Any]) -> int:
    kind = body.get("type")
    allowed = {MESSAGE_ANSWER, DEFERRED_ANSWER}
    if interaction.source is not None:
        allowed |= {DEFERRED_UPDATE, UPDATE}
    if interaction.kind != MODAL_SUBMIT:
        allowed.add(MODAL)
    if not isinstance(kind, int) or kind not in allowed:
        form = Form()
        form.wrong("type", "BASE_TYPE_CHOICES", f"Value must be one of {sorted(allowed)}.")
        form.check()
    assert isinstance(kind, int)
    return kind
