"""GET /openapi.json and /docs: Swagger UI out of the swagger-ui-py package, from no other host."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from aiohttp import web

_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>心语 XinYu API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_START = (
    'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'
)


def docs_routes(document: dict[str, Any]) -> list[web.RouteDef]:
    """The document, its page and the page's files."""
    openapi = json.dumps(document, ensure_ascii=False).encode()

    async def show_document(request: web.Request) -> web.StreamResponse:
        return web.Response(body=openapi, content_type="application/json")

    async def show_page(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": DOCS_POLICY}
        )

    async def show_start(request: web.Request) -> web.StreamResponse:
        return web.Response(text=_START, content_type="text/javascript")

    async def show_file(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in _FILES:
            raise web.HTTPNotFound
        return web.FileResponse(
            str(files("swagger_ui") / "static" / name),
            headers={"Content-Type": _FILES[name], "Cache-Control": "public, max-age=86400"},
        )

    return [
        web.get("/openapi.json", show_document),
        web.get("/docs", show_page),
        web.get("/docs/start.js", show_start),
        web.get("/docs/{name}", show_file),
    ]
