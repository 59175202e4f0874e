"""A turn's answer as the segments that go out: cut, in bubbles, with buttons, as its conversation wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.bubbles import bubbles
from core.feedback import BAD, GOOD
from core.messages import Button, ConversationKind, Segment
from core.outbox import Channel
from core.ports import ClaimedConversation, Pending
from core.settings import ReplyStyle

FEEDBACK = ((Button("👍", f"feedback {GOOD}"), Button("👎", f"feedback {BAD}")),)


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer goes out."""

    style: ReplyStyle
    silent: bool = False
    urgent: bool = False
    feedback: bool = False
    """Whether it asks how it was."""
    replaces: str | None = None
    """The message that showed a part of it."""


def spoken(channel: Channel, text: str, manner: Manner) -> tuple[Segment, ...]:
    """Text of a model, the listener or the protocol."""
    if manner.style is ReplyStyle.BUBBLES and channel.bubbles:
        segments = []
        for bubble in bubbles(text):
            first, *rest = channel.render(bubble.text) or [Segment(bubble.text)]
            segments += [replace(first, pause_seconds=bubble.pause_seconds), *rest]
    else:
        segments = channel.render(text)
    if manner.feedback and segments:
        segments[-1] = replace(segments[-1], buttons=FEEDBACK)
    if manner.replaces is not None and segments:
        segments[0] = replace(segments[0], replaces=manner.replaces)
    return tuple(replace(segment, silent=manner.silent, urgent=manner.urgent) for segment in segments)


def addressed(
    segments: Sequence[Segment], conversation: ClaimedConversation, messages: Sequence[Pending]
) -> tuple[Segment, ...]:
    """The segments made out to whom they answer: their buttons are theirs, and a group sees whom it is about."""
    asker = messages[-1].message
    made_out = [
        replace(
            segment,
            owner=asker.sender_id if segment.rows or segment.picker else "",
            response=asker.response,
            follows=number > 0 and asker.response is not None,
        )
        for number, segment in enumerate(segments)
    ]
    if conversation.kind is ConversationKind.GROUP and made_out and made_out[0].replaces is None:
        made_out[0] = replace(made_out[0], answers=asker.message_id)
    return tuple(made_out)
