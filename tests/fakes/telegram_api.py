"""A strict Telegram Bot API server on loopback: core.telegram.org/bots/api, as far as the bot uses it.

It refuses what the real one refuses (and parameters that nobody knows, which the real one ignores), hands updates
over as the real one does, and misbehaves on demand. Tests are the people who write to the bot and the network between.

By hand: `python -m tests.fakes.telegram_api --port 9902`, then `POST /control/say {"user_id": 7, "text": "你好"}`
and `GET /control/sent`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tests.fakes import telegram_wire as wire
from tests.fakes.telegram_chats import PARAMETERS, Chats, Limits, SentMessage
from tests.fakes.telegram_wire import Refused

TOKEN = "123456789:AAFakeTokenForTestsOnly-0123456789abc"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
UPDATES_LIMIT = 100
LONGEST_POLL_SECONDS = 50
UPLOAD_LIMIT = 50 * 1024 * 1024
WEBHOOK_PORTS = (443, 80, 88, 8443)
PATIENCE = 15.0

_TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]{35,}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PARAMETERS = {
    "getme": frozenset[str](),
    "getupdates": frozenset(["offset", "limit", "timeout", "allowed_updates"]),
    "setwebhook": frozenset(
        ["url", "certificate", "secret_token", "allowed_updates", "max_connections", "drop_pending_updates"]
    ),
    "deletewebhook": frozenset(["drop_pending_updates"]),
    "getwebhookinfo": frozenset[str](),
    "answercallbackquery": frozenset(["callback_query_id", "text", "show_alert", "cache_time"]),
    "setmycommands": frozenset(["commands", "scope", "language_code"]),
    "deletemycommands": frozenset(["scope", "language_code"]),
    "getmycommands": frozenset(["scope", "language_code"]),
    **PARAMETERS,
}
_SENDS = frozenset(["sendmessage", "sendphoto", "sendvoice", "senddocument"])


@dataclass(frozen=True, slots=True)
class PressAnswer:
    """What was shown to somebody who pressed a button, and after how many seconds."""

    text: str
    after: float
    query_id: str = ""
    alert: bool = False


@dataclass(frozen=True, slots=True)
class _Failure:
    status: int
    description: str
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class _Webhook:
    url: str
    address: str
    """Where the url is really reached: behind the proxy that ends TLS."""
    secret: str | None
    max_connections: int


@dataclass
class FakeTelegramApi:
    """Start it, read `base_url`, let people say things with `user_says`, look at `sent`.

    `fronts`: the https origins of the world and the loopback address each leads to, as a proxy that ends TLS
    would. A webhook can be set under these alone.
    """

    token: str = TOKEN
    port: int = 0
    fronts: dict[str, str] = field(default_factory=dict)
    webhook_retry_seconds: float = 0.02
    """Before a webhook that failed is tried again; doubled up to fifty times as long."""
    way_back_seconds: float = 0.0
    """How long the answer to a message that was sent is on its way: what a crash then hits is sent again."""
    limits: bool = False
    """Whether it refuses what comes faster than Telegram allows."""
    calls: Counter[str] = field(default_factory=Counter)
    """How often each method was called, and `method:status` was answered."""
    conflicts: int = 0
    delivered_by_webhook: int = 0
    hanging: int = 0
    """Requests that will never be answered."""
    polling: int = 0
    """Long polls that wait for updates."""

    def __post_init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._changed = asyncio.Event()
        self._pending: deque[dict[str, Any]] = deque()
        self._again: deque[dict[str, Any]] = deque()
        self._updates: dict[int, dict[str, Any]] = {}
        self._next_update_id = 700_000_001
        self.chats = Chats(self._bot)
        if self.limits:
            self.chats.limits = Limits()
        self.commands: dict[tuple[str, str], list[tuple[str, str]]] = {}
        """Name and description, by scope and language."""
        self.certificate: bytes | None = None
        self.presses: dict[str, float] = {}
        """Buttons that were pressed and not answered yet, by when that was handed over."""
        self.press_answers: list[PressAnswer] = []
        self._reactions: dict[tuple[int, int, int], list[dict[str, str]]] = {}
        self._kinds: tuple[str, ...] = wire.DEFAULT_KINDS
        self._webhook: _Webhook | None = None
        self._webhook_task: asyncio.Task[None] | None = None
        self._last_error: tuple[int, str] | None = None
        self._poll: asyncio.Future[str] | None = None
        """Done with the reason when the long poll under way has to make room."""
        self._failures: dict[str, deque[_Failure]] = {}
        self._pages: deque[bytes] = deque()
        self._swallow = 0
        self._silent = False
        self._silences = 0

    @property
    def sent(self) -> list[SentMessage]:
        """What arrived, in the order in which it first did; an edit changes it in its place."""
        return self.chats.sent

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pending_count(self) -> int:
        """Updates that nobody has taken yet."""
        return len(self._pending) + len(self._again)

    @property
    def webhook_url(self) -> str | None:
        return self._webhook.url if self._webhook else None

    async def start(self) -> FakeTelegramApi:
        app = web.Application(client_max_size=UPLOAD_LIMIT, middlewares=[self._network])
        app.router.add_route("*", "/bot{token}/{method}", self._call)
        app.router.add_post("/control/say", self._control_say)
        app.router.add_get("/control/sent", self._control_sent)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=4096).start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession()
        return self

    async def stop(self) -> None:
        await self._end_webhook()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> FakeTelegramApi:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- the people -------------------------------------------------------------------------

    def user_says(
        self,
        user_id: int,
        text: str,
        *,
        language_code: str | None = "zh-hans",
        chat_type: str = "private",
        chat_id: int | None = None,
        thread_id: int | None = None,
        reply_to: int | None = None,
        entities: list[dict[str, Any]] | None = None,
        first_name: str | None = None,
    ) -> int:
        """A person writes to the bot (in a group: beside others); the update's id.

        `entities`: the marks in the text, where they are other than the mentions and the command in it.
        """
        marks = _marked(text) if entities is None else {"entities": entities} if entities else {}
        content: dict[str, Any] = {"text": text, **marks}
        return self.user_sends(
            user_id,
            content,
            language_code=language_code,
            chat_type=chat_type,
            chat_id=chat_id,
            thread_id=thread_id,
            reply_to=reply_to,
            first_name=first_name,
        )

    def user_sends(
        self,
        user_id: int,
        content: dict[str, Any],
        *,
        language_code: str | None = "zh-hans",
        chat_type: str = "private",
        kind: str = "message",
        chat_id: int | None = None,
        thread_id: int | None = None,
        reply_to: int | None = None,
        first_name: str | None = None,
    ) -> int:
        """A message of any content (`{"sticker": …}`), or an update of another kind; the update's id."""
        chat = self._chat(user_id, chat_type, chat_id, forum=thread_id is not None)
        message: dict[str, Any] = {
            "message_id": self.chats.message_id(chat["id"]),
            "from": _person(user_id, language_code, first_name),
            "chat": chat,
            "date": int(time.time()),
            **self.chats.place(chat, thread_id, reply_to),
            **content,
        }
        if thread_id is not None:
            self.chats.topics.add((chat["id"], thread_id))
        if kind == "edited_message":
            message["edit_date"] = message["date"]
        self.chats.messages[chat["id"], message["message_id"]] = message
        return self._hand_over(kind, message, unseen=chat["id"] in self.chats.left)

    def user_sends_album(self, user_id: int, contents: Sequence[dict[str, Any]], **more: Any) -> list[int]:
        """Several pictures (files) sent as one; their updates' ids."""
        together = {"media_group_id": str(self._next_update_id)}
        return [self.user_sends(user_id, {**content, **together}, **more) for content in contents]

    def user_edits(self, update_id: int, text: str) -> int:
        """The person changes what they sent with that update."""
        (message,) = (value for name, value in self._updates[update_id].items() if name != "update_id")
        changed = {**message, "edit_date": int(time.time())}
        changed["text" if "text" in message else "caption"] = text
        changed.pop("entities", None)
        changed.pop("caption_entities", None)
        self.chats.messages[message["chat"]["id"], message["message_id"]] = changed
        return self._hand_over("edited_message", changed)

    def user_presses(self, user_id: int, sent: SentMessage, label: str) -> int:
        """The person presses the button with that label."""
        return self.user_presses_data(user_id, sent, sent.data_of(label))

    def user_presses_data(self, user_id: int, sent: SentMessage, data: str) -> int:
        """A client may send any data, whether a button has it or not."""
        query_id = str(4_000_000 + self._next_update_id)
        self.presses[query_id] = time.monotonic()
        query = {
            "id": query_id,
            "from": _person(user_id),
            "message": self.chats.shown(sent.chat_id, sent.message_id),
            "chat_instance": "1",
            "data": data,
        }
        return self._hand_over("callback_query", query)

    def user_reacts(self, user_id: int, chat_id: int, message_id: int, *emojis: str) -> int:
        """The person's reactions on a message are these from now on."""
        place = (user_id, chat_id, message_id)
        new = [{"type": "emoji", "emoji": emoji} for emoji in emojis]
        old, self._reactions[place] = self._reactions.get(place, []), new
        reaction = {
            "chat": self.chats.known[chat_id],
            "message_id": message_id,
            "user": _person(user_id),
            "date": int(time.time()),
            "old_reaction": old,
            "new_reaction": new,
        }
        return self._hand_over("message_reaction", reaction)

    def message_id_of(self, update_id: int) -> int:
        return int(self._updates[update_id]["message"]["message_id"])

    def block(self, user_id: int, *, tell: bool = False) -> None:
        """The person blocks the bot; `tell`: with the update about it."""
        self.chats.blocked.add(user_id)
        if tell:
            self._membership(user_id, user_id, "member", "kicked")

    def unblock(self, user_id: int, *, tell: bool = False) -> None:
        self.chats.blocked.discard(user_id)
        if tell:
            self._membership(user_id, user_id, "kicked", "member")

    def add_to_group(
        self, chat_id: int, user_id: int, chat_type: str = "supergroup", *, is_forum: bool = False
    ) -> int:
        """Somebody adds the bot to a group."""
        self._chat(user_id, chat_type, chat_id, forum=is_forum)
        self.chats.left.discard(chat_id)
        return self._membership(chat_id, user_id, "left", "member")

    def remove_from_group(self, chat_id: int, user_id: int) -> int:
        self.chats.left.add(chat_id)
        return self._membership(chat_id, user_id, "member", "kicked")

    def make_manager(self, chat_id: int, user_id: int) -> None:
        """The person is the one who made the group."""
        self.chats.managers.add((chat_id, user_id))

    def make_admin(self, chat_id: int, user_id: int) -> None:
        """Somebody (the bot, by its own id) is given rights in the group."""
        self.chats.admins.add((chat_id, user_id))

    def migrate(self, chat_id: int, new_chat_id: int, *, tell: bool = True) -> None:
        """A group becomes a supergroup; `tell`: with the service messages about it."""
        old = self.chats.known[chat_id]
        new = {**old, "id": new_chat_id, "type": "supergroup"}
        self.chats.known[new_chat_id] = new
        self.chats.moved[chat_id] = new_chat_id
        for chat, told in (
            (old, {"migrate_to_chat_id": new_chat_id}),
            (new, {"migrate_from_chat_id": chat_id}),
        ):
            if tell:
                message = {
                    "message_id": self.chats.message_id(chat["id"]),
                    "from": _person(1),
                    "chat": chat,
                    "date": int(time.time()),
                    **told,
                }
                self._hand_over("message", message)

    def hand_over(self, kind: str, content: dict[str, Any]) -> int:
        """An update of any kind whatsoever, wanted or not."""
        return self._hand_over(kind, content, always=True)

    def _membership(self, chat_id: int, user_id: int, before: str, after: str) -> int:
        def member(status: str) -> dict[str, Any]:
            until = {"until_date": 0} if status == "kicked" else {}
            return {"user": self._bot(), "status": status, **until}

        change = {
            "chat": self.chats.known[chat_id],
            "from": _person(user_id),
            "date": int(time.time()),
            "old_chat_member": member(before),
            "new_chat_member": member(after),
        }
        return self._hand_over("my_chat_member", change)

    def _chat(
        self, user_id: int, chat_type: str, chat_id: int | None, *, forum: bool = False
    ) -> dict[str, Any]:
        """The chat, which is known from then on."""
        if chat_type == "private":
            chat: dict[str, Any] = {"id": user_id, "type": chat_type, "first_name": f"人{user_id}"}
        else:
            id_ = chat_id or -1_000_000_000_000 - user_id
            chat = {"id": id_, "type": chat_type, "title": "一群人"}
        if chat_type == "supergroup" and (forum or self.chats.known.get(chat["id"], {}).get("is_forum")):
            chat["is_forum"] = True
        self.chats.known[chat["id"]] = chat
        return chat

    def _hand_over(
        self, kind: str, content: dict[str, Any], *, always: bool = False, unseen: bool = False
    ) -> int:
        """`unseen`: it happens where the bot is not."""
        update_id = self._next_update_id
        self._next_update_id += 1
        update = {"update_id": update_id, kind: content}
        self._updates[update_id] = update
        if (kind in self._kinds and not unseen) or always:
            self._pending.append(update)
            self._bump()
        return update_id

    def hand_over_again(self, update_id: int) -> None:
        """An update comes once more though it was taken, as when the first answer was lost on its way."""
        self._again.append(self._updates[update_id])
        self._bump()

    def update_of(self, update_id: int) -> dict[str, Any]:
        """The update as it goes over the wire."""
        return self._updates[update_id]

    def sent_to(self, chat_id: int) -> list[str]:
        return [message.text for message in self.sent if message.chat_id == chat_id]

    def sent_of(self, message: SentMessage) -> SentMessage:
        """A message as it stands now."""
        place = (message.chat_id, message.message_id)
        return next(sent for sent in self.sent if (sent.chat_id, sent.message_id) == place)

    async def wait_until(self, holds: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Wait until something about this server is true. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not holds():
                await self._changed.wait()

    async def wait_for_sent(
        self, count: int, timeout: float = PATIENCE, *, chat_id: int | None = None
    ) -> list[SentMessage]:
        """Wait until so many messages were sent in all (or to one chat) and return them."""

        def messages() -> list[SentMessage]:
            return [message for message in self.sent if chat_id is None or message.chat_id == chat_id]

        await self.wait_until(lambda: len(messages()) >= count, timeout)
        return messages()

    # --- what goes wrong --------------------------------------------------------------------

    def fail_next(
        self, method: str, status: int, description: str, retry_after: int | None = None, times: int = 1
    ) -> None:
        """The next calls of a method fail, without having done anything."""
        failures = self._failures.setdefault(method.lower(), deque())
        failures.extend([_Failure(status, description, retry_after)] * times)

    def show_page_next(self, *pages: bytes) -> None:
        """Something between the bot and the API answers the next calls, with status 200 and these bodies."""
        self._pages.extend(pages)

    def swallow_after_processing(self, times: int = 1) -> None:
        """The next sent messages arrive, but the connection is reset before the bot is told."""
        self._swallow += times

    def silence(self) -> None:
        """Connections hang from here on without being closed; those open now stay dead for ever."""
        self._silent = True
        self._silences += 1

    def unsilence(self) -> None:
        """New requests are answered again."""
        self._silent = False

    @web.middleware
    async def _network(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        silences = self._silences
        if not self._silent:
            response: web.StreamResponse = await handler(request)
            if silences == self._silences:
                return response
        self.hanging += 1
        self._bump()
        try:
            await asyncio.Event().wait()
        finally:
            self.hanging -= 1
            self._bump()
        raise AssertionError("unreachable")

    # --- the API ----------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.StreamResponse:
        token, method = request.match_info["token"], request.match_info["method"].lower()
        if self._pages:
            self.calls["pages"] += 1
            self._bump()
            return web.Response(body=self._pages.popleft(), content_type="text/html")
        status = 200
        answer: dict[str, Any] = {"ok": True}
        try:
            answer["result"] = await self._answer(request, token, method)
        except Refused as refused:
            status = refused.status
            answer = {"ok": False, "error_code": status, "description": refused.description}
            if refused.parameters:
                answer["parameters"] = refused.parameters
        self.calls[method] += 1
        self.calls[f"{method}:{status}"] += 1
        self._bump()
        if method in _SENDS and status == 200 and self._swallow:
            self._swallow -= 1
            assert isinstance(request.transport, asyncio.Transport)
            request.transport.abort()
        if method in _SENDS:
            await asyncio.sleep(self.way_back_seconds)
        return web.json_response(answer, status=status)

    async def _answer(self, request: web.Request, token: str, method: str) -> Any:
        if not _TOKEN.fullmatch(token):
            raise Refused(404, "Not Found")
        if token != self.token:
            raise Refused(401, "Unauthorized")
        if method not in _PARAMETERS:
            raise Refused(404, "Not Found")
        given = await wire.parameters(request)
        if unknown := set(given) - _PARAMETERS[method]:
            raise Refused(400, f"Bad Request: unknown parameter {min(unknown)}")
        if failures := self._failures.get(method):
            failure = failures.popleft()
            wait = {} if failure.retry_after is None else {"retry_after": failure.retry_after}
            raise Refused(failure.status, failure.description, **wait)
        match method:
            case "getme":
                return {**self._bot(), "can_join_groups": True, "can_read_all_group_messages": False}
            case "getupdates":
                return await self._get_updates(given)
            case "setwebhook":
                return await self._set_webhook(given)
            case "deletewebhook":
                return await self._delete_webhook(given)
            case "getwebhookinfo":
                return self._webhook_info()
            case "answercallbackquery":
                return self._answer_press(given)
            case "setmycommands" | "getmycommands" | "deletemycommands":
                return self._menu(method, given)
            case _:
                return self.chats.call(method, given)

    def _bot(self) -> dict[str, Any]:
        id_ = int(self.token.partition(":")[0])
        return {"id": id_, "is_bot": True, "first_name": "心语", "username": "xinyu_fake_bot"}

    def _answer_press(self, given: dict[str, Any]) -> bool:
        query_id, text = wire.text(given, "callback_query_id") or "", wire.text(given, "text") or ""
        alert = wire.truth(given, "show_alert")
        wire.whole(given, "cache_time", 0)
        if len(text) > 200:
            raise Refused(400, "Bad Request: MESSAGE_TOO_LONG")
        handed_over = self.presses.pop(query_id, None)
        if handed_over is None:
            raise Refused(
                400, "Bad Request: query is too old and response timeout expired or query ID is invalid"
            )
        self.press_answers.append(PressAnswer(text, time.monotonic() - handed_over, query_id, alert))
        return True

    def _menu(self, method: str, given: dict[str, Any]) -> Any:
        place = wire.scope(given)
        match method:
            case "getmycommands":
                return [{"command": name, "description": told} for name, told in self.commands.get(place, [])]
            case "deletemycommands":
                self.commands.pop(place, None)
            case _:
                self.commands[place] = wire.commands(given)
        return True

    async def _get_updates(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        offset = wire.whole(given, "offset", 0)
        limit = min(max(wire.whole(given, "limit", UPDATES_LIMIT), 1), UPDATES_LIMIT)
        seconds = min(max(wire.whole(given, "timeout", 0), 0), LONGEST_POLL_SECONDS)
        kinds = wire.kinds(given)
        if self._webhook is not None:
            raise Refused(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete "
                "the webhook first",
            )
        self._end_poll(
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        )
        self._kinds = kinds or self._kinds
        if offset < 0:
            offset = self._pending[offset]["update_id"] if -offset <= len(self._pending) else 0
        while self._pending and self._pending[0]["update_id"] < offset:
            self._pending.popleft()
        self._bump()
        if not self.pending_count and seconds:
            await self._wait_for_update(seconds)
        again = [self._again.popleft() for _ in range(min(limit, len(self._again)))]
        return again + [self._pending[index] for index in range(min(limit - len(again), len(self._pending)))]

    async def _wait_for_update(self, seconds: int) -> None:
        """The long poll: until there is one, the time is over, or another takes its place (Conflict)."""
        ended = self._poll = asyncio.get_running_loop().create_future()
        self.polling += 1
        self._bump()
        try:
            async with asyncio.timeout(seconds):
                while not self.pending_count and not ended.done():
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self.polling -= 1
            if self._poll is ended:
                self._poll = None
        if ended.done():
            raise Refused(409, ended.result())

    def _end_poll(self, reason: str) -> None:
        if self._poll is not None:
            self.conflicts += 1
            self._poll.set_result(reason)
            self._poll = None
            self._bump()

    async def _set_webhook(self, given: dict[str, Any]) -> bool:
        url = wire.text(given, "url") or ""
        if not url:
            return await self._delete_webhook(given)
        secret = wire.text(given, "secret_token")
        connections = wire.whole(given, "max_connections", 40)
        kinds = wire.kinds(given)
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Refused(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if (parts.port or 443) not in WEBHOOK_PORTS:
            raise Refused(
                400, "Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"
            )
        front = self.fronts.get(f"{parts.scheme}://{parts.netloc}")
        if front is None:
            raise Refused(400, "Bad Request: bad webhook: Failed to resolve host: Name or service not known")
        if secret is not None and not _SECRET.fullmatch(secret):
            raise Refused(400, "Bad Request: secret token contains unallowed characters")
        if not 1 <= connections <= 100:
            raise Refused(400, "Bad Request: max_connections must be from 1 to 100")
        file = wire.upload(given, "certificate")
        if file and b"-----BEGIN CERTIFICATE-----" not in file[1]:
            raise Refused(400, "Bad Request: bad webhook: failed to set custom certificate file")
        self.certificate = file[1] if file else None
        self._end_poll("Conflict: terminated by setWebhook request")
        await self._end_webhook()
        self._drop_if_asked(given)
        self._kinds = kinds or self._kinds
        self._last_error = None
        self._webhook = _Webhook(url, front.rstrip("/") + parts.path, secret, connections)
        self._webhook_task = asyncio.create_task(self._deliver_to(self._webhook), name="webhook")
        self._bump()
        return True

    async def _delete_webhook(self, given: dict[str, Any]) -> bool:
        await self._end_webhook()
        self.certificate = None
        self._drop_if_asked(given)
        self._bump()
        return True

    def _drop_if_asked(self, given: dict[str, Any]) -> None:
        if wire.truth(given, "drop_pending_updates"):
            self._pending.clear()
            self._again.clear()

    async def _end_webhook(self) -> None:
        self._webhook = None
        if self._webhook_task is not None:
            self._webhook_task.cancel()
            await asyncio.wait({self._webhook_task})
            self._webhook_task = None

    def _webhook_info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "url": self._webhook.url if self._webhook else "",
            "has_custom_certificate": self.certificate is not None,
            "pending_update_count": self.pending_count,
        }
        if self._webhook:
            info["max_connections"] = self._webhook.max_connections
        if self._last_error:
            info["last_error_date"], info["last_error_message"] = self._last_error
        if self._kinds != wire.DEFAULT_KINDS:
            info["allowed_updates"] = list(self._kinds)
        return info

    async def _deliver_to(self, webhook: _Webhook) -> None:
        """Hand updates over one by one, each again and again until it is taken."""
        wait = self.webhook_retry_seconds
        while True:
            await self.wait_until(lambda: self.pending_count > 0 and not self._silent, timeout=1e9)
            waiting = self._again or self._pending
            update = waiting[0]
            problem = await self._post(webhook, update)
            if problem is None:
                waiting.remove(update)
                self.delivered_by_webhook += 1
                wait = self.webhook_retry_seconds
                self._bump()
            else:
                self._last_error = (int(time.time()), problem)
                self._bump()
                await asyncio.sleep(wait)
                wait = min(wait * 2, self.webhook_retry_seconds * 50)

    async def _post(self, webhook: _Webhook, update: dict[str, Any]) -> str | None:
        """What went wrong, if anything did."""
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        if webhook.secret is not None:
            headers[SECRET_HEADER] = webhook.secret
        body = json.dumps(update).encode()
        try:
            async with self._session.post(
                webhook.address, data=body, headers=headers, timeout=aiohttp.ClientTimeout(total=10)
            ) as response:
                if 200 <= response.status < 300:
                    return None
                return f"Wrong response from the webhook: {response.status} {response.reason}"
        except TimeoutError:
            return "Read timeout expired"
        except aiohttp.ClientConnectorError:
            return "Connection refused"
        except aiohttp.ClientError:
            return "Connection reset by peer"

    def _bump(self) -> None:
        """Wake whoever waits for something to become true."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # --- by hand, from another process ------------------------------------------------------

    async def _control_say(self, request: web.Request) -> web.Response:
        try:
            said = await request.json()
            update_id = self.user_says(int(said["user_id"]), str(said["text"]))
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": 'expected {"user_id": 7, "text": "…"}'}, status=400)
        return web.json_response({"update_id": update_id})

    async def _control_sent(self, request: web.Request) -> web.Response:
        return web.json_response([{"chat_id": m.chat_id, "text": m.text, "at": m.at} for m in self.sent])


def _person(
    user_id: int, language_code: str | None = "zh-hans", first_name: str | None = None
) -> dict[str, Any]:
    person: dict[str, Any] = {"id": user_id, "is_bot": False, "first_name": first_name or f"人{user_id}"}
    return person if language_code is None else {**person, "language_code": language_code}


def _marked(text: str) -> dict[str, Any]:
    """The mentions and the command that Telegram finds in a text."""
    found = [("mention", match) for match in re.finditer(r"@[A-Za-z0-9_]{5,32}", text)]
    found += [("bot_command", match) for match in re.finditer(r"^/[A-Za-z0-9_]+(@[A-Za-z0-9_]+)?", text)]
    entities = [
        {
            "type": kind,
            "offset": wire.units(text[: match.start()]),
            "length": wire.units(match.group()),
        }
        for kind, match in found
    ]
    return {"entities": entities} if entities else {}


def _fronts(given: Iterable[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in given)


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=9902)
    arguments.add_argument("--token", default=TOKEN)
    arguments.add_argument(
        "--front",
        action="append",
        default=[],
        metavar="https://NAME=http://127.0.0.1:PORT",
        help="where a webhook's address leads to",
    )
    given = arguments.parse_args()
    async with FakeTelegramApi(token=given.token, port=given.port, fronts=_fronts(given.front)) as api:
        print(f"TELEGRAM_API_BASE_URL={api.base_url} TELEGRAM_BOT_TOKEN={api.token}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
