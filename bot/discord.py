"""The Discord channel's parts, out of the settings. Imported only when a token is set: the SDK takes a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from bot.settings import Settings
from core.messages import ConversationKind
from core.outbox import Channel, Pace
from core.phrases import load_phrases
from core.safety.protocol import load_protocols

if TYPE_CHECKING:
    from adapters.discord.api import DiscordApi
    from adapters.discord.gateway import DiscordGateway
    from adapters.discord.settings import DiscordSettings

OVERALL = Pace(per_second=38, at_once=3)
PER_CHAT = Pace(per_second=1, at_once=4)
"""discord.com/developers/docs/topics/rate-limits: 50 requests a second in all, the
signs that somebody types (send.TYPING_A_SECOND) included. A channel's limits are told in each
answer (5 messages in 5 seconds, today); the library waits for what they leave."""


@dataclass(frozen=True, slots=True)
class DiscordParts:
    gateway: DiscordGateway
    channel: Channel
    api: DiscordApi

    async def close(self) -> None:
        await self.api.close()


def discord_settings(settings: Settings) -> DiscordSettings | None:
    """What the channel needs to know; None without a token. Blocking: it imports the SDK."""
    if settings.discord_bot_token is None:
        return None
    from adapters.discord.settings import DiscordSettings

    return DiscordSettings(
        token=settings.discord_bot_token.get_secret_value(),
        api_base_url=settings.discord_api_base_url,
        catch_up=timedelta(hours=settings.discord_catch_up_hours),
    )


def discord_parts(settings: Settings) -> DiscordParts | None:
    """The channel, if its token is set. Blocking: it imports the SDK."""
    wanted = discord_settings(settings)
    if wanted is None:
        return None
    from adapters.discord.api import DiscordApi
    from adapters.discord.gateway import DiscordGateway
    from adapters.discord.handles import Responses
    from adapters.discord.notices import load_notices
    from adapters.discord.parts import Parts
    from adapters.discord.render import render
    from adapters.discord.send import DiscordSender

    api, responses, notices = DiscordApi(wanted), Responses(), load_notices()
    channel = Channel(
        sender=DiscordSender(api, responses, notices),
        render=render,
        overall=OVERALL,
        chat=PER_CHAT,
        group=PER_CHAT,
        previews=frozenset(ConversationKind),
    )
    menu = {language: phrases.commands["menu"] for language, phrases in load_phrases().items()}
    parts = Parts(wanted, api, responses, notices, menu, load_protocols())
    return DiscordParts(DiscordGateway(parts), channel, api)
