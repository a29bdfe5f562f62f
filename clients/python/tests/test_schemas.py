"""The client says what the published schemas say: every kind has a method, every field a parameter, and none is invented."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import typing
from pathlib import Path
from typing import Any

import pytest

import annals
from annals import rules
from annals.payload import Artifact
from annals.proposal import About, Envelope
from annals.stages import Stages
from engine import environment, program

SCHEMAS = Path(__file__).resolve().parents[3] / "events" / "schemas"
IN_ABOUT = {"reason", "ticket", "evidence", "labels"}
PARTS: dict[tuple[str, str], type] = {
    ("trained", "run"): annals.RunRef,
    ("trained", "code"): annals.Code,
    ("trained", "data"): annals.Dataset,
    ("trained", "metrics"): annals.Metric,
    ("trained", "artifact"): Artifact,
    ("trained", "environment"): annals.Environment,
    ("checked", "code"): annals.Code,
    ("registered", "artifact"): Artifact,
    ("registered", "data"): annals.Dataset,
    ("registered", "performance"): annals.Metric,
    ("evaluated", "results"): annals.Check,
    ("approval-requested", "requester"): annals.Person,
    ("approval-decided", "approver"): annals.Person,
    ("deployment-requested", "target"): annals.Target,
    ("deployed", "observed"): annals.Observed,
    ("measured", "window"): annals.Window,
    ("drifted", "window"): annals.Window,
    ("drifted", "source"): annals.Report,
    ("retrain-requested", "data_window"): annals.Window,
    ("observed", "target"): annals.Target,
    ("trigger-changed", "when"): annals.When,
    ("trigger-changed", "do/webhook"): annals.Webhook,
    ("trigger-changed", "do/command"): annals.Command,
    ("trigger-changed", "do/pipeline"): annals.Pipeline,
    ("trigger-changed", "do/propose"): annals.Propose,
    ("trigger-changed", "do/kubernetes"): annals.Kubernetes,
    ("trigger-changed", "do/git"): annals.Git,
    ("trigger-changed", "do/lookup"): annals.Lookup,
    ("subscription-changed", "when"): annals.When,
    ("promoted", "evidence"): annals.Evidence,
}
TAKES_MODEL = {"workspace": None, "model, version or workspace": "str | None"}
TAKES_VERSION = {"model": None, "version": True, "model or version": False, "workspace": None, "model, version or workspace": False}


def kinds() -> dict[str, tuple[str, str]]:
    """By short name what the subject names, and the full type: of every kind that may be proposed."""
    done = subprocess.run([program(), "schemas", "--json"], capture_output=True, text=True, check=True, env=environment())
    listed = json.loads(done.stdout)["items"]
    return {kind["short"]: (kind["subject"], kind["type"]) for kind in listed if "engine" not in kind["subject"]}


KINDS = kinds()


def schema(short: str) -> dict[str, Any]:
    name = KINDS[short][1].removeprefix("dev.annals.")
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.data.json").read_text())
    return loaded


def part(short: str, place: str) -> dict[str, Any]:
    """The schema of a member, by its place such as `do/propose`; of a list, that of its items."""
    found = schema(short)
    for name in place.split("/"):
        found = found["properties"][name]
    return dict(found.get("items", found))


def parameters(short: str) -> dict[str, inspect.Parameter]:
    method = getattr(annals.Client, short.replace("-", "_"), None)
    assert method is not None, f"the client has no method for {short}: add it to src/annals/stages/"
    return dict(inspect.signature(method).parameters)


def test_the_engine_names_the_kinds_of_a_models_life() -> None:
    assert {"created", "trained", "registered", "promoted", "deployed", "drifted", "retired"} <= set(KINDS)


def test_no_method_is_of_a_kind_that_the_engine_does_not_list() -> None:
    stages = [stage for stage in Stages.__mro__ if stage.__module__.startswith("annals.stages.")]
    methods = {name for stage in stages for name in vars(stage) if not name.startswith("_")}
    assert methods == {short.replace("-", "_") for short in KINDS}


@pytest.mark.parametrize("short", KINDS)
def test_a_kind_has_a_method_with_its_fields(short: str) -> None:
    given = parameters(short)
    wanted = schema(short)
    fields = set(wanted["properties"])
    if short == "retrain-requested":
        fields |= {"drift"}  # `cause` is flat: its kind, and the drift
    own = set(given) - {"self", "model", "version", "about"}
    required_reason = "reason" in wanted["required"] if "required" in wanted else False
    assert own == fields - (IN_ABOUT - {"reason"} if required_reason else IN_ABOUT)
    assert given["about"].annotation == f"Unpack[{'Envelope' if required_reason else 'About'}]"
    for name in set(wanted.get("required", ())) - {"verdict"}:  # the verdict follows from the checks
        assert given[name].default is inspect.Parameter.empty, f"{name} is required"
    about = KINDS[short][0]
    takes_model, takes_version = TAKES_MODEL.get(about, "str"), TAKES_VERSION[about]
    assert (given["model"].annotation if "model" in given else None) == takes_model
    assert ("version" in given) == (takes_version is not None)
    if takes_version:
        assert given["version"].default is inspect.Parameter.empty


@pytest.mark.parametrize(("short", "place"), PARTS)
def test_a_part_has_the_fields_of_its_schema(short: str, place: str) -> None:
    wanted = part(short, place)
    fields = {f.name: f for f in dataclasses.fields(PARTS[short, place])}
    assert set(fields) - {"other"} == set(wanted["properties"])
    required = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
    assert required == set(wanted.get("required", ()))


def test_every_object_in_a_schema_is_a_part() -> None:
    objects = {
        (short, name)
        for short in KINDS
        for name in schema(short)["properties"]
        if "properties" in part(short, name) and name not in IN_ABOUT
    }
    assert objects - set(PARTS) == {("retrain-requested", "cause"), ("trigger-changed", "do")}, "add a dataclass to src/annals/"
    actions = {place.removeprefix("do/") for short, place in PARTS if short == "trigger-changed" and place.startswith("do/")}
    assert actions == set(part("trigger-changed", "do")["properties"])
    assert actions == {cls.__name__.lower() for cls in typing.get_args(rules.Action)}


def test_what_every_event_may_say_is_in_every_schema() -> None:
    assert set(About.__annotations__) >= IN_ABOUT
    assert set(Envelope.__annotations__) == set(About.__annotations__) - {"reason"}
    for short in KINDS:
        assert set(schema(short)["properties"]) >= IN_ABOUT, short


CHOICES = [(short, name) for short in KINDS for name, member in schema(short)["properties"].items() if "enum" in member]


@pytest.mark.parametrize(("short", "parameter"), CHOICES)
def test_a_choice_is_the_one_of_the_schema(short: str, parameter: str) -> None:
    text = str(parameters(short)[parameter].annotation)
    given = eval(text.removesuffix(" | None"), {"Literal": typing.Literal, "RuleState": rules.RuleState})  # noqa: S307 - our own
    assert list(typing.get_args(given)) == schema(short)["properties"][parameter]["enum"]
