"""The chat page: one document in two languages, its style, its scripts, its icon.

Everything is read and rendered once. The scripts talk to the chat API; nothing here does. The files
live under `/static/<hash of them all>/`, so that a module's relative imports carry the hash too and
each may be kept for ever.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
LANGUAGES = ("zh", "en")
MESSAGE_LIMIT = 8000
"""Characters that POST /chat takes; the page says so before sending."""
_TAGS = {"zh": "zh-Hans", "en": "en"}
_MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_FOR_EVER = "public, max-age=31536000, immutable"

Check = Callable[[web.Request], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    media_type: str
    etag: str

    def response(self, request: web.Request, cache: str) -> web.Response:
        headers = {"Cache-Control": cache, "ETag": self.etag, "Content-Type": self.media_type}
        if request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=headers)


def routes(names: Mapping[str, str], check: Check) -> list[web.RouteDef]:
    """The page's routes. `names`: the persona's by language; `check` raises if the caller may not chat."""
    static = _static_files(names)
    version = hashlib.sha256("".join(f"{name} {static[name].etag}" for name in sorted(static)).encode())
    prefix = f"/static/{version.hexdigest()[:12]}"
    pages = {language: _render(language, names[language], prefix) for language in LANGUAGES}

    async def show_page(request: web.Request) -> web.StreamResponse:
        await check(request)
        language = language_of(request.query.get("lang"), request.headers.get("Accept-Language", ""))
        headers = {
            "Cache-Control": "no-store",
            "Content-Language": _TAGS[language],
            "Vary": "Accept-Language",
        }
        return web.Response(text=pages[language], content_type="text/html", headers=headers)

    async def show_file(request: web.Request) -> web.StreamResponse:
        file = static.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        # A page from before an upgrade asks for the former version: it gets today's, to be checked again.
        current = request.path.startswith(f"{prefix}/")
        return file.response(request, _FOR_EVER if current else "no-cache")

    return [web.get("/", show_page), web.get("/static/{version}/{name}", show_file)]


def texts(language: str) -> dict[str, Any]:
    """The page's texts in a language: `page` for the template, `script` for the scripts."""
    return tomllib.loads((HERE / "locales" / f"{language}.toml").read_text(encoding="utf-8"))


def language_of(asked: str | None, accept_language: str) -> str:
    """`?lang=`, else the one of ours that Accept-Language likes best (RFC 9110, 12.5.4), else Chinese."""
    if asked in LANGUAGES:
        return asked
    best, liked = LANGUAGES[0], 0.0
    for entry in accept_language.split(",")[:20]:
        tag, _, weight = entry.partition(";")
        language = tag.strip().lower().partition("-")[0]
        quality = _quality(weight)
        if language in LANGUAGES and quality > liked:
            best, liked = language, quality
    return best


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _static_files(names: Mapping[str, str]) -> dict[str, StaticFile]:
    bodies = {path.name: path.read_bytes() for path in (HERE / "static").iterdir() if path.is_file()}
    for language in LANGUAGES:
        bodies[f"{language}.webmanifest"] = _manifest(language, names[language])
    return {name: _static_file(name, body) for name, body in bodies.items()}


def _static_file(name: str, body: bytes) -> StaticFile:
    media_type = _MEDIA_TYPES[Path(name).suffix]
    charset = "" if media_type == "image/png" else "; charset=utf-8"
    return StaticFile(body, media_type + charset, f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def _manifest(language: str, name: str) -> bytes:
    """What a phone needs to keep the page on its home screen."""
    manifest = {
        "name": name,
        "short_name": name,
        "lang": _TAGS[language],
        "start_url": "/",
        "display": "standalone",
        "background_color": "#f6f0e7",
        "theme_color": "#f6f0e7",
        "icons": [
            {"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"},
            {"src": "icon-180.png", "sizes": "180x180", "type": "image/png"},
        ],
    }
    return json.dumps(manifest, ensure_ascii=False).encode()


def _render(language: str, name: str, prefix: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )
    words = _named(texts(language), name)
    return environment.get_template("chat.html").render(
        language=language,
        tag=_TAGS[language],
        name=name,
        t=words["page"],
        script_texts=words["script"],
        limit=MESSAGE_LIMIT,
        modules=sorted(path.name for path in (HERE / "static").glob("*.js") if path.name != "chat.js"),
        static=prefix,
    )


def _named(words: dict[str, Any], name: str) -> dict[str, dict[str, str]]:
    return {
        part: {key: text.replace("{name}", name) for key, text in table.items()}
        for part, table in words.items()
    }
