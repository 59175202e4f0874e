"""What Discord lets through: the form of messages, components, modals and commands, and the errors it answers with.

After discord.com/developers/docs: Message, Components, Application Commands, and Opcodes and Status Codes. What breaks
a rule is a 50035 with the tree of errors that says where; all of a body's faults come at once, as from the real one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
LOCALES = frozenset(
    [
        "id",
        "da",
        "de",
        "en-GB",
        "en-US",
        "es-ES",
        "es-419",
        "fr",
        "hr",
        "it",
        "lt",
        "hu",
        "nl",
        "no",
        "pl",
        "pt-BR",
        "ro",
        "fi",
        "sv-SE",
        "vi",
        "tr",
        "cs",
        "el",
        "bg",
        "ru",
        "uk",
        "hi",
        "th",
        "zh-CN",
        "ja",
        "zh-TW",
        "ko",
    ]
)
CONTENT_LIMIT = 2000
SELECTS = (3, 5, 6, 7, 8)
BUTTON, STRING_SELECT, TEXT_INPUT, ACTION_ROW, LABEL = 2, 3, 4, 1, 18
THUMBNAIL = 11
SUBCOMMAND, SUBCOMMAND_GROUP = 1, 2
V2 = 1 << 15


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str, errors: Json | None = None) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status = status
        self.body: Json = {"message": message, "code": code}
        if errors:
            self.body["errors"] = errors


UNAUTHORIZED = (401, 0, "401: Unauthorized")
UNKNOWN_CHANNEL = (404, 10003, "Unknown Channel")
UNKNOWN_GUILD = (404, 10004, "Unknown Guild")
UNKNOWN_MEMBER = (404, 10007, "Unknown Member")
UNKNOWN_MESSAGE = (404, 10008, "Unknown Message")
UNKNOWN_USER = (404, 10013, "Unknown User")
UNKNOWN_WEBHOOK = (404, 10015, "Unknown Webhook")
UNKNOWN_INTERACTION = (404, 10062, "Unknown interaction")
UNKNOWN_COMMAND = (404, 10063, "Unknown application command")
TOO_LARGE = (413, 40005, "Request entity too large")
ACKNOWLEDGED = (400, 40060, "Interaction has already been acknowledged.")
MISSING_ACCESS = (403, 50001, "Missing Access")
NOT_IN_DM = (403, 50003, "Cannot execute action on a DM channel")
NOT_THEIRS = (403, 50005, "Cannot edit a message authored by another user")
EMPTY_MESSAGE = (400, 50006, "Cannot send an empty message")
CLOSED_DM = (403, 50007, "Cannot send messages to this user")
NOT_TEXT = (400, 50008, "Cannot send messages in a non-text channel")
MISSING_PERMISSIONS = (403, 50013, "Missing Permissions")
BULK_TOO_OLD = (400, 50034, "A message provided was too old to bulk delete")
BAD_WEBHOOK_TOKEN = (401, 50027, "Invalid Webhook Token")
ARCHIVED = (400, 50083, "Thread is archived")
BAD_JSON = (400, 50109, "The request body contains invalid JSON.")
NO_HISTORY_FOR_REPLY = (400, 160002, "Cannot reply without permission to read message history")
LOCKED = (403, 160005, "Thread is locked")


class Form:
    """The faults that were found in a body so far."""

    def __init__(self) -> None:
        self.tree: Json = {}

    def wrong(self, path: str, code: str, message: str) -> None:
        """`path`: with dots, as in `components.0.components.1.label`."""
        node = self.tree
        for part in path.split("."):
            node = node.setdefault(part, {})
        node.setdefault("_errors", []).append({"code": code, "message": message})

    def check(self) -> None:
        if self.tree:
            raise Refused(400, 50035, "Invalid Form Body", self.tree)

    def text(self, body: Json, path: str, low: int, high: int, *, required: bool = True) -> str | None:
        """A string in `body` under the last part of `path`, of so many characters."""
        value = body.get(path.rpartition(".")[2])
        if value is None:
            if required:
                self.wrong(path, "BASE_TYPE_REQUIRED", "This field is required")
            return None
        if not isinstance(value, str):
            self.wrong(path, "STRING_TYPE_CONVERT", f'Could not interpret "{value}" as string.')
            return None
        size = length(value)
        if size > high or size < low:
            self._size(path, low, high, size)
            return None
        return value

    def _size(self, path: str, low: int, high: int, size: int) -> None:
        if low == 0:
            self.wrong(path, "BASE_TYPE_MAX_LENGTH", f"Must be {high} or fewer in length.")
        elif size == 0:
            self.wrong(path, "BASE_TYPE_REQUIRED", "This field is required")
        else:
            self.wrong(path, "BASE_TYPE_BAD_LENGTH", f"Must be between {low} and {high} in length.")

    def number(self, body: Json, path: str, low: int, high: int, default: int) -> int:
        value = body.get(path.rpartition(".")[2])
        if value is None:
            return default
        if type(value) is not int:
            self.wrong(path, "NUMBER_TYPE_COERCE", f'Value "{value}" is not int.')
            return default
        if not low <= value <= high:
            self.wrong(path, "NUMBER_TYPE_RANGE", f"int value should be between {low} and {high}.")
        return value

    def items(self, body: Json, path: str, low: int, high: int) -> list[Json]:
        """A list of objects in `body` under the last part of `path`."""
        value = body.get(path.rpartition(".")[2])
        if value is None and low == 0:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.wrong(path, "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
            return []
        if not low <= len(value) <= high:
            self.wrong(path, "BASE_TYPE_BAD_LENGTH", f"Must be between {low} and {high} in length.")
        return value


def length(text: str) -> int:
    """In UTF-16 units: the strictest of what Discord and its clients are seen to count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# --- messages ---------------------------------------------------------------------------------------


def check_message(form: Form, body: Json, prefix: str = "") -> None:
    """All that can be said of a message without knowing where it goes."""
    form.text(body, f"{prefix}content", 0, CONTENT_LIMIT, required=False)
    _check_nonce(form, body, prefix)
    _check_embeds(form, body, prefix)
    _check_mentions(form, body, prefix)
    flags = form.number(body, f"{prefix}flags", 0, 1 << 40, 0)
    if flags & V2 and (body.get("content") or body.get("embeds")):
        form.wrong(
            f"{prefix}flags",
            "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2",
            "The 'content' and 'embeds' fields cannot be used when using MessageFlags.IS_COMPONENTS_V2",
        )
    check_components(form, body, f"{prefix}components", v2=bool(flags & V2))
    if len(body.get("sticker_ids") or ()) > 3:
        form.wrong(f"{prefix}sticker_ids", "BASE_TYPE_BAD_LENGTH", "Must be between 0 and 3 in length.")


def _check_nonce(form: Form, body: Json, prefix: str) -> None:
    nonce = body.get("nonce")
    if isinstance(nonce, str) and length(nonce) > 25:
        form.wrong(f"{prefix}nonce", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
    elif nonce is not None and (isinstance(nonce, bool) or not isinstance(nonce, str | int)):
        form.wrong(f"{prefix}nonce", "NONCE_TYPE_INVALID", "Nonce must be a string or an integer.")


_EMBED_TEXTS = {"title": 256, "description": 4096}
_EMBED_PARTS = {"footer": ("text", 2048), "author": ("name", 256)}


def _check_embeds(form: Form, body: Json, prefix: str) -> None:
    total = 0
    for place, embed in enumerate(form.items(body, f"{prefix}embeds", 0, 10)):
        total += _check_embed(form, embed, f"{prefix}embeds.{place}")
    if total > 6000:
        code, message = "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000"
        form.wrong(f"{prefix}embeds", code, message)


def _check_embed(form: Form, embed: Json, path: str) -> int:
    texts = [form.text(embed, f"{path}.{key}", 0, high, required=False) for key, high in _EMBED_TEXTS.items()]
    for part, (key, high) in _EMBED_PARTS.items():
        if isinstance(embed.get(part), dict):
            texts.append(form.text(embed[part], f"{path}.{part}.{key}", 0, high))
    for place, row in enumerate(form.items(embed, f"{path}.fields", 0, 25)):
        texts.append(form.text(row, f"{path}.fields.{place}.name", 1, 256))
        texts.append(form.text(row, f"{path}.fields.{place}.value", 1, 1024))
    return sum(length(text) for text in texts if text)


def _check_mentions(form: Form, body: Json, prefix: str) -> None:
    allowed = body.get("allowed_mentions")
    if allowed is None:
        return
    path = f"{prefix}allowed_mentions"
    if not isinstance(allowed, dict):
        form.wrong(path, "MODEL_TYPE_CONVERT", "Only dictionaries may be used in a ModelType")
        return
    parse = allowed.get("parse") or []
    for place, kind in enumerate(parse):
        if kind not in ("roles", "users", "everyone"):
            code, message = "BASE_TYPE_CHOICES", "Value must be one of ('users', 'roles', 'everyone')."
            form.wrong(f"{path}.parse.{place}", code, message)
    for key in ("users", "roles"):
        listed = allowed.get(key) or []
        if len(listed) > 100:
            form.wrong(f"{path}.{key}", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer in length.")
        if listed and key in parse:
            code = "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE"
            form.wrong(path, code, f'parse:["{key}"] and {key}: [ids...] are mutually exclusive.')


# --- components --------------------------------------------------------------------------------------


def check_components(form: Form, body: Json, path: str, *, v2: bool = False) -> None:
    if v2:
        _check_v2(form, body, path)
        return
    seen: set[str] = set()
    for place, row in enumerate(form.items(body, path, 0, 5)):
        where = f"{path}.{place}"
        if row.get("type") != ACTION_ROW:
            form.wrong(f"{where}.type", "BASE_TYPE_CHOICES", "Value must be one of (1,).")
            continue
        _check_row(form, row, where, seen)


def _check_row(form: Form, row: Json, where: str, seen: set[str]) -> None:
    inside = form.items(row, f"{where}.components", 1, 5)
    kinds = [item.get("type") for item in inside]
    if any(kind in SELECTS for kind in kinds) and len(inside) > 1:
        code, message = "COMPONENT_LAYOUT_WIDTH_EXCEEDED", "The specified component exceeds the maximum width"
        form.wrong(f"{where}.components.1", code, message)
    for place, item in enumerate(inside):
        _check_component(form, item, f"{where}.components.{place}", seen)


def _check_component(form: Form, item: Json, where: str, seen: set[str]) -> None:
    kind = item.get("type")
    if kind == BUTTON:
        _check_button(form, item, where)
    elif kind in SELECTS:
        _check_select(form, item, where)
    else:
        form.wrong(f"{where}.type", "BASE_TYPE_CHOICES", "Value must be one of (2, 3, 5, 6, 7, 8).")
        return
    custom_id = item.get("custom_id")
    if isinstance(custom_id, str) and custom_id in seen:
        code, message = "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
        form.wrong(f"{where}.custom_id", code, message)
    seen.add(str(custom_id))


def _check_button(form: Form, item: Json, where: str) -> None:
    style = form.number(item, f"{where}.style", 1, 6, 0)
    if not style:
        form.wrong(f"{where}.style", "BASE_TYPE_REQUIRED", "This field is required")
    if item.get("label") is not None or not item.get("emoji"):
        _check_label(form, item, where)
    if style == 5:
        form.text(item, f"{where}.url", 1, 512)
        if item.get("custom_id") is not None:
            code, message = (
                "BUTTON_COMPONENT_CUSTOM_ID_URL_MUTUALLY_EXCLUSIVE",
                "A custom id and url cannot both",
            )
            form.wrong(where, code, f"{message} be specified")
    elif style != 6:
        form.text(item, f"{where}.custom_id", 1, 100)


def _check_label(form: Form, item: Json, where: str) -> None:
    if not item.get("label"):
        code, message = "BUTTON_COMPONENT_INVALID", "A button must have a label or emoji"
        form.wrong(where, code, message)
    else:
        form.text(item, f"{where}.label", 1, 80)


def _check_select(form: Form, item: Json, where: str) -> None:
    form.text(item, f"{where}.custom_id", 1, 100)
    form.text(item, f"{where}.placeholder", 0, 150, required=False)
    low = form.number(item, f"{where}.min_values", 0, 25, 1)
    high = form.number(item, f"{where}.max_values", 1, 25, 1)
    if low > high:
        form.wrong(
            f"{where}.min_values", "SELECT_COMPONENT_MIN_GREATER_MAX", "min_values must be <= max_values"
        )
    if item.get("type") == STRING_SELECT:
        _check_options(form, item, where, high)


def _check_options(form: Form, item: Json, where: str, high: int) -> None:
    options = form.items(item, f"{where}.options", 1, 25)
    if high > len(options):
        code, message = (
            "SELECT_COMPONENT_MAX_VALUES_TOO_BIG",
            "max_values must be at most the number of options",
        )
        form.wrong(f"{where}.max_values", code, message)
    if sum(1 for option in options if option.get("default")) > high:
        code, message = (
            "SELECT_COMPONENT_TOO_MANY_DEFAULT_VALUES",
            "The number of default options exceeds max_values",
        )
        form.wrong(f"{where}.options", code, message)
    values: set[str] = set()
    for place, option in enumerate(options):
        at = f"{where}.options.{place}"
        form.text(option, f"{at}.label", 1, 100)
        form.text(option, f"{at}.description", 1, 100, required=False)
        value = form.text(option, f"{at}.value", 1, 100)
        if value is not None and value in values:
            code = "SELECT_COMPONENT_OPTION_VALUE_DUPLICATED"
            form.wrong(f"{at}.value", code, "The specified option value is already used")
        values.add(value or "")


_V2_KINDS = frozenset([ACTION_ROW, 9, 10, 12, 13, 14, 17])


def _check_v2(form: Form, body: Json, path: str) -> None:
    """Components V2, roughly: which may stand at the top, how many and how much text, and rows within."""
    seen: set[str] = set()
    texts, count = 0, 0
    for where, item in _nested(body.get("components") or [], path):
        count += 1
        if item.get("type") == 10:
            texts += length(form.text(item, f"{where}.content", 1, 4000) or "")
        if item.get("type") == ACTION_ROW:
            _check_row(form, item, where, seen)
        if where.endswith(".accessory") and item.get("type") != THUMBNAIL:
            _check_component(form, item, where, seen)
    for place, item in enumerate(form.items(body, path, 1, 40)):
        if item.get("type") not in _V2_KINDS:
            form.wrong(
                f"{path}.{place}.type",
                "BASE_TYPE_CHOICES",
                "Value must be one of (1, 9, 10, 12, 13, 14, 17).",
            )
    if count > 40 or texts > 4000:
        form.wrong(
            path, "BASE_TYPE_MAX_LENGTH", "Must be 40 or fewer components and 4000 or fewer characters."
        )


def _nested(items: list[Json], path: str) -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    for place, item in enumerate(items):
        where = f"{path}.{place}"
        found.append((where, item))
        found += _nested(item.get("components") or [], f"{where}.components")
        for key in ("accessory", "component"):
            if isinstance(item.get(key), dict):
                found.append((f"{where}.{key}", item[key]))
    return found


# --- modals -------------------------------------------------------------------------------------------


def check_modal(form: Form, modal: Json) -> None:
    form.text(modal, "data.custom_id", 1, 100)
    form.text(modal, "data.title", 1, 45)
    seen: set[str] = set()
    for place, row in enumerate(form.items(modal, "data.components", 1, 5)):
        where = f"data.components.{place}"
        if row.get("type") == LABEL:
            form.text(row, f"{where}.label", 1, 45)
            form.text(row, f"{where}.description", 0, 100, required=False)
            _check_field(form, row.get("component") or {}, f"{where}.component", seen, labelled=True)
        elif row.get("type") == ACTION_ROW:
            for number, item in enumerate(form.items(row, f"{where}.components", 1, 1)):
                _check_field(form, item, f"{where}.components.{number}", seen, labelled=False)
        elif row.get("type") != 10:
            form.wrong(f"{where}.type", "BASE_TYPE_CHOICES", "Value must be one of (1, 10, 18).")


def _check_field(form: Form, item: Json, where: str, seen: set[str], *, labelled: bool) -> None:
    """`labelled`: its label is around it and not in it."""
    custom_id = form.text(item, f"{where}.custom_id", 1, 100)
    if custom_id in seen:
        code, message = "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
        form.wrong(f"{where}.custom_id", code, message)
    seen.add(custom_id or "")
    if item.get("type") in SELECTS and labelled:
        _check_select(form, item, where)
    elif item.get("type") == TEXT_INPUT:
        _check_text_input(form, item, where, labelled=labelled)
    elif not (labelled and item.get("type") in (19, 21, 22, 23)):
        form.wrong(f"{where}.type", "BASE_TYPE_CHOICES", "Value must be one of (4,).")


def _check_text_input(form: Form, item: Json, where: str, *, labelled: bool) -> None:
    if not labelled:
        form.text(item, f"{where}.label", 1, 45)
    form.text(item, f"{where}.placeholder", 0, 100, required=False)
    low = form.number(item, f"{where}.min_length", 0, 4000, 0)
    high = form.number(item, f"{where}.max_length", 1, 4000, 4000)
    if low > high:
        form.wrong(f"{where}.min_length", "TEXT_INPUT_MIN_GREATER_MAX", "min_length must be <= max_length")
    form.text(item, f"{where}.value", 0, high, required=False)
    if item.get("style") not in (1, 2):
        form.wrong(f"{where}.style", "BASE_TYPE_CHOICES", "Value must be one of (1, 2).")


# --- commands ------------------------------------------------------------------------------------------


def check_commands(form: Form, commands: Any) -> None:
    """A bulk overwrite."""
    if not isinstance(commands, list) or not all(isinstance(command, dict) for command in commands):
        form.wrong("commands", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        return
    names: set[tuple[int, str]] = set()
    counts = dict.fromkeys((1, 2, 3), 0)
    for place, command in enumerate(commands):
        kind = command.get("type", 1)
        counts[kind] = counts.get(kind, 0) + 1
        check_command(form, command, f"{place}.")
        if (kind, str(command.get("name"))) in names:
            code = "APPLICATION_COMMANDS_DUPLICATE_NAME"
            form.wrong(f"{place}", code, "Application command names must be unique")
        names.add((kind, str(command.get("name"))))
    form.check()
    if counts[1] > 100 or counts[2] > 5 or counts[3] > 5:
        raise Refused(400, 30032, "Maximum number of application commands reached (100)")


def check_command(form: Form, command: Json, prefix: str = "") -> None:
    kind = command.get("type", 1)
    _check_where_and_who(form, command, prefix)
    if kind == 1:
        _check_name(form, command, f"{prefix}name")
        _check_description(form, command, f"{prefix}description")
        _check_command_options(form, command, f"{prefix}options", 0)
        if command_size(command) > 8000:
            code, message = "APPLICATION_COMMAND_TOO_LARGE", "Command exceeds maximum size (8000)"
            form.wrong(f"{prefix}name", code, message)
        return
    if kind not in (2, 3):
        form.wrong(f"{prefix}type", "BASE_TYPE_CHOICES", "Value must be one of (1, 2, 3).")
        return
    form.text(command, f"{prefix}name", 1, 32)
    _check_locales(form, command, f"{prefix}name", lambda text: 1 <= length(text) <= 32)
    if command.get("description") or command.get("options"):
        code = "APPLICATION_COMMAND_CONTEXT_MENU_DESCRIPTION_INVALID"
        form.wrong(f"{prefix}description", code, "Context menu commands cannot have description")


def _check_where_and_who(form: Form, command: Json, prefix: str) -> None:
    needed = command.get("default_member_permissions")
    if needed is not None and not (isinstance(needed, int | str) and str(needed).isdigit()):
        path = f"{prefix}default_member_permissions"
        form.wrong(path, "PERMISSIONS_TYPE_CONVERT", f'Value "{needed}" is not a set of permissions.')
    for key, known in (("contexts", (0, 1, 2)), ("integration_types", (0, 1))):
        listed = command.get(key)
        if listed is None:
            continue
        if not isinstance(listed, list) or not set(listed) <= set(known):
            form.wrong(f"{prefix}{key}", "BASE_TYPE_CHOICES", f"Value must be one of {known}.")
        elif len(set(listed)) != len(listed) or (key == "integration_types" and not listed):
            form.wrong(
                f"{prefix}{key}", "SET_TYPE_CONTAINS_DUPLICATE", "They must be different ones, and some."
            )


def _is_name(text: str) -> bool:
    """^[-_'\\p{L}\\p{N}\\p{sc=Deva}\\p{sc=Thai}]{1,32}$, in lower case where there is one."""
    return 1 <= len(text) <= 32 and text == text.lower() and all(_is_name_character(c) for c in text)


def _is_name_character(character: str) -> bool:
    if character in "-_'" or unicodedata.category(character)[0] in "LN":
        return True
    return unicodedata.name(character, "").startswith(("DEVANAGARI", "THAI"))


def _check_name(form: Form, body: Json, path: str) -> None:
    name = form.text(body, path, 1, 32)
    if name is not None and not _is_name(name):
        code, message = "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid"
        form.wrong(path, code, message)
    _check_locales(form, body, path, _is_name)


def _check_description(form: Form, body: Json, path: str) -> None:
    form.text(body, path, 1, 100)
    _check_locales(form, body, path, lambda text: 1 <= length(text) <= 100)


def _check_locales(form: Form, body: Json, path: str, fits: Callable[[str], bool]) -> None:
    found = body.get(f"{path.rpartition('.')[2]}_localizations")
    for locale, text in (found or {}).items():
        where = f"{path}_localizations.{locale}"
        if locale not in LOCALES:
            form.wrong(where, "BASE_TYPE_CHOICES", f"Value must be one of {sorted(LOCALES)}.")
        elif not isinstance(text, str) or not fits(text):
            form.wrong(where, "APPLICATION_COMMAND_INVALID_LOCALIZATION", "Localization is invalid")


def _check_command_options(form: Form, body: Json, path: str, depth: int) -> None:
    names: set[str] = set()
    optional_before = False
    options = form.items(body, path, 0, 25)
    for place, option in enumerate(options):
        where = f"{path}.{place}"
        _check_option(form, option, where, depth)
        if option.get("name") in names:
            code = "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS"
            form.wrong(where, code, "Option name already exists")
        names.add(str(option.get("name")))
        if option.get("required") and optional_before:
            code = "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID"
            form.wrong(where, code, "Required options must be placed before non-required options")
        optional_before = optional_before or not option.get("required")
    kinds = {option.get("type") in (SUBCOMMAND, SUBCOMMAND_GROUP) for option in options}
    if len(kinds) > 1:
        code, message = "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "Sub-commands and options cannot be mixed"
        form.wrong(path, code, message)


def _check_option(form: Form, option: Json, where: str, depth: int) -> None:
    _check_name(form, option, f"{where}.name")
    _check_description(form, option, f"{where}.description")
    kind = option.get("type")
    if (
        kind not in range(1, 12)
        or (kind == SUBCOMMAND_GROUP and depth > 0)
        or (kind == SUBCOMMAND and depth > 1)
    ):
        form.wrong(
            f"{where}.type", "BASE_TYPE_CHOICES", "Value must be one of the option types allowed here."
        )
        return
    if kind in (SUBCOMMAND, SUBCOMMAND_GROUP):
        inner = depth + 1 if kind == SUBCOMMAND_GROUP else 2
        _check_command_options(form, option, f"{where}.options", inner)
        return
    for place, choice in enumerate(form.items(option, f"{where}.choices", 0, 25)):
        form.text(choice, f"{where}.choices.{place}.name", 1, 100)
        _check_locales(form, choice, f"{where}.choices.{place}.name", lambda text: 1 <= length(text) <= 100)
        if kind == 3:
            form.text(choice, f"{where}.choices.{place}.value", 1, 100)


def command_size(body: Json) -> int:
    """Names, descriptions and values of a command and all in it, each in its longest language."""
    size = sum(_longest(body, key) for key in ("name", "description"))
    size += length(str(body["value"])) if "value" in body else 0
    return size + sum(command_size(item) for key in ("options", "choices") for item in body.get(key) or ())


def _longest(body: Json, key: str) -> int:
    texts = [str(body.get(key) or ""), *(body.get(f"{key}_localizations") or {}).values()]
    return max(length(str(text)) for text in texts)


# --- snowflakes and JSON ---------------------------------------------------------------------------------

_SNOWFLAKE = re.compile(r"[0-9]{1,20}")


def snowflake(form: Form, value: Any, path: str) -> int:
    if _SNOWFLAKE.fullmatch(str(value)):
        return int(value)
    form.wrong(path, "NUMBER_TYPE_COERCE", f'Value "{value}" is not snowflake.')
    return 0


def parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise Refused(*BAD_JSON) from None
