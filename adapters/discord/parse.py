"""A Discord message as core knows it. Parsing asks nobody; what is nobody's words is a fixed word for the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import discord

from adapters.discord.places import place_of, private_with
from core.commands.asked import command_of
from core.messages import Attachment, AttachmentKind, ConversationKind, IncomingMessage, Platform, Quote
from core.text import NotText, clean

NAME_CHARACTERS = 80
_SPOKEN = frozenset({discord.MessageType.default, discord.MessageType.reply})
_MENTION = re.compile(r"<(?P<sign>@!?|@&|#)(?P<id>[0-9]{1,20})>")
_EMOJI = re.compile(r"<a?(?P<name>:[A-Za-z0-9_]{1,32}:)[0-9]{1,20}>")
TEXT_TYPES = ("text/plain", "text/markdown")


@dataclass(frozen=True, slots=True)
class Me:
    """The bot, as messages name it."""

    id: int
    application_id: int


def event_id_of(message: discord.Message) -> str:
    """Unique for ever, and enough to find the message again."""
    return f"{message.channel.id}:{message.id}"


def is_addressed(message: discord.Message, me: Me) -> bool:
    """Whether something in a server is meant for the bot: mentioned, by its role too, or answered."""
    if any(user.id == me.id for user in message.mentions):
        return True
    if any(role.tags is not None and role.tags.bot_id == me.id for role in message.role_mentions):
        return True
    earlier = _earlier(message)
    return earlier is not None and earlier.author.id == me.id


def _earlier(message: discord.Message) -> discord.Message | None:
    resolved = message.reference.resolved if message.reference is not None else None
    return resolved if isinstance(resolved, discord.Message) else None


def parse(message: discord.Message, me: Me, texts: Sequence[str] = ()) -> IncomingMessage | str:
    """What a message is to core, or why it is nothing. `texts`: what its text files say."""
    if message.author.bot or message.webhook_id is not None:
        return "of_a_bot"
    if message.type not in _SPOKEN:
        return f"message_{message.type.name}"
    forwarded = message.message_snapshots[0] if message.message_snapshots else None
    content = forwarded.content if forwarded is not None else message.content
    try:
        said = clean(_readable(content, message, me))
    except NotText:
        return "not_unicode"
    said = "\n".join(filter(None, [said, *map(_clean_or_nothing, texts)]))
    attachments = attachments_of(forwarded if forwarded is not None else message)
    in_server = message.guild is not None
    addressed = not in_server or is_addressed(message, me)
    if not said and not attachments:
        if not (addressed and in_server and content):
            return "poll" if message.poll is not None else "nothing_said"
        said = "👋"  # they called the bot and said no more
    command = command_of(said) if not (attachments or texts or forwarded) else None
    return IncomingMessage(
        platform=Platform.DISCORD,
        event_id=event_id_of(message),
        chat_id=_place(message),
        sender_id=str(message.author.id),
        text=said,
        sent_at=message.created_at,
        kind=ConversationKind.GROUP if in_server else ConversationKind.PRIVATE,
        alone=command is not None,
        message_id=str(message.id),
        attachments=attachments,
        quote=_quote(message, me),
        forwarded_from="" if forwarded is not None else None,
        speaker=name_of(message.author.display_name) if in_server else "",
        addressed=addressed or command is not None,
        command=command,
    )


def _place(message: discord.Message) -> str:
    if message.guild is None:
        return private_with(message.author.id)
    return place_of(message.guild.id, message.channel, message.channel.id)


def _readable(content: str, message: discord.Message, me: Me) -> str:
    """What people read: names for mentions, none of ours (it is how they call us), and emojis by their names."""

    def named(found: re.Match[str]) -> str:
        id_ = int(found["id"])
        if found["sign"].startswith("@") and found["sign"] != "@&":
            if id_ == me.id:
                return ""
            return "@" + next((user.display_name for user in message.mentions if user.id == id_), "?")
        if found["sign"] == "@&":
            role = next((role for role in message.role_mentions if role.id == id_), None)
            if role is not None and role.tags is not None and role.tags.bot_id == me.id:
                return ""
            return f"@{role.name if role is not None else '?'}"
        channel = message.guild.get_channel_or_thread(id_) if message.guild is not None else None
        return f"#{channel.name if channel is not None else '?'}"

    return _EMOJI.sub(lambda found: found["name"], _MENTION.sub(named, content))


def attachments_of(message: discord.Message | discord.MessageSnapshot) -> tuple[Attachment, ...]:
    stickers = tuple(
        Attachment(AttachmentKind.STICKER, name=name_of(sticker.name), emoji=f"[{name_of(sticker.name)}]")
        for sticker in message.stickers
    )
    files = tuple(_file(attachment) for attachment in message.attachments if not is_text(attachment))
    return files + stickers


def is_text(attachment: discord.Attachment) -> bool:
    """A text file: Discord makes one of any message that is longer than its limit."""
    return (attachment.content_type or "").partition(";")[0].strip().lower() in TEXT_TYPES


def _file(attachment: discord.Attachment) -> Attachment:
    name, file_id = name_of(attachment.filename), str(attachment.id)
    if attachment.is_voice_message():
        return Attachment(AttachmentKind.VOICE, seconds=int(attachment.duration or 0), file_id=file_id)
    kind = (attachment.content_type or "").partition("/")[0]
    if attachment.content_type == "image/gif":
        return Attachment(AttachmentKind.ANIMATION, file_id=file_id)
    if kind == "image":
        return Attachment(AttachmentKind.PHOTO, file_id=file_id)
    if kind == "video":
        return Attachment(AttachmentKind.VIDEO, file_id=file_id)
    if kind == "audio":
        return Attachment(AttachmentKind.AUDIO, name=name, file_id=file_id)
    return Attachment(AttachmentKind.DOCUMENT, name=name, file_id=file_id)


def _quote(message: discord.Message, me: Me) -> Quote | None:
    earlier = _earlier(message)
    if earlier is None:
        return None
    try:
        text = clean(_readable(earlier.content, earlier, me))
    except NotText:
        return None
    if not text:
        return None
    of_self = earlier.author.id == message.author.id
    return Quote(
        text,
        of_bot=earlier.author.id == me.id,
        speaker="" if of_self or message.guild is None else name_of(earlier.author.display_name),
    )


def _clean_or_nothing(text: str) -> str:
    try:
        return clean(text)
    except NotText:
        return ""


def name_of(name: str) -> str:
    """A name on one line, not too long: it stands in the middle of sentences."""
    return " ".join(_clean_or_nothing(name).split())[:NAME_CHARACTERS]
