"""Every kind of event in one life of a model, each in one line, on the real engine."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import annals
from annals import Check, Dataset, Evidence, Metric, Observed, Person, Propose, Target, When, Window
from annals.proposal import Envelope
from engine import Engine
from test_schemas import KINDS

TARGET = Target("local", "scorer", cluster="here", namespace="default")


def test_a_whole_life(client: annals.Client, model: str, pickle: Path) -> None:
    digest = annals.digest(pickle)
    end = datetime.now(timezone.utc)
    window = Window(end - timedelta(hours=1), end, 60)
    client.created(model, owner="ada", purpose="species", risk_tier="low", tags={"team": "a"}, reason="wanted")
    data = [Dataset.of("train", b"1,2\n", role="train", rows=1)]
    code = annals.Code("https://example.org/a.git", "c0ffee", dirty=False)
    client.trained(
        model, "run-1", pickle, code=code, metrics=[Metric("accuracy", 0.97, "test")], data=data, params={"C": 1.0}, seed=3
    )
    client.checked(model, "run-1", "missing", code=code, reason="no branch or tag leads to it")
    first = client.registered(model, pickle, run="run-1", label="1.0", performance={"accuracy": 0.97}, licence="Apache-2.0")
    assert first.version == 1
    client.evaluated(model, 1, "suite 1", [Check.at_least("accuracy", 0.97, 0.9), Check.at_most("loss", 0.1, 0.2)])
    client.approval_requested(model, 1, "a-1", "production", digest=digest)
    client.approval_decided(
        model,
        "a-1",
        "approved",
        Person("grace", role="quality"),
        digest=digest,
        reason="reviewed",
        meaning="release",
        actor="grace",
    )
    client.promoted(model, "1.0", "staging")
    client.promoted(model, "run:run-1", "production", reason="good", ticket="T-1", evidence=[Evidence("report", "file:///r")])
    client.alias_set(model, 1, "champion")
    client.deployment_requested(model, 1, "d-0", TARGET, channel="production")
    client.deployment_failed(model, "d-0", "no memory")
    client.deployment_requested(model, 1, "d-1", TARGET)
    client.deployed(model, "d-1", observed=Observed(replicas_ready=1, endpoint="http://here"))
    client.deployment_requested(model, 1, "d-2", TARGET)
    client.deployed(model, "d-2")
    client.rolled_back(model, "d-2", reason="it does not answer", error="503 for 30 s")
    client.observed(model, TARGET, "changed", manager="kubectl-edit", fields=["spec.replicas"])
    client.measured(model, "accuracy", 0.6, window=window, deployment="d-1")
    client.drifted(model, "x-1", "performance", "accuracy", 0.6, version=1, baseline=0.97, threshold=0.9, severity="high")
    client.retrain_requested(model, "drift", drift="x-1", pipeline="nightly")
    client.drift_resolved(model, "x-1", reason="the camera was mended")
    client.demoted(model, 1, "staging", reason="done")
    client.alias_removed(model, "champion", reason="done")
    client.deployment_removed(model, "d-1", reason="done")
    client.registered(model, pickle)
    client.promoted(model, 2, "production")
    last = client.retired(model, 1, reason="old", successor=2, labels={"by": "test"})
    assert (last.outcome, last.version, last.modelseq) == ("accepted", 1, 28)

    events = list(client.events(model=model))
    assert {event.type for event in events} == {kind for about, kind in KINDS.values() if about != "workspace"}
    assert events[1].data["code"] == {"repository": "https://example.org/a.git", "commit": "c0ffee", "dirty": False}
    assert events[1].data["environment"]["python"]
    assert events[1].data["artifact"] == {"uri": pickle.as_uri(), "digest": digest, "size": 7}
    assert {event.actor for event in events} == {"unverified:ada", "unverified:grace"}
    assert events[-1].data["labels"] == {"by": "test"}
    by_kind = {event.kind: event for event in events}
    assert by_kind["model.measured"].data["window"]["n"] == 60
    assert by_kind["deployment.rolled_back"].decided == {"deployment": "d-2", "version": 1, "restored": "d-1"}
    assert by_kind["deployment.observed"].decided["deployment"] == "d-1"


def test_a_workspace_has_events_of_its_own(client: annals.Client, model: str) -> None:
    own = Envelope(workspace=model)
    tell = annals.Webhook("pager")
    client.subscription_changed("pager", "paused", url="https://pager.example/hook", when=When(["drifted"]), signing="hmac", **own)
    client.trigger_changed("tell", "paused", when=When("drifted, measured", channel="production"), do=tell, cooldown_s=60, **own)
    last = client.trigger_changed("tell", "removed", reason="nobody read it", **own)
    client.observed(None, TARGET, "created", image="scorer:1", manager="kubectl-create", **own)
    assert (last.subject, last.modelseq, last.version) == (f"{model}/_system", 3, None)
    events = list(client.events(workspace=model))
    about_workspaces = {kind for about, kind in KINDS.values() if "workspace" in about}
    assert {event.type for event in events} == about_workspaces and {event.model for event in events} == {"_system"}
    assert events[1].data["when"] == {"type": ["drifted", "measured"], "channel": "production"}
    assert events[1].data["do"] == {"webhook": {"subscription": "pager"}}
    assert (events[2].decided["revision"], events[2].decided["state"]) == (2, "removed")
    with pytest.raises(annals.Refused, match="schema-violation"):
        client.trigger_changed("new", "active", **own)
    with pytest.raises(annals.Refused, match="unknown-trigger"):
        client.trigger_changed("new", "paused", **own)
    with pytest.raises(TypeError, match="Webhook, Command"):
        client.trigger_changed("new", "active", when=When("drifted"), do="webhook", **own)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`when` is a str"):
        client.trigger_changed("new", "active", when="drifted", do=tell, **own)  # type: ignore[arg-type]


def test_a_rule_acts_and_a_subscription_sees_it(client: annals.Client, model: str, pickle: Path) -> None:
    ask = Propose("retrain-requested", {"cause": {"kind": "drift", "drift": "{drift}"}})
    client.trigger_changed("ask", "active", when=When("drifted", model, where={"/data/severity": "high"}), do=ask)
    client.registered(model, pickle)
    with client.subscribe("retrain-requested", model=model, start="beginning") as events:
        client.drifted(model, "x-1", "data", "psi", 0.1, severity="low")
        cause = client.drifted(model, "x-2", "data", "psi", 1.5, severity="high")
        asked = next(events)
    assert asked.data["cause"] == {"kind": "drift", "drift": "x-2"}
    assert asked.attributes["causationid"] == cause.id
    client.trigger_changed("ask", "removed", must_exist=True)


def test_any_kind_by_its_name(client: annals.Client, model: str) -> None:
    receipt = client.emit(
        "model.created", model, {"owner": "ada"}, correlation_id="c-1", workspace="other", time="2026-01-01T00:00:00Z"
    )
    assert receipt.subject == f"other/{model}"
    (event,) = client.events(model=model, workspace="other")
    assert (event.attributes["correlationid"], event.attributes["time"]) == ("c-1", "2026-01-01T00:00:00Z")


def test_a_proposal_need_not_wait(client: annals.Client, model: str) -> None:
    receipt = client.created(model, id=f"{model}-1", wait=False)
    assert receipt.outcome in ("pending", "accepted")
    assert client.created(model, id=f"{model}-1").outcome in ("accepted", "duplicate")
    assert client.proposal(f"{model}-1").state == "accepted"


PROGRAM = """#!{python}
import json, sys
sys.path.insert(0, {sources!r})
import annals
event = json.load(sys.stdin)
with annals.Client(actor="pipeline") as client:
    client.measured(sys.argv[1], "accuracy", 0.9, id=annals.step_id(event["id"], "measured"))
"""


def test_a_program_that_a_rule_starts_names_its_cause(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    script = tmp_path / "programs" / "measure"
    script.write_text(PROGRAM.format(python=sys.executable, sources=str(Path(annals.__file__).parents[1])))
    script.chmod(0o755)
    engine = Engine(tmp_path, "--commands", str(script.parent))
    try:
        engine.start()
        with annals.Client(engine.url) as client, client.subscribe("measured", start="beginning") as events:
            client.trigger_changed("measure", "active", when=When("created"), do=annals.Command("measure", ["{model}"]))
            cause = client.created("m", correlation_id="c-1")
            measured = next(events)
        assert (measured.model, measured.actor) == ("m", "unverified:pipeline")
        wanted = {"causationid": cause.id, "correlationid": "c-1", "annalshops": "1"}
        assert {name: measured.attributes.get(name) for name in wanted} == wanted
    finally:
        engine.stop()


def test_a_cause_that_is_given_counts(engine: Engine, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_EVENT_ID", "e-1")
    monkeypatch.setenv("ANNALS_CORRELATION_ID", "c-1")
    with annals.Client(engine.url) as client:
        client.created(model, causation_id="e-2")
        (event,) = client.events(model=model)
    assert (event.attributes["causationid"], event.attributes["correlationid"]) == ("e-2", "c-1")
    assert "annalshops" not in event.attributes
