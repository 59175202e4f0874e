"""Receiving from Telegram: long polling on a laptop, a webhook on a server. Neither loses an update.

Polling confirms updates (by asking for the next ones) only after all of them are stored. Updates
that came while the bot was down are never dropped, and changing from one way to the other keeps them.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiohttp import web
from telegram import Bot, WebhookInfo
from telegram.error import TelegramError

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.commands import Menu, show_menus
from adapters.telegram.errors import CONFLICT, REFUSED, asked_to_wait, word_for
from adapters.telegram.parse import ALLOWED_UPDATES, UNREADABLE, Me, Parsed, Pressed, parse
from adapters.telegram.settings import TelegramSettings
from core.errors import IdempotencyConflict, StoreUnavailable
from core.language import Language, language_of
from core.messages import Edited, IncomingMessage
from core.ports import Inbox

log = structlog.get_logger()

PATH = "/webhooks/telegram"
BODY_LIMIT = 1024 * 1024
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a header's name
MAX_CONNECTIONS = 40
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
ANSWERS_AT_ONCE = 256
LATELY = timedelta(minutes=2)
CONFLICT_TOLD_SECONDS = 120.0
GET_UPDATES = "get_Updates"
"""Sent as getUpdates. The library warns of each name that its Bot has a method for."""
STARTING, OK, NOT_DELIVERED = "starting", "ok", "not_delivered"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How the channel is, for /health: `detail` is a fixed word."""

    up: bool
    detail: str


class TelegramReceiver:
    def __init__(
        self,
        bot: Bot,
        settings: TelegramSettings,
        seal: ButtonSeal,
        menus: Sequence[Menu] = (),
        not_yours: Mapping[Language, str] = {},
    ) -> None:
        """`not_yours`: what somebody is told who presses a button that is not theirs, or too old."""
        self._bot = bot
        self._settings = settings
        self._seal = seal
        self._menus = menus
        self._not_yours = not_yours
        self._me: Me | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._conflict_at = -CONFLICT_TOLD_SECONDS
        self._unknown: set[str] = set()
        self.state = ChannelState(up=False, detail=STARTING)

    async def run(self, inbox: Inbox) -> None:
        """Receive until cancelled. Telegram's troubles are waited out, never raised."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive_for_ever(inbox), name="telegram-receiving")
            group.create_task(show_menus(self._bot, self._menus), name="telegram-menus")

    async def _receive_for_ever(self, inbox: Inbox) -> None:
        wait = FIRST_WAIT_SECONDS
        while True:
            at_least = 0.0
            try:
                if self._me is None:
                    await self._introduce()
                if self._settings.webhook:
                    await self._keep_webhook()
                else:
                    await self._bot.delete_webhook(drop_pending_updates=False)
                    await self._poll(inbox)
            except StoreUnavailable:
                trouble = "store_unavailable"
            except TelegramError as error:
                trouble = word_for(error)
                if (
                    trouble == REFUSED
                ):  # what it does not like is the operator's to know: nothing of a person is in it
                    log.warning("telegram_refused", description=error.message[:200])
                at_least = asked_to_wait(error)
            except Exception:  # the task's top: the web page must not go down with this channel
                log.exception("telegram_receiver_broke")
                trouble = "internal_error"
            if self.state.up and trouble != CONFLICT:  # two pollers come up in turns: they must slow down
                wait = FIRST_WAIT_SECONDS
            self._note(trouble)
            await asyncio.sleep(max(at_least, wait * random.uniform(0.5, 1.0)))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def routes(self, inbox: Inbox) -> list[web.RouteDef]:
        """The webhook's route; none while polling."""
        if not self._settings.webhook:
            return []

        async def receive(request: web.Request) -> web.StreamResponse:
            return await self._receive(request, inbox)

        return [web.post(PATH, receive)]

    async def _introduce(self) -> None:
        """Learn the bot's own name, by which groups call it, and show its menus."""
        me = await self._bot.get_me()
        self._me = Me(me.id, me.username or "", self._seal)

    # --- polling ----------------------------------------------------------------------------

    async def _poll(self, inbox: Inbox) -> None:
        offset: int | None = None
        while True:
            # The first poll comes back at once, so that /health knows whether Telegram answers.
            seconds = self._settings.poll_seconds if self.state.up else 0
            # Not get_updates, which throws a whole batch away for one update that the library cannot read.
            updates: list[dict[str, Any]] = await self._bot.do_api_request(
                GET_UPDATES,
                {"offset": offset, "timeout": seconds, "allowed_updates": ALLOWED_UPDATES},
                read_timeout=seconds + self._settings.silence_seconds,
            )
            self._note(OK)
            if updates:
                await self._accept_all(updates, inbox)
                offset = updates[-1]["update_id"] + 1

    async def _accept_all(self, updates: Sequence[dict[str, Any]], inbox: Inbox) -> None:
        """Store a batch: chats beside each other, each chat in its order. Raises StoreUnavailable."""
        chats: dict[str, list[Parsed]] = {}
        for update in updates:
            parsed = self._parse(update)
            if parsed is not None:
                chats.setdefault(_chat_id(parsed), []).append(parsed)

        async def accept(happened: list[Parsed]) -> None:
            for one in happened:
                await self._store(one, inbox)

        results = await asyncio.gather(*map(accept, chats.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # --- webhook ----------------------------------------------------------------------------

    async def _keep_webhook(self) -> None:
        """Set the webhook if Telegram has another; look again now and then."""
        first = True
        while True:
            info = await self._bot.get_webhook_info()
            right = info.url == self._settings.webhook_url and set(info.allowed_updates) == set(
                ALLOWED_UPDATES
            )
            if first or not right:
                # Also when it looks right: the secret cannot be read back, and setting it again is harmless.
                await self._bot.set_webhook(
                    url=self._settings.webhook_url,
                    certificate=self._settings.certificate,
                    secret_token=self._settings.secret,
                    allowed_updates=ALLOWED_UPDATES,
                    max_connections=MAX_CONNECTIONS,
                    drop_pending_updates=False,
                )
                first = False
            self._note(NOT_DELIVERED if _is_not_delivered(info) else OK)
            await asyncio.sleep(self._settings.check_webhook_seconds)

    async def _receive(self, request: web.Request, inbox: Inbox) -> web.StreamResponse:
        given = request.headers.get(SECRET_HEADER, "")
        # aiohttp keeps bytes that are no UTF-8 as lone surrogates.
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._settings.secret.encode()):
            return web.Response(status=401)
        body = await _read(request)
        if body is None:
            return web.Response(status=413)
        try:
            update = json.loads(body)
        except (ValueError, RecursionError):
            update = None
        if not isinstance(update, dict) or not isinstance(update.get("update_id"), int):
            return web.Response(status=400)
        if self._me is None:  # it does not know yet by which name groups call it: Telegram comes again
            return web.Response(status=503)
        parsed = self._parse(update)
        if parsed is not None:
            try:
                await self._store(parsed, inbox)
            except StoreUnavailable:
                return web.Response(status=503)
        return web.Response()

    # --- what came --------------------------------------------------------------------------

    async def _store(self, parsed: Parsed, inbox: Inbox) -> None:
        """Raises StoreUnavailable: Telegram has to hand it over again."""
        try:
            match parsed:
                case Pressed():
                    if parsed.message is not None:
                        await inbox.accept(parsed.message)
                    await self._answer_press(parsed)
                case IncomingMessage():
                    await inbox.accept(parsed)
                case _:
                    await inbox.note(parsed)
        except (
            IdempotencyConflict
        ):  # handing it over again would change nothing, and hold up everybody behind it
            log.warning("update_known_with_another_text")
        except ValueError:  # nor would it change that it cannot be written down
            log.exception("update_cannot_be_stored")

    async def _answer_press(self, press: Pressed) -> None:
        """Let go of the button, beside everything else: the answer to it is on its way."""
        while len(self._answers) >= ANSWERS_AT_ONCE:
            await asyncio.wait(self._answers, return_when=asyncio.FIRST_COMPLETED)
        text = None if press.message else self._not_yours.get(language_of("", press.language))
        task = asyncio.create_task(self._let_go(press.query_id, text), name="press")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _let_go(self, query_id: str, text: str | None) -> None:
        try:
            await self._bot.answer_callback_query(query_id, text)
        except (
            TelegramError
        ) as error:  # too late for Telegram, or handed over twice: the button lets go by itself
            log.info("press_not_answered", reason=word_for(error))

    def _parse(self, update: dict[str, Any]) -> Parsed | None:
        assert self._me is not None
        parsed = parse(update, self._me)
        if not isinstance(parsed, str):
            return parsed
        if parsed not in self._unknown and len(self._unknown) < 100:
            self._unknown.add(parsed)
            log.log(
                logging.WARNING if parsed == UNREADABLE else logging.INFO, "update_not_answered", kind=parsed
            )
        return None

    def _note(self, detail: str) -> None:
        """Keep the state, with one line in the log for each change.

        Two pollers come up in turns: of that the state tells for a while after each time.
        """
        now = time.monotonic()
        if detail == CONFLICT:
            self._conflict_at = now
        in_turns = detail == OK and now - self._conflict_at < CONFLICT_TOLD_SECONDS
        state = ChannelState(up=detail == OK, detail=CONFLICT if in_turns else detail)
        if state != self.state:
            self.state = state
            if state.up:
                log.info("telegram_receiving", mode="webhook" if self._settings.webhook else "polling")
            else:
                log.warning("telegram_not_receiving", reason=detail)


def _chat_id(parsed: Parsed) -> str:
    """Where it happened: what happens in one chat is stored in its order."""
    match parsed:
        case Pressed(query_id, message, _):
            return message.chat_id if message is not None else query_id
        case Edited(message):
            return message.chat_id
    return parsed.chat_id


def _is_not_delivered(info: WebhookInfo) -> bool:
    """Whether Telegram has something for the webhook and lately could not bring it."""
    if not info.pending_update_count or info.last_error_date is None:
        return False
    return datetime.now(UTC) - info.last_error_date < LATELY


async def _read(request: web.Request) -> bytes | None:
    """The body, or None if it is larger than any update."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)


def make_bot(settings: TelegramSettings, request: Any, updates_request: Any) -> Bot:
    """The library's client. Polls have a connection pool of their own: a send never waits behind them."""
    return Bot(
        settings.token,
        base_url=f"{settings.api_base_url}/bot",
        base_file_url=f"{settings.api_base_url}/file/bot",
        request=request,
        get_updates_request=updates_request,
    )
