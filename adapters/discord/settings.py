"""What the Discord channel needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class DiscordSettings:
    token: str
    api_base_url: str = "https://discord.com/api"
    catch_up: timedelta = timedelta(hours=6)
    """What was written while the bot was away is answered if it is younger."""
