"""How people use what a bot offers: commands as they are registered, buttons, menus and forms.

A person can only do what their client lets them: what is not offered to them raises `NotOffered`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.fakes import discord_rules as rules
from tests.fakes.discord_world import PERMISSIONS, Attachment, Channel, Message, Role, User, World

_PLAIN_TYPES: dict[int, tuple[type, ...]] = {3: (str,), 4: (int,), 5: (bool,), 10: (int, float)}


class NotOffered(AssertionError):
    """No client would let this person do that here."""


@dataclass
class Resolved:
    """The objects that the options of a command or the values of a menu speak of."""

    world: World
    channel: Channel
    tree: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, value: User | Channel | Role | Attachment | Message) -> str:
        key = str(value.id)
        if isinstance(value, User):
            self._add_user(value)
        elif isinstance(value, Message):
            self._put("messages", key, self.world.message_json(value, whole=True))
        elif isinstance(value, Attachment):
            self._put(
                "attachments", key, value.json(self.world.cdn_url, self.world.now()) | {"ephemeral": True}
            )
        elif isinstance(value, Role):
            self._put("roles", key, value.json())
        else:
            may = str(value.permissions_of(self.world.bot.id))
            self._put("channels", key, value.json(self.world.bot.id) | {"permissions": may})
        return key

    def _add_user(self, user: User) -> None:
        self._put("users", str(user.id), user.json())
        guild = self.channel.guild
        if guild is not None and user.id in guild.members:
            member = guild.members[user.id].json(with_user=False)
            self._put(
                "members", str(user.id), member | {"permissions": str(self.channel.permissions_of(user.id))}
            )

    def _put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        self.tree.setdefault(kind, {})[key] = value


def offered(
    commands: dict[int, list[dict[str, Any]]], user: User, channel: Channel, name: str, kind: int
) -> dict[str, Any]:
    """The registered command of that name (in any language) that this person sees here."""
    places = [channel.guild.id] if channel.guild is not None else []
    for place in (*places, 0):
        for command in commands.get(place, ()):
            if command["type"] == kind and _is_called(command, name):
                _check_offered(command, user, channel)
                return command
    raise NotOffered(f"no command {name!r} is registered here")


def _is_called(body: dict[str, Any], name: str) -> bool:
    return name == body["name"] or name in (body.get("name_localizations") or {}).values()


def _check_offered(command: dict[str, Any], user: User, channel: Channel) -> None:
    context = 0 if channel.guild is not None else 1
    contexts = command.get("contexts")
    here = (
        context in contexts
        if contexts is not None
        else context == 0 or command.get("dm_permission") is not False
    )
    if not here:
        raise NotOffered(f"/{command['name']} is not offered in this kind of channel")
    if channel.guild is None:
        return
    needed = command.get("default_member_permissions")
    may = channel.permissions_of(user.id)
    if (
        needed is not None
        and (int(needed) == 0 or int(needed) & ~may)
        and not may & PERMISSIONS["administrator"]
    ):
        raise NotOffered(f"/{command['name']} is not offered to those who lack permission {needed}")
    if not may & PERMISSIONS["use_application_commands"]:
        raise NotOffered("this person may not use commands here")


def command_data(
    command: dict[str, Any], path: list[str], values: dict[str, Any], resolved: Resolved
) -> dict[str, Any]:
    """`path`: subcommand group and subcommand, where there are such."""
    data: dict[str, Any] = {"id": command["id"], "name": command["name"], "type": command["type"]}
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]
    options = _chosen(command, path, values, resolved)
    if options:
        data["options"] = options
    return {**data, "resolved": resolved.tree} if resolved.tree else data


def _chosen(
    body: dict[str, Any], path: list[str], values: dict[str, Any], resolved: Resolved
) -> list[dict[str, Any]]:
    options = body.get("options") or []
    branches = [option for option in options if option["type"] in (rules.SUBCOMMAND, rules.SUBCOMMAND_GROUP)]
    if path:
        for option in branches:
            if _is_called(option, path[0]):
                inner = _chosen(option, path[1:], values, resolved)
                return [{"name": option["name"], "type": option["type"], "options": inner}]
        raise NotOffered(f"{body['name']!r} has no subcommand {path[0]!r}")
    if branches:
        raise NotOffered(f"{body['name']!r} needs a subcommand: {[option['name'] for option in branches]}")
    return _filled(options, values, resolved)


def _filled(
    options: list[dict[str, Any]], values: dict[str, Any], resolved: Resolved
) -> list[dict[str, Any]]:
    left = dict(values)
    filled = []
    for option in options:
        name = next((key for key in left if _is_called(option, key)), None)
        if name is not None:
            value = _value(option, left.pop(name), resolved)
            filled.append({"name": option["name"], "type": option["type"], "value": value})
        elif option.get("required"):
            raise NotOffered(f"option {option['name']!r} is required")
    if left:
        raise NotOffered(f"no such options: {sorted(left)}")
    return filled


def _value(option: dict[str, Any], value: Any, resolved: Resolved) -> Any:
    kind = option["type"]
    name = option["name"]
    if kind not in _PLAIN_TYPES:
        return resolved.add(value)
    if not isinstance(value, _PLAIN_TYPES[kind]) or (kind != 5 and isinstance(value, bool)):
        raise NotOffered(f"option {name!r} takes another kind of value than {value!r}")
    choices = option.get("choices")
    if choices:
        return _choice(name, choices, value)
    size = rules.length(str(value)) if kind == 3 else value
    low, high = ("min_length", "max_length") if kind == 3 else ("min_value", "max_value")
    least, most = option.get(low), option.get(high)
    if (least is not None and size < least) or (most is not None and size > most):
        raise NotOffered(f"option {name!r} does not take {value!r}")
    return value


def _choice(name: str, choices: list[dict[str, Any]], value: Any) -> Any:
    for choice in choices:
        if value == choice["value"] or _is_called(choice, str(value)):
            return choice["value"]
    raise NotOffered(f"option {name!r} does not offer {value!r}")


# --- components -----------------------------------------------------------------------------------------


def components_of(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All components of a message or form, however deep."""
    found = []
    for item in items:
        found.append(item)
        found += components_of(item.get("components") or [])
        found += components_of([item[key] for key in ("accessory", "component") if key in item])
    return found


def button(message: Message, name: str) -> dict[str, Any]:
    """By its label, its custom id, or its emoji."""
    for item in components_of(message.components):
        emoji = (item.get("emoji") or {}).get("name")
        if item["type"] == rules.BUTTON and name in (item.get("label"), item.get("custom_id"), emoji):
            if item.get("disabled") or "custom_id" not in item:
                raise NotOffered(f"the button {name!r} cannot be pressed")
            return item
    raise NotOffered(f"no button {name!r} on it, but {labels(message)}")


def labels(message: Message) -> list[str]:
    found = components_of(message.components)
    return [item.get("label") or "" for item in found if item["type"] == rules.BUTTON]


def menu(message: Message, name: str, values: list[str]) -> tuple[dict[str, Any], list[str]]:
    """By its custom id or placeholder; its options by value or label. Returns it and the values."""
    for item in components_of(message.components):
        if item["type"] in rules.SELECTS and name in (item.get("custom_id"), item.get("placeholder")):
            if item.get("disabled"):
                raise NotOffered(f"the menu {name!r} is disabled")
            return item, picked(item, values)
    raise NotOffered(f"no menu {name!r} on it")


def picked(item: dict[str, Any], values: list[str]) -> list[str]:
    if not item.get("min_values", 1) <= len(values) <= item.get("max_values", 1):
        raise NotOffered(f"as many as {len(values)} cannot be picked")
    if item["type"] != rules.STRING_SELECT:
        return values
    return [_option(item, value) for value in values]


def _option(item: dict[str, Any], name: str) -> str:
    for option in item["options"]:
        if name in (option["value"], option["label"]):
            return str(option["value"])
    raise NotOffered(f"no option {name!r}, but {[option['label'] for option in item['options']]}")


def form_data(modal: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A form that was filled in: `values` by custom id or label."""
    left = dict(values)
    components = [_row(row, left, number) for number, row in enumerate(modal["components"], 1)]
    if left:
        raise NotOffered(f"the form has no fields {sorted(left)}")
    return {"custom_id": modal["custom_id"], "components": components}


def _row(row: dict[str, Any], left: dict[str, Any], number: int) -> dict[str, Any]:
    if row["type"] == rules.LABEL:
        return {
            "type": 18,
            "id": number,
            "component": _field(row["component"], row["label"], left, number * 10),
        }
    if row["type"] == rules.ACTION_ROW:
        inner = [_field(item, item.get("label", ""), left, number * 10) for item in row["components"]]
        return {"type": 1, "id": number, "components": inner}
    return {"type": row["type"], "id": number}


def _field(item: dict[str, Any], label: str, left: dict[str, Any], number: int) -> dict[str, Any]:
    name = next((key for key in (item["custom_id"], label) if key in left), None)
    value = left.pop(name) if name is not None else None
    field_data = {"type": item["type"], "id": number, "custom_id": item["custom_id"]}
    if item["type"] in rules.SELECTS:
        chosen = picked(item, list(value or ())) if value or item.get("required", True) else []
        return {**field_data, "values": chosen}
    text = str(value if value is not None else item.get("value") or "")
    size = rules.length(text)
    if not text and item.get("required", True):
        raise NotOffered(f"the field {label!r} must be filled in")
    if text and item.get("min_length") is not None and size < item["min_length"]:
        raise NotOffered(f"too short for the field {label!r}")
    if size > item.get("max_length", 4000):
        raise NotOffered(f"too long for the field {label!r}")
    return {**field_data, "value": text}
