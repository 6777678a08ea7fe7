"""Every operation of the OpenAPI document asked with made-up requests: no 5xx, no answer outside its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import redis
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.config import Settings
from tests.integration.api_market import AUTHORIZED, api, fill

# Left out are those that know less than the application: that `start` must come before `end`, that a symbol is
# unknown, or that a write wants a token.
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
]
# In-process nobody undoes a compression.
HEADERS = {**AUTHORIZED, "Accept-Encoding": "identity"}


def settings_of(examples: int) -> Any:
    """Deterministic, and patient with a busy machine."""
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )


@pytest.fixture(scope="module")
def document(settings: Settings, engine: sa.Engine) -> Iterator[BaseSchema]:
    """The document of an application on real servers, with something of everything in them."""
    client = redis.Redis.from_url(settings.redis_url)
    client.flushdb()
    fill(engine, client)
    client.close()
    with pytest.MonkeyPatch.context() as patch, api(settings, patch) as app:
        yield schemathesis.openapi.from_wsgi("/api/openapi.json", app)


def ask(case: schemathesis.Case, known: str | None) -> None:
    """One request, and its answer held against the document; `known` is a symbol that exists."""
    if known is not None and "symbol" in (case.path_parameters or {}):
        case.path_parameters = {**case.path_parameters, "symbol": known}
    if known is not None and isinstance(case.body, dict) and isinstance(case.body.get("symbol"), str):
        case.body["symbol"] = known
    case.call_and_validate(checks=CHECKED, headers=HEADERS)


def fuzz(document: BaseSchema, subtests: pytest.Subtests, *, examples: int) -> int:
    """Asks every operation what its schema allows, and what it does not; returns how many operations there are."""
    operations = [found.ok() for found in document.get_all_operations()]
    for operation in operations:
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
                continue  # there is nothing one could get wrong
            with subtests.test(operation.label, mode=mode.value):
                cases = operation.as_strategy(generation_mode=mode)
                asked = hypothesis.given(case=cases, known=st.sampled_from([None, "BTC-USDT", "THYAO.IS"]))(ask)
                settings_of(examples)(asked)()
    return len(operations)


def test_every_operation_keeps_to_its_document(document: BaseSchema, subtests: pytest.Subtests) -> None:
    assert fuzz(document, subtests, examples=15) > 15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_operation_keeps_to_its_document_at_length(document: BaseSchema, subtests: pytest.Subtests) -> None:
    assert fuzz(document, subtests, examples=80) > 15
