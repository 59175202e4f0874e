"""The chat page: one server-rendered document, its style, its script."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
LANGUAGES = ("zh", "en")
_MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

Check = Callable[[web.Request], Awaitable[object]]


def routes(names: Mapping[str, str], check: Check) -> list[web.RouteDef]:
    """The page's routes. `names`: the persona's by language; `check` raises if the caller may not chat."""
    static = {path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir())}
    versions = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in static.items()}
    pages = {language: _render(language, names[language], versions) for language in LANGUAGES}

    async def show_page(request: web.Request) -> web.StreamResponse:
        await check(request)
        language = _language(request)
        headers = {"Cache-Control": "no-store", "Content-Language": language, "Vary": "Accept-Language"}
        return web.Response(text=pages[language], content_type="text/html", headers=headers)

    async def show_file(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in static:
            raise web.HTTPNotFound
        right = request.query.get("v") == versions[name]
        cache = "public, max-age=31536000, immutable" if right else "no-cache"
        etag = f'"{versions[name]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag, "Cache-Control": cache})
        return web.Response(
            body=static[name],
            content_type=_MEDIA_TYPES[Path(name).suffix],
            charset="utf-8",
            headers={"Cache-Control": cache, "ETag": etag},
        )

    return [web.get("/", show_page), web.get("/static/{name}", show_file)]


def texts(language: str) -> dict[str, Any]:
    """The page's texts in a language."""
    return tomllib.loads((HERE / "locales" / f"{language}.toml").read_text(encoding="utf-8"))


def _render(language: str, name: str, versions: Mapping[str, str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )

    def file(filename: str) -> str:
        return f"/static/{filename}?v={versions[filename]}"

    words = {key: text.replace("{name}", name) for key, text in texts(language).items()}
    return environment.get_template("chat.html").render(language=language, name=name, t=words, file=file)


def _language(request: web.Request) -> str:
    """`?lang=`, else the first of ours in Accept-Language, else Chinese."""
    wanted = request.query.get("lang")
    if wanted in LANGUAGES:
        return wanted
    for entry in request.headers.get("Accept-Language", "").split(","):
        tag = entry.partition(";")[0].strip().lower()[:2]
        if tag in LANGUAGES:
            return tag
    return LANGUAGES[0]
