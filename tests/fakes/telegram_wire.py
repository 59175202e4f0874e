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
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "purchased_paid_media",
)
"""Kinds of updates that are handed over unless others were asked for: never chat_member, message_reaction and
message_reaction_count (Bot API, getUpdates)."""
BUTTON_DATA_BYTES = 64
BUTTONS = 100
SCOPES = {
    "default": frozenset[str](),
    "all_private_chats": frozenset[str](),
    "all_group_chats": frozenset[str](),
    "all_chat_administrators": frozenset[str](),
    "chat": frozenset(["chat_id"]),
    "chat_administrators": frozenset(["chat_id"]),
    "chat_member": frozenset(["chat_id", "user_id"]),
}
"""BotCommandScope: each type and what else it names."""
COMMANDS = 100


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
    value = decoded(given, name) or []
    if not isinstance(value, list) or not all(map(_is_entity, value)):
        raise Refused(400, "Bad Request: can't parse entities: expected an Array of MessageEntity")
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
    """Stricter than the real one, to which everything unknown is false."""
    value = str(given.get(name, "false")).lower()
    if value not in ("true", "1", "yes", "false", "0", "no"):
        raise Refused(400, f'Bad Request: field "{name}" must be a Boolean')
    return value in ("true", "1", "yes")


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
    if value is not None:
        raise Refused(400, "Bad Request: wrong file identifier/HTTP URL specified")
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
    if not isinstance(markup, dict) or set(markup) != {"inline_keyboard"}:
        raise Refused(400, "Bad Request: object expected as reply markup")
    rows = markup["inline_keyboard"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Refused(400, 'Bad Request: field "inline_keyboard" must be an Array of Arrays')
    if sum(map(len, rows)) > BUTTONS:
        raise Refused(400, "Bad Request: reply markup is too long")
    return tuple(tuple(map(_button, row)) for row in rows if row)


def _button(button: Any) -> tuple[str, str]:
    wrong = Refused(400, "Bad Request: inline keyboard button text must be non-empty")
    if not isinstance(button, dict) or set(button) != {"text", "callback_data"}:
        raise wrong
    label, data = button["text"], button["callback_data"]
    if not isinstance(label, str) or not label.strip() or not isinstance(data, str):
        raise wrong
    if not 1 <= len(data.encode(errors="surrogatepass")) <= BUTTON_DATA_BYTES:
        raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
    return label, data


def answered(given: dict[str, Any]) -> tuple[int, bool] | None:
    """The message that is answered (ReplyParameters), and whether it may be missing."""
    wanted = decoded(given, "reply_parameters")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or set(wanted) - {"message_id", "allow_sending_without_reply"}:
        raise Refused(400, "Bad Request: can't parse reply parameters JSON object")
    return whole(wanted, "message_id", 0), truth(wanted, "allow_sending_without_reply")


def scope(given: dict[str, Any]) -> tuple[str, str]:
    """Whose commands: the type of the scope, and the language (empty: all others)."""
    wanted = decoded(given, "scope") or {"type": "default"}
    if not isinstance(wanted, dict) or wanted.get("type") not in SCOPES:
        raise Refused(400, "Bad Request: can't parse BotCommandScope: unsupported type specified")
    if set(wanted) != {"type", *SCOPES[wanted["type"]]}:
        raise Refused(400, "Bad Request: can't parse BotCommandScope")
    language = text(given, "language_code") or ""
    if not re.fullmatch(r"(?:[a-z]{2})?", language):
        raise Refused(400, "Bad Request: invalid language code specified")
    return str(wanted["type"]), language


def commands(given: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and descriptions of a menu (BotCommand)."""
    entries = decoded(given, "commands")
    if not isinstance(entries, list) or not all(map(_is_command, entries)):
        raise Refused(400, "Bad Request: expected an Array of BotCommand")
    if len(entries) > COMMANDS:
        raise Refused(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
    for entry in entries:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", entry["command"]):
            raise Refused(400, "Bad Request: BOT_COMMAND_INVALID")
        if not 1 <= len(entry["description"]) <= 256:
            raise Refused(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
    return [(entry["command"], entry["description"]) for entry in entries]


def _is_command(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"command", "description"}
        and all(isinstance(part, str) for part in value.values())
    )


def _is_entity(value: Any) -> bool:
    """MessageEntity: what each needs, and no field of another."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    if any(type(value.get(name)) is not int for name in ("offset", "length")):
        return False
    more = set(value) - {"type", "offset", "length"}
    allowed = {"text_link": {"url"}, "pre": {"language"}}.get(value["type"], set())
    return more <= allowed and (value["type"] != "text_link" or isinstance(value.get("url"), str))


def units(value: str) -> int:
    try:
        return len(value.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise Refused(400, "Bad Request: strings must be encoded in UTF-8") from None
