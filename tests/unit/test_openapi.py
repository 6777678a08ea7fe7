"""The OpenAPI document of a small application: how a view is described, and what the document says of it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask

from webapp.answers import Answer
from webapp.bodies import Body
from webapp.openapi import describe, document, routes
from webapp.schemas import PageQuery


class Job(Answer):
    """A job."""

    id: int


class NewJob(Body):
    """What a job is made of."""

    name: str


@pytest.fixture
def app() -> Flask:
    made, api = Flask(__name__), Blueprint("api", __name__, url_prefix="/api")

    @api.get("/jobs")
    @describe(query=PageQuery, answers={200: Job}, errors=(400,))
    def jobs() -> str:
        """All jobs.

        Newest
        first.
        """
        return ""

    @api.delete("/jobs/<int:job_id>")
    @describe(answers={204: None}, errors=(404,), tag="work")
    def stop_job(job_id: int) -> str:
        """Stops a job."""
        return ""

    @api.post("/jobs")
    @describe(body=NewJob, answers={201: Job, 202: {"text/plain": None}}, errors=(409,))
    def start_job() -> str:
        """Starts a job."""
        return ""

    @api.get("/forgotten")
    def forgotten() -> str:
        """Not described."""
        return ""

    made.register_blueprint(api)
    return made


def operation(app: Flask, path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = document(app)["paths"][path][method]
    return found


def test_what_is_not_described_is_found(app: Flask) -> None:
    assert [rule.rule for rule, _, told in routes(app) if told is None] == ["/api/forgotten"]
    assert "/api/forgotten" not in document(app)["paths"]


def test_the_docstring_speaks(app: Flask) -> None:
    jobs = operation(app, "/api/jobs", "get")
    assert (jobs["summary"], jobs["description"], jobs["operationId"]) == ("All jobs", "Newest first.", "jobs")
    assert "description" not in operation(app, "/api/jobs", "post")


def test_parameters_come_from_the_address_and_the_query(app: Flask) -> None:
    names = [(one["in"], one["name"]) for one in operation(app, "/api/jobs", "get")["parameters"]]
    assert names == [("query", name) for name in ("exchange", "symbol", "limit", "before")]
    (place,) = operation(app, "/api/jobs/{job_id}", "delete")["parameters"]
    assert (place["name"], place["required"], place["schema"]["type"]) == ("job_id", True, "integer")
    for one in operation(app, "/api/jobs", "get")["parameters"]:
        assert "null" not in str(one), "in an address nothing is null"


def test_a_write_has_its_refusals(app: Flask) -> None:
    post = operation(app, "/api/jobs", "post")
    assert set(post["responses"]) == {
        "201", "202", "400", "401", "403", "409", "413", "415", "429", "500", "503",
    }  # fmt: skip
    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NewJob"}
    assert post["security"] == [{"token": []}]
    assert post["responses"]["202"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    gone = operation(app, "/api/jobs/{job_id}", "delete")
    assert "content" not in gone["responses"]["204"]
    assert gone["tags"] == ["work"]
    assert "security" not in operation(app, "/api/jobs", "get")


def test_every_refusal_has_its_shape(app: Flask) -> None:
    for path in document(app)["paths"].values():
        for each in path.values():
            for status, answer in each["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"] == {
                        "$ref": "#/components/schemas/ErrorAnswer"
                    }
    assert set(document(app)["components"]["schemas"]) == {"Job", "NewJob", "ErrorAnswer", "Failure", "Exchange"}
