"""The client asks what the engine's OpenAPI document describes, and leaves none of its questions about models out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import annals
from annals.reads import Reads
from engine import Engine

NOW = "2026-01-01T00:00:00Z"
GIVEN: dict[str, Any] = {
    "model": "m",
    "version": 1,
    "channel": "production",
    "alias": "champion",
    "deployment": "d",
    "id": "x",
    "source": "/s",
    "target": "*",
    "state": "missing",
    "order": "newest",
    "as_of": NOW,
    "workspace": "default",
    "types": "promoted",
    "since": NOW,
    "until": NOW,
    "limit": 1,
    "q": "m",
}
"""A value for each parameter of a question."""


@pytest.fixture(scope="module")
def document(engine: Engine) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{engine.url}/openapi.json").json()
    return body


def ask(client: annals.Client, name: str) -> None:
    """Asks one question with all that it takes; and of no model, if it need not have one."""
    method = getattr(client, name)
    wanted = inspect.signature(method).parameters
    every = {name: GIVEN[name] for name in wanted}
    without = {name: value for name, value in every.items() if name != "model"}
    for given in [every] if "model" not in wanted or wanted["model"].default is inspect.Parameter.empty else [every, without]:
        try:
            answer = method(**given)
            if isinstance(answer, Iterator):
                list(answer)
        except annals.NotFound:
            pass  # it was asked, and there is no such thing


def test_every_question_is_described_and_asked(engine: Engine, document: dict[str, Any]) -> None:
    requests: list[httpx.Request] = []
    with httpx.Client(event_hooks={"request": [requests.append]}) as http:
        client = annals.Client(engine.url, http=http)
        for name in [*(name for name in vars(Reads) if not name.startswith("_")), "events"]:
            ask(client, name)
    described = {path: operations["get"] for path, operations in document["paths"].items() if "get" in operations}
    asked: dict[str, set[str]] = {}
    for request in requests:
        fits = [path for path in described if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)), request.url.path)]
        exact = [path for path in fits if path == request.url.path] or fits
        assert len(exact) == 1, f"{request.url.path} is none of the document's paths"
        asked.setdefault(exact[0], set()).update(request.url.params.keys())
    for path, names in asked.items():
        takes = {p["name"] for p in described[path]["parameters"] if p["in"] == "query"}
        assert names <= takes, path
        assert takes <= names | {"after", "format"}, f"{path}: give the method in src/annals/ this parameter too"
    left = {path for path, operation in described.items() if "models" in operation["tags"]} - set(asked)
    assert not left, "add a question to src/annals/reads.py"


def test_what_is_written_and_followed_is_described(document: dict[str, Any]) -> None:
    stream = {p["name"] for p in document["paths"]["/v1/events/stream"]["get"]["parameters"]}
    assert stream >= {"type", "model", "workspace", "channel", "from", "Last-Event-ID"}
    publish = document["paths"]["/v1/events"]["post"]
    assert "application/cloudevents+json" in publish["requestBody"]["content"]
    assert {"200", "201", "202"} <= set(publish["responses"])
