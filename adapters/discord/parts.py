"""What a session with Discord works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.discord.api import DiscordApi
from adapters.discord.handles import Responses
from adapters.discord.notices import Notices
from adapters.discord.settings import DiscordSettings
from core.language import Language
from core.safety.protocol import Protocols


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session works with."""

    settings: DiscordSettings
    api: DiscordApi
    responses: Responses
    notices: Notices
    menu: Mapping[Language, Mapping[str, str]]
    """What core's commands mean, a line each."""
    protocols: Protocols
    """What is said to a person in danger while nothing can be stored."""
