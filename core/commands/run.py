"""Doing what a person asked for by a command or a button."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.commands import account, conversation, greeting, settings
from core.commands.asked import COMMANDS, EVERYWHERE, IN_WORDS_ONLY, JOINED, LISTENING, MISSED, Asked, Done
from core.commands.words import WORDED, in_the_language_of_their_words, worded
from core.messages import Segment

_DOING: dict[str, Callable[[Asked], Awaitable[Done]]] = {
    "start": greeting.start,
    "help": greeting.help_,
    JOINED: greeting.joined,
    MISSED: greeting.missed,
    "consent": greeting.consent,
    LISTENING: settings.listening,
    "settings": settings.settings,
    "reset": conversation.reset,
    "pause": conversation.pause,
    "resume": conversation.resume,
    "feedback": conversation.feedback,
    "more": conversation.more,
    "export": account.export,
    "delete_me": account.delete_me,
}


async def run_command(asked: Asked) -> Done:
    """What is said in answer, and what is changed when that is committed. Raises StoreUnavailable."""
    if asked.conversation.platform not in WORDED:
        return await _run(asked)
    asked = in_the_language_of_their_words(asked)
    return worded(await _run(asked), asked)


async def _run(asked: Asked) -> Done:
    name, kind = asked.command.name, asked.conversation.kind
    if asked.in_group and name == "start":  # what "add to group" links send by themselves
        return await greeting.help_(asked)
    if kind not in (COMMANDS | IN_WORDS_ONLY).get(name, EVERYWHERE):
        return Done((Segment(asked.say("group.private_only")),))
    return await _DOING[name](asked)
