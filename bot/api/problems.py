"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

CONTENT_TYPE = "application/problem+json"

TITLES = {
    400: "The request cannot be read",
    401: "An API key is needed",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not with this method",
    413: "Too large",
    415: "Send application/json",
    422: "Some of it is not as expected",
    429: "Too many requests",
    500: "Something broke here",
    503: "Not now",
    504: "The answer takes longer",
}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    field: str
    message: str


class Problem(Exception):
    """Raised by handlers, answered by the server's middleware."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self, request_id: str) -> dict[str, object]:
        """The document's members; `instance` is the request's id."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:request:{request_id}",
        }
        if self.errors:
            document["errors"] = [{"field": e.field, "message": e.message} for e in self.errors]
        return document

    def response(self, request_id: str) -> web.Response:
        return web.Response(
            status=self.status,
            body=json.dumps(self.document(request_id), ensure_ascii=False).encode(),
            headers=self.headers,
            content_type=CONTENT_TYPE,
        )


def broken() -> Problem:
    """For what nobody expected; whoever makes it logs the exception."""
    return Problem(500, "Something broke here. It was logged under this request's id.")
