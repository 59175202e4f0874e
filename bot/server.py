"""The aiohttp application: middleware, the API's routes, and those that adapters bring."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bot.api.access import Access
from bot.api.chat import IDEMPOTENCY_KEY, REQUEST_ID, ChatApi
from bot.api.docs import docs_routes
from bot.api.openapi import Operation, Parameter, document, routes
from bot.api.problems import TITLES, Problem, broken
from bot.api.schemas import (
    ChatReply,
    ChatRequest,
    Delta,
    Health,
    History,
    StreamProblem,
    StreamRequest,
    SystemInfo,
)
from bot.api.system import SystemApi
from bot.logs import ACCESS
from bot.metrics import Metrics
from core.errors import StoreUnavailable

BODY_LIMIT = 128 * 1024
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SECURITY_HEADERS = {  # where a handler has not set its own
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CORS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-ID",
    "Access-Control-Expose-Headers": "Idempotency-Key, Retry-After, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
WEBHOOKS = "/webhooks/"
"""Platforms' servers call these: they prove themselves in their own way and are no browsers."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CHAT_PROBLEMS = (400, 401, 403, 413, 415, 422, 429, 503, 504)

log = structlog.get_logger("bot.server")
access_log = structlog.get_logger(ACCESS)


def create_app(
    chat: ChatApi,
    system: SystemApi,
    access: Access,
    metrics: Metrics,
    version: str,
    more_routes: Sequence[web.RouteDef] = (),
) -> web.Application:
    """The application; `more_routes` are the adapters' (the page, webhooks)."""
    app = web.Application(client_max_size=BODY_LIMIT)
    app.middlewares.extend([_observe(metrics), _problems, _guard(access, system)])
    operations = _operations(chat, system)
    app.router.add_routes(routes(operations))
    app.router.add_routes(docs_routes(document(operations, version)))
    app.router.add_routes(more_routes)
    app.on_response_prepare.extend([_add_headers, _add_cors(access)])
    return app


def _operations(chat: ChatApi, system: SystemApi) -> list[Operation]:
    visible = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"}
    again = Parameter(
        IDEMPOTENCY_KEY, "header", visible, "The same key again gets the same answer, never a second one."
    )
    resume = Parameter(
        "Last-Event-ID",
        "header",
        {"type": "string"},
        "Resume: repeat the request with its key. What is no id of ours means from the beginning.",
    )
    history = (
        Parameter(
            "user_id",
            "query",
            {"type": "string", "minLength": 1, "maxLength": 100},
            "As in POST /chat.",
            True,
        ),
        Parameter(
            "limit", "query", {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}, "How many."
        ),
        Parameter(
            "before",
            "query",
            {"type": "string", "format": "date-time"},
            "Only messages up to this time: the `created_at` of the oldest one you have (it comes again).",
        ),
    )
    return [
        Operation(
            "POST",
            "/chat",
            chat.chat,
            "Say something and wait for the answer",
            ChatReply,
            request=ChatRequest,
            parameters=(again,),
            problems=_CHAT_PROBLEMS,
        ),
        Operation(
            "POST",
            "/chat/stream",
            chat.stream,
            "Say something and follow the answer (server-sent events `delta`, `done`, `error`)",
            "text/event-stream",
            events={"delta": Delta, "done": ChatReply, "error": StreamProblem},
            request=StreamRequest,
            parameters=(again, resume),
            problems=_CHAT_PROBLEMS,
        ),
        Operation(
            "GET",
            "/chat/history",
            chat.history,
            "What was said, oldest first",
            History,
            parameters=history,
            problems=(400, 401, 403, 422, 429, 503),
        ),
        Operation(
            "GET",
            "/health",
            system.health,
            "Whether it is alive and ready, part by part",
            Health,
            parameters=(
                Parameter("live", "query", {"type": "string"}, "`1`: only liveness, nothing else is asked."),
            ),
            also={503: "Not ready"},
            secured=False,
        ),
        Operation("GET", "/system/info", system.system_info, "What runs here", SystemInfo, secured=False),
        Operation(
            "GET",
            "/metrics",
            system.show_metrics,
            "Prometheus metrics",
            "text/plain",
            problems=(401, 403, 503),
        ),
    ]


def _observe(metrics: Metrics) -> Middleware:
    """An id that follows the request, a line in the access log, a measurement."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("X-Request-ID", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        request[REQUEST_ID] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 499  # the client went before there was an answer
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            seconds = time.perf_counter() - began
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            metrics.request_served(request.method if resource else "other", route, status, seconds)
            access_log.info(
                "request", method=request.method[:10], route=route, status=status, ms=round(seconds * 1000, 1)
            )

    return observe


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is a problem document; what nobody expected is logged once, here."""
    request_id = request[REQUEST_ID]
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response(request_id)
    except web.HTTPRequestEntityTooLarge:
        return Problem(413, f"At most {BODY_LIMIT // 1024} KiB are read.").response(request_id)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(error.status, TITLES.get(error.status, error.reason), headers=headers).response(
            request_id
        )
    except StoreUnavailable:
        away = Problem(503, "The database does not answer. Try again soon.", headers={"Retry-After": "2"})
        return away.response(request_id)
    except ConnectionResetError:  # the client went: there is nobody to answer
        raise
    except Exception:  # the request's top
        log.exception("request_failed")
        return broken().response(request_id)


def _guard(access: Access, system: SystemApi) -> Middleware:
    """Cross-origin rules, and no new work while shutting down."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(WEBHOOKS):
            return await handler(request)
        origin = request.headers.get("Origin")
        if request.method == "OPTIONS" and origin is not None:
            access.check_origin(request)
            return web.Response(status=204)
        if request.method not in ("GET", "HEAD"):
            access.check_origin(request)
            if system.draining():
                raise Problem(503, "Shutting down. Send it again in a moment.", headers={"Retry-After": "2"})
        return await handler(request)

    return guard


def _add_cors(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if access.answers_by_origin:
            response.headers.add("Vary", "Origin")
        if origin is not None and access.allows_origin(origin):
            response.headers.update({**CORS_HEADERS, "Access-Control-Allow-Origin": origin})

    return add_cors


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "XinYu"  # not which versions of what
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        response.headers["X-Request-ID"] = request_id
