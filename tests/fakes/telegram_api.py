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

TOKEN = "123456789:AAFakeTokenForTestsOnly-0123456789abc"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
TEXT_LIMIT = 4096
UPDATES_LIMIT = 100
LONGEST_POLL_SECONDS = 50
WEBHOOK_PORTS = (443, 80, 88, 8443)
PATIENCE = 15.0

_TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]{35,}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_KINDS = ("message", "edited_message", "channel_post", "callback_query", "my_chat_member")
"""Kinds of updates that are handed over unless others were asked for."""
_ACTIONS = frozenset(["typing", "upload_photo", "record_voice", "upload_voice", "upload_document"])
_PARAMETERS = {
    "getme": frozenset[str](),
    "getupdates": frozenset(["offset", "limit", "timeout", "allowed_updates"]),
    "setwebhook": frozenset(
        ["url", "secret_token", "allowed_updates", "max_connections", "drop_pending_updates"]
    ),
    "deletewebhook": frozenset(["drop_pending_updates"]),
    "getwebhookinfo": frozenset[str](),
    "sendmessage": frozenset(
        ["chat_id", "text", "entities", "disable_notification", "link_preview_options", "protect_content"]
    ),
    "sendchataction": frozenset(["chat_id", "action"]),
}


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What a person got: the text as the bot sent it; `at` is monotonic seconds."""

    chat_id: int
    text: str
    at: float
    entities: tuple[dict[str, Any], ...] = ()


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


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


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
    sent: list[SentMessage] = field(default_factory=list)
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
        self._next_message_ids: Counter[int] = Counter()
        self._chats: dict[int, dict[str, Any]] = {}
        self._blocked: set[int] = set()
        self._kinds: tuple[str, ...] = _KINDS
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
        app = web.Application(client_max_size=4 * 1024 * 1024, middlewares=[self._network])
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
        self, user_id: int, text: str, *, language_code: str | None = "zh-hans", chat_type: str = "private"
    ) -> int:
        """A person writes to the bot (in a group: beside others); the update's id."""
        return self.user_sends(user_id, {"text": text}, language_code=language_code, chat_type=chat_type)

    def user_sends(
        self,
        user_id: int,
        content: dict[str, Any],
        *,
        language_code: str | None = "zh-hans",
        chat_type: str = "private",
        kind: str = "message",
    ) -> int:
        """A message of any content (`{"sticker": …}`), or an update of another kind; the update's id."""
        person: dict[str, Any] = {"id": user_id, "is_bot": False, "first_name": f"人{user_id}"}
        if language_code is not None:
            person["language_code"] = language_code
        chat_id = user_id if chat_type == "private" else -1_000_000_000_000 - user_id
        chat = {"id": chat_id, "type": chat_type}
        chat |= {"first_name": person["first_name"]} if chat_type == "private" else {"title": "一群人"}
        self._chats[chat_id] = chat
        message = {
            "message_id": self._message_id(chat_id),
            "from": person,
            "chat": chat,
            "date": int(time.time()),
            **content,
        }
        if kind == "edited_message":
            message["edit_date"] = message["date"]
        update_id = self._next_update_id
        self._next_update_id += 1
        if kind in self._kinds:
            update = {"update_id": update_id, kind: message}
            self._updates[update_id] = update
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

    def block(self, user_id: int) -> None:
        """The person blocks the bot."""
        self._blocked.add(user_id)

    def unblock(self, user_id: int) -> None:
        self._blocked.discard(user_id)

    def sent_to(self, chat_id: int) -> list[str]:
        return [message.text for message in self.sent if message.chat_id == chat_id]

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
        except _Refused as refused:
            status = refused.status
            answer = {"ok": False, "error_code": status, "description": refused.description}
            if refused.parameters:
                answer["parameters"] = refused.parameters
        self.calls[method] += 1
        self.calls[f"{method}:{status}"] += 1
        self._bump()
        if method == "sendmessage" and status == 200 and self._swallow:
            self._swallow -= 1
            assert isinstance(request.transport, asyncio.Transport)
            request.transport.abort()
        if method == "sendmessage":
            await asyncio.sleep(self.way_back_seconds)
        return web.json_response(answer, status=status)

    async def _answer(self, request: web.Request, token: str, method: str) -> Any:
        if not _TOKEN.fullmatch(token):
            raise _Refused(404, "Not Found")
        if token != self.token:
            raise _Refused(401, "Unauthorized")
        if method not in _PARAMETERS:
            raise _Refused(404, "Not Found")
        given = await _parameters(request)
        if unknown := set(given) - _PARAMETERS[method]:
            raise _Refused(400, f"Bad Request: unknown parameter {min(unknown)}")
        if failures := self._failures.get(method):
            failure = failures.popleft()
            wait = {} if failure.retry_after is None else {"retry_after": failure.retry_after}
            raise _Refused(failure.status, failure.description, **wait)
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
            case "sendmessage":
                return self._send_message(given)
            case _:
                return self._send_chat_action(given)

    def _bot(self) -> dict[str, Any]:
        id_ = int(self.token.partition(":")[0])
        return {"id": id_, "is_bot": True, "first_name": "心语", "username": "xinyu_fake_bot"}

    async def _get_updates(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        offset = _whole(given, "offset", 0)
        limit = min(max(_whole(given, "limit", UPDATES_LIMIT), 1), UPDATES_LIMIT)
        seconds = min(max(_whole(given, "timeout", 0), 0), LONGEST_POLL_SECONDS)
        kinds = _kinds(given)
        if self._webhook is not None:
            raise _Refused(
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
            raise _Refused(409, ended.result())

    def _end_poll(self, reason: str) -> None:
        if self._poll is not None:
            self.conflicts += 1
            self._poll.set_result(reason)
            self._poll = None
            self._bump()

    async def _set_webhook(self, given: dict[str, Any]) -> bool:
        url = _text(given, "url") or ""
        if not url:
            return await self._delete_webhook(given)
        secret = _text(given, "secret_token")
        connections = _whole(given, "max_connections", 40)
        kinds = _kinds(given)
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise _Refused(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if (parts.port or 443) not in WEBHOOK_PORTS:
            raise _Refused(
                400, "Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"
            )
        front = self.fronts.get(f"{parts.scheme}://{parts.netloc}")
        if front is None:
            raise _Refused(400, "Bad Request: bad webhook: Failed to resolve host: Name or service not known")
        if secret is not None and not _SECRET.fullmatch(secret):
            raise _Refused(400, "Bad Request: secret token contains unallowed characters")
        if not 1 <= connections <= 100:
            raise _Refused(400, "Bad Request: max_connections must be from 1 to 100")
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
        self._drop_if_asked(given)
        self._bump()
        return True

    def _drop_if_asked(self, given: dict[str, Any]) -> None:
        if _truth(given, "drop_pending_updates"):
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
            "has_custom_certificate": False,
            "pending_update_count": self.pending_count,
        }
        if self._webhook:
            info["max_connections"] = self._webhook.max_connections
        if self._last_error:
            info["last_error_date"], info["last_error_message"] = self._last_error
        if self._kinds != _KINDS:
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

    def _send_message(self, given: dict[str, Any]) -> dict[str, Any]:
        chat = self._chat(given)
        text = _text(given, "text") or ""
        try:
            units = len(text.encode("utf-16-le")) // 2
        except UnicodeEncodeError:
            raise _Refused(400, "Bad Request: strings must be encoded in UTF-8") from None
        if not text.strip():
            raise _Refused(400, "Bad Request: message text is empty")
        if units > TEXT_LIMIT:
            raise _Refused(400, "Bad Request: message is too long")
        entities = _entities(given, text)
        self.sent.append(SentMessage(chat["id"], text, time.monotonic(), entities))
        return {
            "message_id": self._message_id(chat["id"]),
            "from": self._bot(),
            "chat": chat,
            "date": int(time.time()),
            "text": text.strip(),
        }

    def _send_chat_action(self, given: dict[str, Any]) -> bool:
        self._chat(given)
        if _text(given, "action") not in _ACTIONS:
            raise _Refused(400, "Bad Request: wrong parameter action in request")
        return True

    def _chat(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = str(given.get("chat_id", ""))
        if not wanted:
            raise _Refused(400, "Bad Request: chat_id is empty")
        chat = self._chats.get(int(wanted)) if re.fullmatch(r"-?[0-9]{1,19}", wanted) else None
        if chat is None:
            raise _Refused(400, "Bad Request: chat not found")
        if chat["id"] in self._blocked:
            raise _Refused(403, "Forbidden: bot was blocked by the user")
        return chat

    def _message_id(self, chat_id: int) -> int:
        self._next_message_ids[chat_id] += 1
        return self._next_message_ids[chat_id]

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


async def _parameters(request: web.Request) -> dict[str, Any]:
    """From the query, a form (each value JSON unless it is a plain string) or a JSON object."""
    given: dict[str, Any] = dict(request.query)
    if request.method not in ("GET", "POST"):
        raise _Refused(405, "Method Not Allowed")
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise _Refused(400, "Bad Request: can't parse JSON object")
        return given | body
    return given | dict(await request.post())


def _text(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise _Refused(400, f'Bad Request: field "{name}" must be of type String')
    return value


_ENTITIES = frozenset(["bold", "italic", "strikethrough", "code", "pre", "blockquote", "text_link"])


def _entities(given: dict[str, Any], text: str) -> tuple[dict[str, Any], ...]:
    """Stricter than the real one, which mends what overlaps and drops what is empty."""
    value = given.get("entities", [])
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Refused(400, "Bad Request: can't parse entities JSON object") from None
    units = text.encode("utf-16-le")
    spans: list[tuple[int, int]] = []
    for entity in value:
        start, length = entity["offset"], entity["length"]
        part = units[2 * start : 2 * (start + length)]
        try:
            part.decode("utf-16-le")
        except UnicodeDecodeError:
            raise _Refused(400, "Bad Request: an entity ends inside a character") from None
        if entity["type"] not in _ENTITIES or length < 1 or start < 0 or len(part) != 2 * length:
            raise _Refused(400, "Bad Request: can't parse entities")
        if entity["type"] == "text_link" and not re.fullmatch(r"https?://[^\s/]+\.[^\s]+", entity["url"]):
            raise _Refused(400, "Bad Request: URL is invalid")
        end = start + length
        if any(a < start < b < end or start < a < end < b for a, b in spans):
            raise _Refused(400, "Bad Request: entities overlap")
        spans.append((start, end))
    return tuple(value)


def _whole(given: dict[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    if not re.fullmatch(r"-?[0-9]{1,18}", str(value)):
        raise _Refused(400, f"Bad Request: invalid {name} value specified")
    return int(value)


def _truth(given: dict[str, Any], name: str) -> bool:
    return str(given.get(name, "false")).lower() in ("true", "1", "yes")


def _kinds(given: dict[str, Any]) -> tuple[str, ...] | None:
    """The wanted kinds of updates; an empty list asks for the default. None: as before."""
    value = given.get("allowed_updates")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Refused(400, "Bad Request: can't parse allowed updates JSON object") from None
    if value is None:
        return None
    if not isinstance(value, Sequence) or not all(isinstance(kind, str) for kind in value):
        raise _Refused(400, "Bad Request: can't parse allowed updates JSON object")
    return tuple(value) or _KINDS


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
