"""Discord's errors as core knows them; see discord.com/developers/docs/topics/opcodes-and-status-codes."""

from __future__ import annotations

from datetime import timedelta

import aiohttp
import discord

from core.errors import DeliveryFailed, RecipientGone

ALREADY_ACKNOWLEDGED = 40060
UNKNOWN_MESSAGE = 10008
INTERACTION_GONE = frozenset({10062, 10015, 50027})
"""Unknown interaction, unknown webhook, invalid webhook token: too late for it."""
NO_PERMISSION = frozenset({50001, 50013, 50083, 160002})
"""Missing access, missing permissions, the thread is archived and locked, may not reply there."""
CHANNEL_GONE = 10003
TOO_LARGE = 40005
DM_CLOSED = 50007
UNAUTHORIZED_WAIT = timedelta(minutes=5)
PERMISSION_WAIT = timedelta(minutes=3)
"""An administrator may give it back: until then what is owed there waits, and nothing else does."""
BANNED_WAIT = timedelta(minutes=1)
"""A 429 without Discord's own answer comes from the network before it."""

FAILURES = (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError)
"""Whatever a call of the library raises when Discord does not do it."""


def translate(error: Exception) -> DeliveryFailed | RecipientGone:
    """What a failed call means for the delivery."""
    match error:
        case discord.RateLimited():
            return DeliveryFailed("rate_limited", retry_after=timedelta(seconds=error.retry_after))
        case discord.LoginFailure():
            return DeliveryFailed("refused_token", retry_after=UNAUTHORIZED_WAIT)
        case discord.HTTPException():
            return _of_answer(error)
    return DeliveryFailed(word_for(error))


def _of_answer(error: discord.HTTPException) -> DeliveryFailed | RecipientGone:
    if error.status == 401:
        return DeliveryFailed("refused_token", retry_after=UNAUTHORIZED_WAIT)
    if error.status == 429:
        return DeliveryFailed("rate_limited", retry_after=_asked_to_wait(error))
    if error.code in (DM_CLOSED, CHANNEL_GONE):
        return RecipientGone("closed" if error.code == DM_CLOSED else "channel_gone")
    if error.status == 403 or error.code in NO_PERMISSION:
        return DeliveryFailed("no_permission", retry_after=PERMISSION_WAIT)
    if error.code == TOO_LARGE or error.status == 413:
        return DeliveryFailed("too_large", permanent=True)
    if error.status >= 500:
        return DeliveryFailed("unreachable")
    return DeliveryFailed("refused", permanent=True)


def _asked_to_wait(error: discord.HTTPException) -> timedelta:
    given = error.response.headers.get("Retry-After", "")
    try:
        return timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        return BANNED_WAIT


def word_for(error: Exception) -> str:
    """A fixed word for logs and /health."""
    match error:
        case discord.LoginFailure():
            return "refused_token"
        case discord.PrivilegedIntentsRequired():
            return "missing_intent"
        case discord.ConnectionClosed(code=4004):
            return "refused_token"
        case discord.ConnectionClosed(code=code):
            return f"closed_{code}"
        case discord.RateLimited():
            return "rate_limited"
        case discord.HTTPException(status=401):
            return "refused_token"
        case discord.HTTPException(status=429):
            return "rate_limited"
        case discord.HTTPException(status=status) if status >= 500:
            return "unreachable"
        case discord.Forbidden():
            return "no_permission"
        case discord.HTTPException():
            return "refused"
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientError() | OSError() | discord.GatewayNotFound():
            return "unreachable"
    return "discord_error"
