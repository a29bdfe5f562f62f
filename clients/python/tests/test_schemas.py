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
from annals.payload import Artifact
from annals.proposal import About, Envelope
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
    ("promoted", "evidence"): annals.Evidence,
}


def kinds() -> dict[str, tuple[str, str]]:
    """By short name what the subject names, and the full type: of every kind that may be proposed."""
    done = subprocess.run([program(), "schemas"], capture_output=True, text=True, check=True, env=environment())
    found = {}
    for line in done.stdout.splitlines()[1:]:
        short, about, kind = line.split()[0], " ".join(line.split()[1:-1]), line.split()[-1]
        if "engine" not in about:
            found[short] = (about, kind)
    return found


KINDS = kinds()


def schema(short: str) -> dict[str, Any]:
    name = KINDS[short][1].removeprefix("dev.annals.")
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.data.json").read_text())
    return loaded


def parameters(short: str) -> dict[str, inspect.Parameter]:
    method = getattr(annals.Client, short.replace("-", "_"), None)
    assert method is not None, f"the client has no method for {short}: add it to src/annals/stages/"
    return dict(inspect.signature(method).parameters)


def test_the_engine_names_the_kinds_of_a_models_life() -> None:
    assert {"created", "trained", "registered", "promoted", "deployed", "drifted", "retired"} <= set(KINDS)


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
    takes_version = {"model": None, "version": True, "model or version": False}[KINDS[short][0]]
    assert ("version" in given) == (takes_version is not None)
    if takes_version:
        assert given["version"].default is inspect.Parameter.empty


@pytest.mark.parametrize(("short", "member"), PARTS)
def test_a_part_has_the_fields_of_its_schema(short: str, member: str) -> None:
    wanted = schema(short)["properties"][member]
    wanted = wanted.get("items", wanted)
    fields = {f.name: f for f in dataclasses.fields(PARTS[short, member])}
    assert set(fields) - {"other"} == set(wanted["properties"])
    required = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
    assert required == set(wanted.get("required", ()))


def test_every_object_in_a_schema_is_a_part() -> None:
    missing = {
        (short, name)
        for short in KINDS
        for name, member in schema(short)["properties"].items()
        if "properties" in member.get("items", member) and name not in IN_ABOUT and (short, name) not in PARTS
    }
    assert missing == {("retrain-requested", "cause")}, "add a dataclass to src/annals/payload.py"


def test_what_every_event_may_say_is_in_every_schema() -> None:
    assert set(About.__annotations__) >= IN_ABOUT
    assert set(Envelope.__annotations__) == set(About.__annotations__) - {"reason"}
    for short in KINDS:
        assert set(schema(short)["properties"]) >= IN_ABOUT, short


@pytest.mark.parametrize(
    ("short", "parameter"),
    [("drifted", "kind"), ("drifted", "severity"), ("approval-decided", "decision"), ("evaluated", "verdict")],
)
def test_a_choice_is_the_one_of_the_schema(short: str, parameter: str) -> None:
    text = str(parameters(short)[parameter].annotation)
    given = typing.get_args(eval(text.removesuffix(" | None"), {"Literal": typing.Literal}))  # noqa: S307 - our own annotation
    assert list(given) == schema(short)["properties"][parameter]["enum"]
