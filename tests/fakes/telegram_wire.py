"""What goes over the fake Bot API's wire: parameters in all the ways the real one takes them, each checked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

DEFAULT_KINDS = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "inline_query",
    "callback_query",
    "poll",
    "my_chat_member",
    "chat_join_request",
)
"""Kinds of updates that are handed over unless others were asked for: never reactions (Bot API, getUpdates)."""
BUTTON_DATA_BYTES = 64


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


async def parameters(request: web.Request) -> dict[str, Any]:
    """From the query, a form (each value JSON unless it is a plain string) or a JSON object."""
    given: dict[str, Any] = dict(request.query)
    if request.method not in ("GET", "POST"):
        raise Refused(405, "Method Not Allowed")
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refused(400, "Bad Request: can't parse JSON object")
        return given | body
    return given | dict(await request.post())


def text(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f'Bad Request: field "{name}" must be of type String')
    return value


_ENTITIES = frozenset(["bold", "italic", "strikethrough", "code", "pre", "blockquote", "text_link"])


def entities(given: dict[str, Any], said: str, name: str = "entities") -> tuple[dict[str, Any], ...]:
    """Stricter than the real one, which mends what overlaps and drops what is empty."""
    value = given.get(name, [])
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused(400, "Bad Request: can't parse entities JSON object") from None
    encoded = said.encode("utf-16-le")
    spans: list[tuple[int, int]] = []
    for entity in value:
        start, length = entity["offset"], entity["length"]
        part = encoded[2 * start : 2 * (start + length)]
        try:
            part.decode("utf-16-le")
        except UnicodeDecodeError:
            raise Refused(400, "Bad Request: an entity ends inside a character") from None
        if entity["type"] not in _ENTITIES or length < 1 or start < 0 or len(part) != 2 * length:
            raise Refused(400, "Bad Request: can't parse entities")
        if entity["type"] == "text_link" and not re.fullmatch(r"https?://[^\s/]+\.[^\s]+", entity["url"]):
            raise Refused(400, "Bad Request: URL is invalid")
        end = start + length
        if any(a < start < b < end or start < a < end < b for a, b in spans):
            raise Refused(400, "Bad Request: entities overlap")
        spans.append((start, end))
    return tuple(value)


def whole(given: dict[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    if not re.fullmatch(r"-?[0-9]{1,18}", str(value)):
        raise Refused(400, f"Bad Request: invalid {name} value specified")
    return int(value)


def truth(given: dict[str, Any], name: str) -> bool:
    return str(given.get(name, "false")).lower() in ("true", "1", "yes")


def kinds(given: dict[str, Any]) -> tuple[str, ...] | None:
    """The wanted kinds of updates; an empty list asks for the default. None: as before."""
    value = given.get("allowed_updates")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused(400, "Bad Request: can't parse allowed updates JSON object") from None
    if value is None:
        return None
    if not isinstance(value, Sequence) or not all(isinstance(kind, str) for kind in value):
        raise Refused(400, "Bad Request: can't parse allowed updates JSON object")
    return tuple(value) or DEFAULT_KINDS


def upload(given: dict[str, Any], name: str) -> tuple[str, bytes] | None:
    """An uploaded file's name and bytes. A form names it by `attach://` or by the parameter itself."""
    value = given.get(name)
    if isinstance(value, str) and value.startswith("attach://"):
        value = given.get(value.removeprefix("attach://"))
    if isinstance(value, web.FileField):
        return value.filename, value.file.read()
    return None


def decoded(given: dict[str, Any], name: str) -> Any:
    """A parameter that is JSON, as itself or in a string."""
    value = given.get(name)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise Refused(400, f"Bad Request: can't parse {name} JSON object") from None


def keyboard(given: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """An inline keyboard's rows of (label, data)."""
    markup = decoded(given, "reply_markup")
    if not markup:
        return ()
    if set(markup) != {"inline_keyboard"}:
        raise Refused(400, "Bad Request: object expected as reply markup")
    rows = []
    for row in markup["inline_keyboard"]:
        for button in row:
            if set(button) != {"text", "callback_data"} or not button["text"]:
                raise Refused(400, "Bad Request: inline keyboard button text must be non-empty")
            if not 1 <= len(button["callback_data"].encode()) <= BUTTON_DATA_BYTES:
                raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
        rows.append(tuple((button["text"], button["callback_data"]) for button in row))
    return tuple(rows)


def units(value: str) -> int:
    try:
        return len(value.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise Refused(400, "Bad Request: strings must be encoded in UTF-8") from None
