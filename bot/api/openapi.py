"""The table of operations: routes are registered and the OpenAPI document is made from the same rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bot.api.problems import CONTENT_TYPE as PROBLEM_TYPE
from bot.api.problems import TITLES
from bot.api.schemas import ProblemDocument

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_REF = "#/components/schemas/{model}"
_TEXT = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    where: str
    schema: dict[str, Any]
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    handler: Handler
    summary: str
    answer: type[BaseModel] | str
    """A model sent as JSON, or the media type of something else."""
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Of an answer in server-sent events: what each event's data hold."""
    request: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()
    also: dict[int, str] = field(default_factory=dict)
    """Further statuses with the same answer, and when."""
    secured: bool = True


def routes(operations: Sequence[Operation]) -> list[web.RouteDef]:
    return [
        web.get(op.path, op.handler) if op.method == "GET" else web.route(op.method, op.path, op.handler)
        for op in operations  # web.get answers HEAD too, as RFC 9110 (9.1) wants
    ]


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    models: list[type[BaseModel]] = [ProblemDocument]
    for op in operations:
        models += [op.request] if op.request else []
        models += [op.answer] if not isinstance(op.answer, str) else []
        models += op.events.values()
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REF
    )
    paths: dict[str, Any] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "心语 XinYu",
            "version": version,
            "description": "Talk with 心语. Without an API key only this machine itself is served.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(op: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": op.summary,
        "operationId": op.handler.__name__,
        "responses": _responses(op),
    }
    if op.secured:
        described["security"] = [{"key": []}, {}]
    if op.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "schema": parameter.schema,
                "description": parameter.description,
                "required": parameter.required,
            }
            for parameter in op.parameters
        ]
    if op.request is not None:
        content = {"application/json": {"schema": _ref(op.request)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(op: Operation) -> dict[str, Any]:
    if isinstance(op.answer, str):
        schema = {"oneOf": [_event(*event) for event in op.events.items()]} if op.events else _TEXT
        content: dict[str, Any] = {op.answer: {"schema": schema}}
    else:
        content = {"application/json": {"schema": _ref(op.answer)}}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    for status, when in op.also.items():
        responses[str(status)] = {"description": when, "content": content}
    problem = {PROBLEM_TYPE: {"schema": _ref(ProblemDocument)}}
    for status in op.problems:
        responses[str(status)] = {"description": TITLES[status], "content": problem}
    return responses


def _event(name: str, data: type[BaseModel]) -> dict[str, Any]:
    """A server-sent event. OpenAPI has words for them from 3.2 on; until then tools read `schema` as each event's."""
    return {
        "type": "object",
        "properties": {
            "event": {"const": name},
            "id": _TEXT,
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref(data)},
        },
        "required": ["event", "data"],
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
