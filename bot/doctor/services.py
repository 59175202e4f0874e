"""What answers elsewhere: the models and Telegram."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bot.doctor.finding import Finding, State, Verdict
from bot.doctor.surroundings import Surroundings
from bot.settings import Settings
from core.errors import ModelUnavailable
from core.model.client import ModelClient, ModelEndpoint, ModelLimits
from core.model.events import Finished, PromptMessage, PromptRole

if TYPE_CHECKING:
    from adapters.telegram.check import TelegramFacts

MODEL_LIMITS = ModelLimits(
    connect_seconds=4.0,
    first_token_seconds=7.0,
    stall_seconds=5.0,
    total_seconds=8.5,
    connections=1,
    answer_tokens=64,
)
TINY = (PromptMessage(PromptRole.USER, "请只回答一个字：好 · Answer with one word: ok"),)
TELEGRAM_SECONDS = 6.0
RECENT = timedelta(hours=1)

# --- models -----------------------------------------------------------------------------------


async def no_model(around: Surroundings) -> Finding:
    found = "没有密钥：离线倾听者会作答 · no key: the offline listener answers"
    return Finding("model", State.WARN, found, "设 LLM_API_KEY，或自己的 LLM_BASE_URL · set one of them")


async def model(endpoint: ModelEndpoint) -> Finding:
    """One real call, a handful of tokens."""
    where = f"{endpoint.model} @ {urlsplit(endpoint.base_url).hostname or '?'}"
    client = ModelClient(endpoint, MODEL_LIMITS)
    try:
        await client.prepare()
        async with aclosing(client.stream(TINY)) as events:
            (done,) = [event async for event in events if isinstance(event, Finished)]
    except ModelUnavailable as error:
        verdict = _MODEL_TROUBLE[error.reason]
        found = f"{where}: {verdict.found} ({error.reason})"
        return Finding("model", verdict.state, found, verdict.advice)
    finally:
        await client.close()
    return Finding(
        "model", State.OK, f"{where}: {done.usage.first_token_ms} ms 出第一个字 · to the first token"
    )


_BASE_URL = "LLM_BASE_URL 常以 /v1 结尾 · LLM_BASE_URL often ends in /v1"
_AGAIN = (
    "过一会儿再试；一直这样就换模型或问服务商 · try later; if it stays, another model, or ask the provider"
)
_MODEL_TROUBLE = {
    "refused_key": Verdict(
        State.FAIL,
        "不认这个密钥 · refused the key",
        "换 LLM_API_KEY，并看它能否用此模型 · another LLM_API_KEY",
    ),
    "no_such_model": Verdict(
        State.FAIL,
        "没有这个模型或接口 · no such model or path",
        f"改 DEFAULT_MODEL / FALLBACK_MODELS; {_BASE_URL}",
    ),
    "unreachable": Verdict(
        State.FAIL,
        "连不上 · unreachable",
        "看网络、代理和 LLM_BASE_URL · look at network, proxy and LLM_BASE_URL",
    ),
    "rate_limited": Verdict(
        State.WARN,
        "限流 · rate limited",
        "查额度，降 MAX_MODEL_CALLS，或加 FALLBACK_MODELS · check the quota, fewer MAX_MODEL_CALLS, or a fallback",
    ),
    "server_error": Verdict(State.FAIL, "对方出错 · the endpoint broke", _AGAIN),
    "silent": Verdict(
        State.FAIL,
        "一直没出字 · said nothing in time",
        "本地模型可能还在加载，再试一次 · a local model may still be loading: once more",
    ),
    "timeout": Verdict(State.FAIL, "太慢 · too slow", _AGAIN),
    "not_a_stream": Verdict(State.FAIL, "回的不是数据流 · answered no stream", _BASE_URL),
    "stream_error": Verdict(State.FAIL, "答到一半报错 · an error within the stream", _AGAIN),
    "invalid_json": Verdict(State.FAIL, "回的不是 JSON · answered no JSON", _BASE_URL),
    "empty": Verdict(
        State.WARN,
        "答了，但没有字 · answered without text",
        "思考模型可能用完了这次的 64 个 token · a thinking model may have used up this call's 64 tokens",
    ),
    "cut_off": Verdict(State.FAIL, "答到一半断了 · cut off", "看代理 · look at the proxy between"),
    "bad_request": Verdict(
        State.FAIL,
        "不接受请求 · refused the request",
        "看 DEFAULT_MODEL 是不是对话模型 · is it a chat model?",
    ),
    "content_filter": Verdict(State.FAIL, "内容过滤拦下了 · its content filter objects", _AGAIN),
}

# --- Telegram ---------------------------------------------------------------------------------


async def telegram(around: Surroundings) -> Finding:
    """getMe and getWebhookInfo: neither takes an update from a bot that runs."""
    settings = around.settings
    if settings.telegram_bot_token is None:
        return Finding("telegram", State.SKIPPED, "没有设 TELEGRAM_BOT_TOKEN · not set")
    facts = await _ask_telegram(settings, settings.telegram_bot_token.get_secret_value())
    if isinstance(facts, str):
        found, advice = _TELEGRAM_TROUBLE.get(facts, ("没有正常回应 · answers oddly", _TELEGRAM_ADDRESS))
        return Finding("telegram", State.FAIL, f"{found} ({facts})", advice)
    mode, waiting = settings.telegram_mode, f"{facts.pending} 条在等 · waiting"
    found = f"@{facts.username}, {mode}, {waiting}"
    if mode == "polling":
        noted = f"；现有 webhook 在 · a webhook is set at {facts.webhook_host}" if facts.webhook_host else ""
        return Finding("telegram", State.OK, found + noted)
    return _of_webhook(facts, found)


async def _ask_telegram(settings: Settings, token: str) -> TelegramFacts | str:
    await asyncio.to_thread(importlib.import_module, "adapters.telegram.check")  # the SDK takes a second
    from adapters.telegram.check import ask_telegram
    from adapters.telegram.settings import TelegramSettings

    wanted = TelegramSettings(
        token=token,
        webhook=settings.telegram_mode == "webhook",
        api_base_url=settings.telegram_api_base_url,
        public_url=settings.public_url or "",
    )
    return await ask_telegram(wanted, TELEGRAM_SECONDS)


def _of_webhook(facts: TelegramFacts, found: str) -> Finding:
    if not facts.webhook_is_ours:
        other = facts.webhook_host or "-"
        return Finding(
            "telegram",
            State.WARN,
            f"{found}；webhook 不是 PUBLIC_URL 的 · is not the one of PUBLIC_URL ({other})",
            "`xinyu run` 会设好 · sets it",
        )
    if not facts.last_error:
        return Finding("telegram", State.OK, f"{found}；webhook 设好了 · is set")
    when = facts.last_error_at
    found += f"；上次投递失败 · last delivery error {when:%Y-%m-%d %H:%M} UTC: " if when else "；"
    found += facts.last_error
    passed = not facts.pending and when is not None and datetime.now(UTC) - when > RECENT
    if passed:
        return Finding("telegram", State.OK, found)
    return Finding(
        "telegram",
        State.WARN,
        found,
        "从外面打开 PUBLIC_URL/health；看 nginx 和证书 · open PUBLIC_URL/health from outside; look at nginx and "
        "the certificate",
    )


_TELEGRAM_ADDRESS = (
    "看网络、HTTPS_PROXY 和 TELEGRAM_API_BASE_URL · look at network, HTTPS_PROXY and TELEGRAM_API_BASE_URL"
)
_TELEGRAM_TROUBLE = {
    "refused_token": (
        "不认这个令牌 · refused the token",
        "向 @BotFather 要新的 TELEGRAM_BOT_TOKEN · get a new one from @BotFather",
    ),
    "unreachable": ("连不上 · unreachable", _TELEGRAM_ADDRESS),
    "timeout": ("没有回应 · no answer", _TELEGRAM_ADDRESS),
    "rate_limited": ("限流 · rate limited", "过一会儿再试 · try again later"),
}
