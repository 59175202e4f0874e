"""GET /health, /system/info and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bot.api.access import Access
from bot.api.schemas import Health, PartReport, SystemInfo
from bot.metrics import Metrics

Parts = dict[str, PartReport]


@dataclass(frozen=True, slots=True)
class SystemApi:
    access: Access
    metrics: Metrics
    parts: Callable[[], Awaitable[Parts]]
    info: Callable[[], SystemInfo]
    draining: Callable[[], bool]

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Alive: this answers. Ready: messages can be stored. Degraded: something people notice is away."""
        if request.query.get("live") == "1":
            return _json(Health(status="ok", live=True, ready=not self.draining(), parts={}))
        parts = await self.parts()
        ready = parts["database"].state != "down" and not self.draining()
        whole = all(part.state == "ok" for part in parts.values())
        status = "down" if not ready else "ok" if whole else "degraded"
        health = Health(status=status, live=True, ready=ready, parts=parts)  # type: ignore[arg-type]
        return _json(health, status=200 if ready else 503)

    async def system_info(self, request: web.Request) -> web.StreamResponse:
        return _json(self.info())

    async def show_metrics(self, request: web.Request) -> web.StreamResponse:
        await self.access.caller(request, "metrics")
        body = generate_latest(self.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _json(model: Health | SystemInfo, status: int = 200) -> web.Response:
    return web.Response(text=model.model_dump_json(), status=status, content_type="application/json")
