"""Where the links to files lead."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from adapters.wechat.files import FILES, FileLinks
from adapters.wechat.settings import PATH
from core.ports import Store

_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"OggS": "audio/ogg", b"ID3": "audio/mpeg"}


def file_route(links: FileLinks, store: Store) -> web.RouteDef:
    """Whoever has the link has the file, for as long as it is open. Raises StoreUnavailable: a 503."""

    async def fetch(request: web.Request) -> web.StreamResponse:
        delivery_id = links.opened(request.match_info["sealed"])
        if delivery_id is None:
            return web.Response(status=404)
        now = datetime.now(UTC)
        segment = await store.read(lambda tx: tx.deliveries.kept(delivery_id, now))
        if segment is None or segment.media is None:
            return web.Response(status=404)
        data = segment.media.data
        kind = next((kind for head, kind in _TYPES.items() if data.startswith(head)), "text/plain")
        return web.Response(
            body=data,
            content_type=kind,
            charset="utf-8" if kind == "text/plain" else None,
            # Shown, not saved: WeChat's own browser saves nothing.
            headers={"Content-Disposition": f"inline; filename*=UTF-8''{quote(segment.media.name)}"},
        )

    return web.get(f"{PATH}/{FILES}/{{sealed}}", fetch)
