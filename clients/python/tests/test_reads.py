"""Questions: now, at a time, over pages, and always with what this client wrote."""

from __future__ import annotations

import typing
from datetime import datetime, timezone
from pathlib import Path

import pytest

import annals
from annals import answers, reads


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


def test_a_search_finds_by_words_over_all_pages(
    client: annals.Client, model: str, pickle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ["1.0", "2.0", "3.0"]:
        client.registered(model, pickle, label=label, algorithm="random forest")
    client.promoted(model, 2, "production")
    monkeypatch.setattr(reads, "PAGE_ITEMS", 1)
    forest = list(client.search(f"name:{model} algorithm:forest"))
    assert [(found.version, found.label) for found in forest] == [(3, "3.0"), (2, "2.0"), (1, "1.0")]
    (held,) = client.search(f"name:{model} channel:production")
    assert (held.kind, held.version, held.channels, held.raw["created_by"]) == ("version", 2, ["production"], "unverified:ada")
    with pytest.raises(annals.Problem, match="q"):
        list(client.search("no-such-field:x"))


def test_every_read_has_its_type(client: annals.Client, model: str, pickle: Path) -> None:
    client.trained(model, "r-1", pickle)
    client.registered(model, pickle, run="r-1", label="1.0", performance={"accuracy": 0.9}, labels={"a": "b"})
    client.promoted(model, 1, "staging")
    client.alias_set(model, 1, "champion")
    client.deployment_requested(model, 1, "d-1", annals.Target("local", "n"))
    client.drifted(model, "x-1", "data", "psi", 1.5, severity="high", threshold=1.0)
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
    drift = next(client.drifts(model))
    assert (drift.observed, drift.threshold, drift.severity) == (1.5, 1.0, "high")
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


def test_what_is_wanted_beside_what_is_found(client: annals.Client, model: str, pickle: Path) -> None:
    target = annals.Target("local", model, cluster="here", namespace="n")
    name = f"local/here/n/{model}"
    client.registered(model, pickle)
    asked = client.deployment_requested(model, 1, "d-1", target)
    (wanted,) = client.targets(target=name)
    assert (wanted.state, wanted.model, wanted.found, wanted.as_of) == ("progressing", model, None, None)
    assert wanted.wanted is not None and wanted.since == wanted.wanted.since
    assert (wanted.wanted.deployment, wanted.wanted.position, wanted.wanted.digest) == (
        "d-1",
        asked.position,
        annals.digest(pickle),
    )
    client.deployed(model, "d-1")
    client.observed(model, target, "removed", reason="by hand")
    (missing,) = client.targets(target=f"*/{model}", state="missing", workspace="*")
    assert missing.note is not None and missing.note.event == missing.event
    (found,) = client.targets(target=name, as_of=asked.position)
    assert (found.state, found.found) == ("progressing", None) and found.as_of is not None
    client.deployment_removed(model, "d-1", reason="done")
    client.deployment_requested(model, 1, "d-2", target)
    client.deployment_failed(model, "d-2", "no memory")
    assert client.deployment(model, "d-2").error == "no memory"
    client.observed(None, annals.Target("local", f"{model}-2"), "created", image="other:1")
    (foreign,) = client.targets(state="foreign", target=f"*{model}-2")
    assert foreign.model is None and foreign.found is not None and foreign.found.image == "other:1"
    assert not list(client.targets(channel="dev", target=name))
    words = typing.get_args(answers.TargetWord)
    with pytest.raises(annals.Problem, match=f"use one of {', '.join(words)}"):  # those of the engine
        list(client.targets(state="gone"))  # type: ignore[arg-type]
