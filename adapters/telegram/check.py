"""What Telegram says of the bot, asked without disturbing one that runs: no getUpdates, no setWebhook."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from telegram.error import TelegramError

from adapters.proxy import proxy_for
from adapters.telegram.errors import word_for
from adapters.telegram.receive import make_bot
from adapters.telegram.request import AiohttpRequest
from adapters.telegram.settings import TelegramSettings


@dataclass(frozen=True, slots=True)
class TelegramFacts:
    """From getMe and getWebhookInfo; see core.telegram.org/bots/api#webhookinfo."""

    username: str
    webhook_host: str
    """Empty without a webhook. Not its address: other programs keep their token in theirs."""
    webhook_is_ours: bool
    pending: int
    last_error: str
    """Why Telegram could last not deliver to the webhook, in its words; empty if it always could."""
    last_error_at: datetime | None


async def ask_telegram(settings: TelegramSettings, seconds: float) -> TelegramFacts | str:
    """The facts, or the fixed word for why there are none."""
    request = AiohttpRequest(proxy_for(settings.api_base_url))
    try:
        async with asyncio.timeout(seconds):
            bot = make_bot(settings, request, request)
            me = await bot.get_me()
            info = await bot.get_webhook_info()
    except TimeoutError:
        return "timeout"
    except TelegramError as error:
        return word_for(error)
    finally:
        await request.shutdown()
    return TelegramFacts(
        username=me.username or me.first_name,
        webhook_host=(urlsplit(info.url).hostname or "?") if info.url else "",
        webhook_is_ours=bool(info.url) and info.url == settings.webhook_url,
        pending=info.pending_update_count,
        last_error=info.last_error_message or "",
        last_error_at=info.last_error_date,
    )
