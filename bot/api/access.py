"""Who may ask for what: API keys, loopback without a key, allowed hosts and origins, rate limits."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from aiohttp import web

from bot.api.problems import Problem
from core.ports import ApiKey, Clock, RateLimiter, Store

KEY_PREFIX = "xy_"
SCOPES = frozenset({"chat", "metrics", "admin"})
REMEMBERED_KEYS = 1024
REMEMBERED_SECONDS = 5.0
"""How long a revoked key may still work; a turn costs no query for its key."""
MARK_USED_EVERY = timedelta(minutes=1)
LOCAL = "local"
_FORWARDED = ("Forwarded", "Via", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP")
_FORWARDED_PREFIX = "x-forwarded-"


def new_key() -> str:
    """A fresh key: 256 random bits, shown once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> bytes:
    """What is stored of a key. A plain hash: nothing can be guessed about 256 random bits."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()  # as a header's bytes come


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. People belong to a caller: one key's holder cannot reach another's people."""

    owner: str


@dataclass(frozen=True, slots=True)
class AccessRules:
    hosts: frozenset[str]
    origins: frozenset[str]
    requests_per_minute: int


class Access:
    def __init__(self, store: Store, limiter: RateLimiter, clock: Clock, rules: AccessRules) -> None:
        self._store = store
        self._limiter = limiter
        self._clock = clock
        self._rules = rules
        self._remembered: OrderedDict[bytes, tuple[float, ApiKey | None]] = OrderedDict()

    async def caller(self, request: web.Request, scope: str) -> Caller:
        """Who sends this request. Raises Problem 401 or 403."""
        header = request.headers.get("Authorization", "")
        if header:
            kind, _, key = header.partition(" ")
            found = await self._find(hash_of(key.strip())) if kind.lower() == "bearer" else None
            if found is None:
                raise Problem(401, "This API key is unknown or was revoked.", headers=_CHALLENGE)
            if not found.scopes & {scope, "admin"}:
                raise Problem(403, f"This API key has no scope `{scope}`.")
            return Caller(str(found.id))
        if not is_local(request):
            raise Problem(
                401,
                "From elsewhere than this machine an API key is needed: `xinyu keys create` makes one.",
                headers=_CHALLENGE,
            )
        if _host_name(request.headers.get("Host", "")) not in self._rules.hosts:
            raise Problem(403, "Without an API key only local names are served; see ALLOWED_HOSTS.")
        return Caller(LOCAL)

    def check_origin(self, request: web.Request) -> None:
        """A browser says which site a request comes from: others may not use this one. Raises Problem 403."""
        origin = request.headers.get("Origin")
        if origin is None or self.allows_origin(origin):
            return
        scheme, _, host = origin.partition("://")
        if scheme in ("http", "https") and host == request.headers.get("Host"):
            return
        raise Problem(403, "This web origin may not use the API; see CORS_ORIGINS.")

    def allows_origin(self, origin: str) -> bool:
        return origin in self._rules.origins

    @property
    def answers_by_origin(self) -> bool:
        """Whether answers differ between web origins: caches must know."""
        return bool(self._rules.origins)

    async def keep_rate(self, caller: Caller, user_id: str) -> None:
        """Count a request. Raises Problem 429 saying when to come back."""
        who = f"{LOCAL}:{user_id}" if caller.owner == LOCAL else caller.owner
        each_minute = self._rules.requests_per_minute
        wait = await self._limiter.try_take(f"in:{who}", each_minute / 60, each_minute)
        if wait is not None:
            seconds = math.ceil(wait.total_seconds())
            raise Problem(429, f"Try again in {seconds} s.", headers={"Retry-After": str(seconds)})

    async def _find(self, key_hash: bytes) -> ApiKey | None:
        now = time.monotonic()
        seen = self._remembered.get(key_hash)
        if seen is not None and now - seen[0] < REMEMBERED_SECONDS:
            return seen[1]
        key = await self._store.read(lambda tx: tx.api_keys.find(key_hash))
        self._remembered[key_hash] = (now, key)
        self._remembered.move_to_end(key_hash)
        if len(self._remembered) > REMEMBERED_KEYS:
            self._remembered.popitem(last=False)
        if key is not None:
            await self._mark_used(key)
        return key

    async def _mark_used(self, key: ApiKey) -> None:
        now = self._clock.now()
        if key.last_used_at is None or now - key.last_used_at > MARK_USED_EVERY:
            await self._store.write(lambda tx: tx.api_keys.mark_used(key.id, now))


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port; None where that is no host at all."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_local(request: web.Request) -> bool:
    """Whether the request comes from this machine itself, not through a proxy on it."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    if any(name.lower().startswith(_FORWARDED_PREFIX) for name in request.headers):
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
