"""Questions: now, at a time, over pages, and always with what this client wrote."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

import annals
from annals import reads


def test_what_was_in_production_at_a_time(client: annals.Client, model: str, pickle: Path) -> None:
    client.registered(model, pickle, label="1.0")
    client.registered(model, pickle)
    client.promoted(model, 1, "production")
    then = client.production(model).since
    moved = client.promoted(model, 2, "production", reason="better")
    now = client.production(model)
    assert (now.version, now.previous, now.reason, now.as_of) == (2, 1, "better", None)
    past = client.production(model, as_of=then)
    assert (past.version, past.label, past.digest) == (1, "1.0", annals.digest(pickle))
    assert past.as_of is not None and past.as_of.asked.endswith("Z")
    assert client.production(model, as_of=moved.position).version == 2
    with pytest.raises(annals.NotFound):
        client.production(model, as_of="2020-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="time zone"):
        client.production(model, as_of=datetime(2026, 1, 1))
    assert now.since <= datetime.now(timezone.utc)


def test_every_read_has_its_type(client: annals.Client, model: str, pickle: Path) -> None:
    client.trained(model, "r-1", pickle)
    client.registered(model, pickle, run="r-1", label="1.0", performance={"accuracy": 0.9}, labels={"a": "b"})
    client.promoted(model, 1, "staging")
    client.alias_set(model, 1, "champion")
    client.deployment_requested(model, 1, "d-1", annals.Target("local", "n"))
    client.drifted(model, "x-1", "data", "psi", 1.5)
    found = client.model(model)
    assert (found.latest_version, found.channels, found.health, found.open_drifts) == (1, {"staging": 1}, "drifted", ["x-1"])
    assert any(each.name == model for each in client.models())
    version = client.version(model, "run:r-1")
    assert (version.label, version.run, version.channels, version.labels) == ("1.0", "r-1", ["staging"], {"a": "b"})
    assert version.performance[0]["value"] == 0.9 and version.raw["external_run"] is False
    assert [each.channel for each in client.channels(model)] == ["staging"]
    assert any(each.model == model for each in client.holdings("staging"))
    assert client.alias(model, "champion").version == next(client.aliases(model)).version == 1
    assert client.deployment(model, "d-1") == next(client.deployments(model))
    assert client.deployment(model, "d-1").active is None
    assert next(client.drifts(model)).observed == 1.5
    lineage = client.lineage(model, 1)
    assert {node["kind"] for node in lineage.nodes} >= {"run", "version", "deployment"} and not lineage.truncated
    lines = list(client.timeline(model, order="newest"))
    assert [line.modelseq for line in lines] == [6, 5, 4, 3, 2, 1] and lines[0].kind == "drift.detected"
    assert client.accepted("never") is None


def test_pages_are_of_one_point(client: annals.Client, model: str, pickle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "PAGE_ITEMS", 2)
    for _ in range(5):
        client.registered(model, pickle)
    versions = client.versions(model)
    assert next(versions).version == 1
    client.registered(model, pickle)  # behind the first page: the others do not see it
    assert [each.version for each in versions] == [2, 3, 4, 5]
    assert [each.version for each in client.versions(model)] == [1, 2, 3, 4, 5, 6]
    assert len(list(client.timeline(model))) == 6
    assert len([line for line in client.timeline() if line.key == f"default/{model}"]) == 6
