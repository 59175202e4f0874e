"""A message or an event of WeChat's as what core knows. Parsing asks nobody, and raises only BrokenXml."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from wechatpy import events, messages
from wechatpy.parser import parse_message

from adapters.wechat.places import place_of
from adapters.wechat.xml import BrokenXml, fields_of
from core.commands.words import command_in_words
from core.messages import (
    Attachment,
    AttachmentKind,
    Command,
    IncomingMessage,
    Platform,
    ReachChanged,
)
from core.text import NotText, clean

KIND_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came: something to answer, a chat that was opened or closed, or neither."""

    event_id: str
    openid: str
    account_id: str
    """The account's own name for itself (gh_…): the sender of a passive reply."""
    kind: str
    message: IncomingMessage | None = None
    reach: ReachChanged | None = None
    known: bool = True
    """Whether we know what it is, and meant to do what we do."""


def parse(xml: str, app_id: str) -> Parsed:
    """Raises BrokenXml for what no WeChat sends."""
    fields = fields_of(xml)  # refuses DTDs and entities before anybody expands one
    try:
        found = parse_message(xml)
        # A MsgId is unique in itself, but has been seen doubled between people (binarywang/WxJava issue 333).
        openid, account_id, number, second = found.source, found.target, found.id, found.time
        event = fields.get("Event", "") if fields.get("MsgType", "").lower() == "event" else ""
        if not (isinstance(openid, str) and isinstance(account_id, str) and openid and account_id):
            raise BrokenXml("from nobody, or to nobody")
        name = f"{number}" if number and not event else f"{int(second or 0)}:{event}{_key_of(event, fields)}"
        sent_at = datetime.fromtimestamp(int(second or 0), UTC)
        parsed = Parsed(
            f"{app_id}:{openid}:{name}"[:255],
            openid,
            account_id,
            _kind_of(event or fields.get("MsgType", "")),
        )
        return _with_content(parsed, found, app_id, sent_at)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError, OSError) as error:
        # What the library stumbles over is not what WeChat sends.
        raise BrokenXml("no message of WeChat's") from error


def _key_of(event: str, fields: dict[str, str]) -> str:
    """Two menu buttons may be tapped within a second."""
    return f":{fields.get('EventKey', '')}" if event.upper() == "CLICK" else ""


def _kind_of(name: str) -> str:
    """For the log: a word of WeChat's, whoever wrote it."""
    return "".join(
        character for character in name[:KIND_CHARACTERS] if character.isalnum() or character == "_"
    )


def _with_content(parsed: Parsed, found: Any, app_id: str, sent_at: datetime) -> Parsed:
    place = place_of(app_id, parsed.openid)

    def said(text: str = "", attachment: Attachment | None = None, command: Command | None = None) -> Parsed:
        message = IncomingMessage(
            platform=Platform.WECHAT,
            event_id=parsed.event_id,
            chat_id=place,
            sender_id=place,
            text=text,
            sent_at=sent_at,
            alone=command is not None,
            attachments=() if attachment is None else (attachment,),
            command=command,
        )
        return replace(parsed, message=message)

    match found:
        case messages.TextMessage():
            text = _text(found.content)
            return said(text, command=command_in_words(text)) if text else parsed
        case messages.VoiceMessage():
            heard = _text(found.recognition)
            return said(heard) if heard else said(attachment=_sent(AttachmentKind.VOICE, found))
        case messages.ImageMessage():
            return said(attachment=_sent(AttachmentKind.PHOTO, found))
        case messages.VideoMessage() | messages.ShortVideoMessage():
            return said(attachment=_sent(AttachmentKind.VIDEO, found))
        case messages.LocationMessage():
            label = _text(found.label)
            kind = AttachmentKind.VENUE if label else AttachmentKind.LOCATION
            return said(attachment=Attachment(kind, name=label))
        case messages.LinkMessage():
            title = " ".join(filter(None, (_text(found.title), _text(found.description))))
            return said(attachment=Attachment(AttachmentKind.LINK, name=title[:500] or _text(found.url)))
        case events.SubscribeEvent() | events.SubscribeScanEvent():
            parsed = replace(parsed, reach=ReachChanged(Platform.WECHAT, place, reachable=True))
            return said(command=Command("start"))
        case events.UnsubscribeEvent():
            return replace(parsed, reach=ReachChanged(Platform.WECHAT, place, reachable=False))
        case events.ClickEvent():
            command = command_in_words(_text(found.key))
            return said(command=command) if command else replace(parsed, known=False)
        case events.ScanEvent() | events.ViewEvent() | events.LocationEvent():
            return parsed
    return replace(parsed, known=False)


def _sent(kind: AttachmentKind, found: Any) -> Attachment:
    return Attachment(kind, file_id=_text(found.media_id))


def _text(value: object) -> str:
    """Raises ValueError for what is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("nested where a text belongs")
    try:
        return clean(value)
    except NotText as error:
        raise ValueError("no text") from error
