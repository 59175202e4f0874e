"""First contact: who the bot is, what it stores, and whether that is all right."""

from __future__ import annotations

from dataclasses import replace

from core.commands.account import ask_first, erasing
from core.commands.asked import COMMANDS, FORMED, IN_FORMS_ONLY, IN_WORDS_ONLY, Asked, Done
from core.commands.settings import settings_command
from core.commands.words import WORDED
from core.messages import Button, ConversationKind, Segment, Source
from core.settings import lineage


async def start(asked: Asked) -> Done:
    known = asked.conversation.person.consented_at is not None
    return Done((Segment(asked.say("start.text"), buttons=() if known else _consent_buttons(asked)),))


def _consent_buttons(asked: Asked) -> tuple[tuple[Button, ...], ...]:
    yes = Button(asked.say("start.agree"), "consent yes")
    no = Button(asked.say("start.decline"), "consent no")
    return ((yes, no),)


async def consent(asked: Asked) -> Done:
    """The answer to `start`'s question. A no leaves nothing of them behind."""
    pressed_on = asked.command.message_id
    start_stays = () if pressed_on is None else (Segment("", replaces=pressed_on),)
    if asked.command.argument != "yes" and (
        asked.conversation.person.consented_at is not None or _has_talked_in_words(asked)
    ):
        return ask_first(asked)  # an old button: they have been talking since
    if asked.command.argument != "yes":
        return erasing(asked, (*start_stays, Segment(asked.say("start.declined"))))
    user_id = asked.by.user_id
    agreed = replace(asked.conversation.person, consented_at=asked.now)
    return Done(
        (*start_stays, Segment(asked.say("start.agreed"))),
        lambda tx: tx.people.update_settings(user_id, agreed),
    )


def _has_talked_in_words(asked: Asked) -> bool:
    """Whether anything was said where a button's words may be meant as words."""
    talked = any(said.source is Source.PERSON for said in asked.conversation.window)
    return talked and asked.conversation.platform in WORDED


async def help_(asked: Asked) -> Done:
    kind, offered, means = asked.conversation.kind, COMMANDS, asked.phrases.commands["menu"]
    if asked.conversation.platform in WORDED:
        offered, means = offered | IN_WORDS_ONLY, means | asked.phrases.commands["menu_in_words"]
    if asked.conversation.platform in FORMED:
        kind, means = ConversationKind.PRIVATE, means | asked.phrases.commands["menu_in_forms"]
        offered = offered | IN_FORMS_ONLY
    told = [f"/{name} {means[name]}" for name, places in offered.items() if kind in places and name != "help"]
    intro = asked.say("help.group" if asked.in_group else "help.private")
    return Done((Segment("\n".join([intro, "", *told])),))


async def joined(asked: Asked) -> Done:
    """Whatever was set before it left: what it says of itself now has to be true."""
    platform, group = asked.conversation.platform, lineage(asked.conversation.chat_id)[0]
    return Done(
        (Segment(asked.say("joined.text", settings=settings_command(asked))),),
        lambda tx: tx.conversations.forget_settings(platform, group),
    )


async def missed(asked: Asked) -> Done:
    """They wrote while nobody was there, longer ago than an answer would still be one."""
    return Done((Segment(asked.say("missed.text")),))
