"""Doing what a person asked for by a command or a button."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.commands import account, conversation, greeting, settings
from core.commands.asked import COMMANDS, EVERYWHERE, JOINED, Asked, Done
from core.messages import Segment

_DOING: dict[str, Callable[[Asked], Awaitable[Done]]] = {
    "start": greeting.start,
    "help": greeting.help_,
    JOINED: greeting.joined,
    "consent": greeting.consent,
    "settings": settings.settings,
    "reset": conversation.reset,
    "pause": conversation.pause,
    "resume": conversation.resume,
    "feedback": conversation.feedback,
    "export": account.export,
    "delete_me": account.delete_me,
}


async def run_command(asked: Asked) -> Done:
    """What is said in answer, and what is changed when that is committed. Raises StoreUnavailable."""
    if asked.in_group and asked.command.name == "start":  # what "add to group" links send by themselves
        return await greeting.help_(asked)
    if asked.conversation.kind not in COMMANDS.get(asked.command.name, EVERYWHERE):
        return Done((Segment(asked.say("group.private_only")),))
    return await _DOING[asked.command.name](asked)
