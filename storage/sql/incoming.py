"""A person's message as the text that an inbox row holds, sealed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from core.messages import (
    Attachment,
    AttachmentKind,
    Command,
    ConversationKind,
    IncomingMessage,
    Platform,
    Quote,
)
from storage.sql.types import AnyRow


def packed(message: IncomingMessage) -> str:
    """JSON with what the message has and its row does not say; what it does not have is left out."""
    found: dict[str, Any] = {
        "text": message.text,
        "sender_id": message.sender_id,
        "sent_at": message.sent_at.isoformat(),
        "alone": message.alone,
        "language": message.language,
        "speaker": message.speaker,
        "bundle": message.bundle,
        "attachments": [_packed_attachment(attachment) for attachment in message.attachments],
        "quote": message.quote and [message.quote.text, message.quote.of_bot, message.quote.speaker],
        "command": message.command
        and [message.command.name, message.command.argument, message.command.message_id],
        "response": message.response,
    }
    kept = {name: value for name, value in found.items() if value}
    if message.forwarded_from is not None:
        kept["forwarded_from"] = message.forwarded_from
    if message.manages is not None:
        kept["manages"] = message.manages
    return json.dumps(kept, ensure_ascii=False)


def unpacked(row: AnyRow, found: dict[str, Any]) -> IncomingMessage:
    """The message of a row of `storage.sql.inbox`."""
    sent_at = found.get("sent_at")
    return IncomingMessage(
        platform=Platform(row.platform),
        event_id=row.event_id,
        chat_id=row.chat_id,
        sender_id=found.get("sender_id", ""),
        text=found.get("text", ""),
        sent_at=datetime.fromisoformat(sent_at) if sent_at else row.received_at,
        kind=ConversationKind(row.kind),
        alone=found.get("alone", False),
        language=found.get("language"),
        message_id=row.platform_message_id,
        attachments=tuple(_unpacked_attachment(given) for given in found.get("attachments", ())),
        quote=Quote(*found["quote"]) if "quote" in found else None,
        forwarded_from=found.get("forwarded_from"),
        speaker=found.get("speaker", ""),
        bundle=found.get("bundle"),
        command=Command(*found["command"]) if "command" in found else None,
        response=found.get("response"),
        manages=found.get("manages"),
    )


def _packed_attachment(attachment: Attachment) -> dict[str, Any]:
    found = {
        "kind": attachment.kind,
        "name": attachment.name,
        "seconds": attachment.seconds,
        "emoji": attachment.emoji,
        "value": attachment.value,
        "file_id": attachment.file_id,
    }
    return {name: value for name, value in found.items() if value}


def _unpacked_attachment(found: dict[str, Any]) -> Attachment:
    return Attachment(**{**found, "kind": AttachmentKind(found["kind"])})
