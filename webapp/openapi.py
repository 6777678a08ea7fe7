"""The OpenAPI 3.1 document of everything below /api, from the routes and their pydantic schemas.

A view is described where it stands; its summary is the first sentence of its docstring:

    @api.get("/screener")
    @describe(query=ScreenerQuery, answers={200: ScreenerAnswer}, errors=(400,))
    def screener() -> Response:
        \"\"\"All symbols by any indicator or change.\"\"\"

`query` and `body` are the models that the view reads its parameters and its JSON with, `answers` the models of what it
answers, by status (or media type → model, None for text; None for an empty body), `errors` the statuses it refuses
with beside EVERYWHERE. Writes get the security scheme and its refusals by themselves. A test fails for a route below
/api that is not described.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from webapp.answers import ErrorAnswer
from webapp.auth import is_closed

type Names = Mapping[type[BaseModel], str]  # of the models' schemas
type Shown = type[BaseModel] | Mapping[str, type[BaseModel] | None] | None

ROOT = "/api/"
JSON = "application/json"
EVERYWHERE = (429, 500, 503)
WRITES = (401, 403, 413)
WITH_BODY = (400, 415)
ERRORS: dict[int, str] = {
    400: "A parameter or a field is unknown or cannot be used; the message begins with its name.",
    401: "It needs a token: there is none, or it is not valid.",
    403: "The token does not allow this.",
    404: "There is no such thing.",
    409: "It cannot be done as things stand.",
    413: "The body is too long.",
    415: "The body is not said to be JSON.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A defect; the server's log has the details.",
    503: "The database, or what else is needed, cannot be reached; try again.",
}
FIRST, LAST = ("charts", "quotes", "overview", "screener", "instruments", "exchanges"), ("health", "docs")  # tags
PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "symbol": {
        "schema": {"type": "string", "minLength": 1},
        "description": "BTC/USDT, BTC%2FUSDT or BTC-USDT, in any case.",
        "example": "BTC-USDT",
    },
    "exchange": {"schema": {"$ref": "#/components/schemas/Exchange"}, "example": "binance"},
}
BY_CONVERTER = {"int": {"type": "integer", "minimum": 0}}  # of the other places in an address; else it is text
_DESCRIBED = "openapi_operation"
_REF = re.compile(r"#/components/schemas/(\w+)")
_PLACE = re.compile(r"<(?:([^:>(]+)[^:>]*:)?([^>]+)>")


@dataclass(frozen=True, slots=True)
class Operation:
    """What describe() was told of a view."""

    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answers: Mapping[int, Shown] = field(default_factory=dict)
    errors: Sequence[int] = ()
    tag: str = ""
    tagged: bool = False  # it has an ETag, and answers 304

    def models(self) -> Iterator[type[BaseModel]]:
        """Every model it names."""
        yield from filter(None, (self.query, self.body))
        for shown in self.answers.values():
            yield from filter(None, shown.values() if isinstance(shown, Mapping) else (shown,))


def describe[V: Callable[..., Any]](
    *,
    answers: Mapping[int, Shown],
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    errors: Sequence[int] = (),
    tag: str = "",
    tagged: bool = False,
) -> Callable[[V], V]:
    """Says what a view below /api takes and answers; stands under its route."""
    told = Operation(query=query, body=body, answers=answers, errors=errors, tag=tag, tagged=tagged)

    def keep(view: V) -> V:
        setattr(view, _DESCRIBED, told)
        return view

    return keep


def routes(app: Flask) -> Iterator[tuple[Rule, str, Operation | None]]:
    """Every (rule, method, what is said of it) below /api."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.rule.startswith(ROOT):
            told = getattr(app.view_functions[rule.endpoint], _DESCRIBED, None)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, told


def document(app: Flask, *, reads_need_token: bool = False) -> dict[str, Any]:
    """The OpenAPI document of the application."""
    found = [(rule, method, told) for rule, method, told in routes(app) if told is not None]
    models = dict.fromkeys(model for _, _, told in found for model in told.models()) | {ErrorAnswer: None}
    keys, shared = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas = dict(shared.get("$defs", {}))
    names = {model: keys[model, "validation"]["$ref"].rsplit("/", 1)[1] for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, told in found:
        doc = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
        operation = _operation(rule, method, told, names=names, schemas=schemas, doc=doc)
        if method != "GET" or (reads_need_token and is_closed(rule.rule)):
            operation["security"] = [{"token": []}]
            operation["responses"].setdefault("401", _refusal(401, names))
        paths.setdefault(_PLACE.sub(r"{\2}", rule.rule), {})[method.lower()] = operation
    for query in {told.query for _, _, told in found if told.query is not None}:
        del schemas[names[query]]  # its fields stand as parameters
    _drop_unused(schemas, paths)
    who = "reads and writes need" if reads_need_token else "writes need"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Market data",
            "version": "1",
            "description": "Bars, indicators and quotes of crypto and stocks. Times are milliseconds since 1970 UTC.",
        },
        "tags": [{"name": name} for name in _tags(paths)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": f"API_TOKEN, or a JWT; {who} it."}
            },
        },
    }


def _drop_unused(schemas: dict[str, Any], paths: Mapping[str, Any]) -> None:
    """Takes out what nothing refers to: pydantic also lists models that a field replaces by text."""
    while unused := schemas.keys() - set(_REF.findall(json.dumps([schemas, paths]))):
        for name in unused:
            del schemas[name]


def _tags(paths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tags in use, what most come for first."""
    used = {tag for operations in paths.values() for operation in operations.values() for tag in operation["tags"]}
    return [tag for tag in FIRST if tag in used] + sorted(used.difference(FIRST, LAST)) + [t for t in LAST if t in used]


def _operation(
    rule: Rule, method: str, told: Operation, *, names: Names, schemas: Mapping[str, Any], doc: str
) -> dict[str, Any]:
    first, _, rest = doc.partition("\n\n")
    writes = method != "GET"
    refusals = {*told.errors, *EVERYWHERE, *(WRITES if writes else ()), *(WITH_BODY if told.body else ())}
    parameters = [_place(name, converter) for converter, name in _PLACE.findall(rule.rule)]
    if told.query is not None:
        parameters += _parameters(schemas[names[told.query]])
    shown: dict[str, Any] = {
        "operationId": re.sub(r"[._](\w)", lambda found: found[1].upper(), rule.endpoint.removeprefix("api.")),
        "tags": [told.tag or rule.rule.removeprefix(ROOT).split("/")[0]],
        "summary": " ".join(first.split()).removesuffix("."),
        "parameters": parameters,
        "responses": _responses(told, refusals, names=names),
    }
    if rest:
        shown["description"] = " ".join(rest.split())
    if told.body is not None:
        shown["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(names[told.body])}}}
    return shown


def _responses(told: Operation, refusals: set[int], *, names: Names) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, shown in sorted(told.answers.items()):
        kinds = shown if isinstance(shown, Mapping) else {JSON: shown} if shown is not None else {}
        schemas = {kind: _ref(names[model]) if model else {"type": "string"} for kind, model in kinds.items()}
        content = {kind: {"schema": schema} for kind, schema in schemas.items()}
        found[str(status)] = {"description": _description(shown, status)} | ({"content": content} if content else {})
    if told.tagged:
        found["304"] = {"description": "Nothing has changed since the ETag of If-None-Match."}
    for status in sorted(refusals - told.answers.keys()):
        found[str(status)] = _refusal(status, names)
    return found


def _refusal(status: int, names: Names) -> dict[str, Any]:
    return {"description": ERRORS[status], "content": {JSON: {"schema": _ref(names[ErrorAnswer])}}}


def _description(shown: Shown, status: int) -> str:
    model = next(iter(shown.values()), None) if isinstance(shown, Mapping) else shown
    return (inspect.getdoc(model) or "").split("\n")[0] if model is not None else ERRORS.get(status, "Done.")


def _place(name: str, converter: str) -> dict[str, Any]:
    about = PATH_PARAMETERS.get(name) or {"schema": BY_CONVERTER.get(converter, {"type": "string", "minLength": 1})}
    return {"name": name, "in": "path", "required": True, **about}


def _parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of a query's schema as parameters: in an address nothing is null, so no parameter may be."""
    found = []
    for name, given in schema["properties"].items():
        one = {key: value for key, value in given.items() if key not in {"title", "description"}}
        if one.get("default", ...) is None:
            del one["default"]
        kinds = [kind for kind in one.pop("anyOf", []) if kind != {"type": "null"}]
        one |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": one}
        found.append(parameter | {key: given[key] for key in ("description",) if key in given})
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
