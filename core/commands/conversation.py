"""What a person can do to a conversation: begin anew, hush, say how an answer was, ask for what was kept back."""

from __future__ import annotations

from datetime import datetime

from core.commands.asked import Asked, Done
from core.commands.settings import refused_in_group
from core.feedback import BAD, GOOD
from core.messages import Segment


async def reset(asked: Asked) -> Done:
    if (refused := await refused_in_group(asked)) is not None:
        return refused
    conversation_id, first = asked.conversation.id, asked.by.inbox_id
    return Done(
        (Segment(asked.say("reset.done")),),
        lambda tx: tx.conversations.begin_anew(conversation_id, first),
    )


async def pause(asked: Asked) -> Done:
    return await _pause(asked, "pause", asked.now)


async def resume(asked: Asked) -> Done:
    return await _pause(asked, "resume", None)


async def _pause(asked: Asked, table: str, since: datetime | None) -> Done:
    if (refused := await refused_in_group(asked)) is not None:
        return refused
    conversation_id = asked.conversation.id
    return Done(
        (Segment(asked.say(f"{table}.group" if asked.in_group else f"{table}.private")),),
        lambda tx: tx.conversations.pause(conversation_id, since),
    )


async def feedback(asked: Asked) -> Done:
    """A button under an answer: it is kept, and the buttons go."""
    message_id, verdict = asked.command.message_id, GOOD if asked.command.argument == GOOD else BAD
    if message_id is None:
        return Done((), written=False)
    conversation_id, user_id, now = asked.conversation.id, asked.by.user_id, asked.now

    return Done(
        (Segment("", replaces=message_id),),
        lambda tx: _judged(tx.feedback.judge(conversation_id, user_id, message_id, verdict, now)),
        written=False,
    )


async def more(asked: Asked) -> Done:
    """Whatever is kept back for the person goes out beside this by itself: only if there is nothing, that is said."""
    conversation_id, event_id = asked.conversation.id, asked.by.message.event_id
    if await asked.store.read(lambda tx: tx.deliveries.is_owed(conversation_id, event_id)):
        return Done((), written=False)
    return Done((Segment(asked.say("more.nothing")),), written=False)


def _judged(_: bool) -> None:
    """A message that is none of our answers (any more) is nobody's fault."""
