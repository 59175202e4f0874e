"""What a command is given and what it gives back. Commands are named here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from core.language import Language
from core.messages import Command, ConversationKind, Platform, Segment
from core.persona.card import Personas
from core.phrases import Phrases
from core.ports import ClaimedConversation, Pending, Store, Transaction

PRIVATE = frozenset({ConversationKind.PRIVATE})
EVERYWHERE = frozenset(ConversationKind)
COMMANDS: dict[str, frozenset[ConversationKind]] = {
    "start": PRIVATE,
    "help": EVERYWHERE,
    "settings": EVERYWHERE,
    "reset": EVERYWHERE,
    "pause": EVERYWHERE,
    "resume": EVERYWHERE,
    "export": PRIVATE,
    "delete_me": PRIVATE,
}
"""What people can type or choose from a channel's menu, in its order, and where."""
IN_WORDS_ONLY: dict[str, frozenset[ConversationKind]] = {"more": PRIVATE}
"""What people can say besides where commands are said in words (core/commands/words.py), and where."""
IN_FORMS_ONLY: dict[str, frozenset[ConversationKind]] = dict.fromkeys(
    ("chat", "persona", "xinyu setup"), PRIVATE
)
"""What people can choose besides where commands are forms (FORMED): there each works everywhere."""
BUTTONS_ONLY = frozenset({"consent", "feedback"})
"""What only our own buttons say."""
JOINED = "joined"
"""Nobody types it: the bot was added to a group."""
MISSED = "missed"
"""Nor this: what somebody wrote while the bot was away is too old to be answered now."""
LISTENING = "listening"
"""Nor this: a channel was set aside, where everything is heard from now on."""
FORMED = frozenset({Platform.DISCORD})
"""Platforms where a button can ask for words (Button.asks), and where a group has channels of its own."""
ARGUMENT_CHARACTERS = 64
_TYPED = re.compile(r"/([A-Za-z0-9_]{1,32})(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command on its way to being done."""

    command: Command
    conversation: ClaimedConversation
    by: Pending
    language: Language
    every_phrases: Mapping[Language, Phrases]
    personas: Personas
    now: datetime
    default_zone: str
    store: Store
    may_manage: Callable[[str, str], Awaitable[bool]]
    """Whether somebody (a platform user id) is an administrator of a chat."""

    @property
    def phrases(self) -> Phrases:
        return self.every_phrases[self.language]

    def speaking(self, language: Language) -> Asked:
        """The same in another language."""
        return replace(self, language=language)

    @property
    def in_group(self) -> bool:
        return self.conversation.kind is ConversationKind.GROUP

    def say(self, name: str, **values: object) -> str:
        """One of the command's texts: `table.name` of [commands] in the locales."""
        table, _, key = name.partition(".")
        text: str = self.phrases.commands[table][key]
        return text.format(**values) if values else text.strip()


@dataclass(frozen=True, slots=True)
class Done:
    """What a command says, and what it changes when its turn is committed."""

    segments: tuple[Segment, ...]
    effect: Callable[[Transaction], None] | None = None
    written: bool = True
    """Whether command and answer go into the history."""
    language: Language | None = None
    """What it is said in, where the command itself has changed that."""


def command_of(text: str, message_id: str | None = None) -> Command | None:
    """The command that a text is: `/settings language en`. None if it is none of ours."""
    found = _TYPED.fullmatch(text.strip())
    if found is None or found[1].lower() not in COMMANDS:
        return None
    return Command(found[1].lower(), (found[2] or "").strip()[:ARGUMENT_CHARACTERS], message_id)


def pressed(command: str, message_id: str) -> Command | None:
    """The command of a button of ours."""
    name, _, argument = command.partition(" ")
    if name not in COMMANDS and name not in BUTTONS_ONLY:
        return None
    return Command(name, argument, message_id)
