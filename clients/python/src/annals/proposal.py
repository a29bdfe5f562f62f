"""What every proposal may say about itself, and how it becomes a CloudEvent."""

from __future__ import annotations

import abc
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from .answers import Receipt
from .payload import Evidence, Time, VersionRef, plain, timestamp


class Envelope(TypedDict, total=False):
    """What every event may say besides its own fields; all optional.

    `ticket`: where it was discussed. `evidence`: what supports it. `labels`: text by name, whatever else is to be kept.
    `id`: unique per source; made unless given. Sent again with the same content it counts once: see `step_id`.
    `actor`: who asks for it. `time`: when it happened, if not now. `workspace`: unless the client's.
    `expect`: the model's sequence that was seen; refused with `Conflict` if it has moved on.
    `must_exist`: refused rather than creating the model. `correlation_id`, `causation_id`: ids of other events; in a
    program that a trigger started, those that the engine told it.
    `wait`: False does not wait for the verdict, and returns a receipt whose outcome is `pending`.
    """

    ticket: str
    evidence: Sequence[Evidence]
    labels: Mapping[str, str]
    id: str
    actor: str
    time: Time
    workspace: str
    expect: int
    must_exist: bool
    correlation_id: str
    causation_id: str
    wait: bool


class About(Envelope, total=False):
    """The same, with a `reason` that is optional: why, for a person who reads the timeline in a year."""

    reason: str


class Proposes(abc.ABC):
    """Something that can propose events."""

    @abc.abstractmethod
    def _propose(
        self,
        kind: str,
        model: str | None,
        version: VersionRef | None,
        data: Mapping[str, Any],
        about: About | Envelope,
    ) -> Receipt:
        """Sends one proposal and waits for the verdict; members of `data` that are None are left out."""


_PAYLOAD = ("reason", "ticket", "evidence", "labels")
_SYSTEM = "_system"
_CAUSE = {"causationid": "ANNALS_EVENT_ID", "correlationid": "ANNALS_CORRELATION_ID", "annalshops": "ANNALS_HOPS"}


def step_id(*parts: str | int) -> str:
    """The id of a pipeline's step, the same on each run of it: `step_id("run-7", "promoted", "production")`.

    A proposal that is sent again with its id and content is answered `duplicate`, so a pipeline whose steps have such ids can
    be run again from any point. Raises `ValueError` without parts, or for an empty one: it would name another step.
    """
    texts = [str(part) for part in parts]
    if not texts or not all(texts):
        raise ValueError(f"an id needs parts that are not empty, and got {parts!r}")
    return "/".join(text.replace("%", "%25").replace("/", "%2F") for text in texts)


def cause_here() -> dict[str, str]:
    """What the engine tells a program that a trigger started, as attributes: its cause, what that belongs to, the rules before it.

    Without their number, rules that cause each other would never be stopped.
    """
    return {name: os.environ[variable] for name, variable in _CAUSE.items() if os.environ.get(variable)}


def subject(workspace: str, model: str | None, version: VersionRef | None) -> str:
    """`workspace/model[/version]`. Raises `ValueError` for a name with a `/`: it would name another thing."""
    for name in (workspace, _SYSTEM if model is None else model):
        if not name or "/" in name:
            raise ValueError(f"`{name}` cannot be a name: it must not be empty and must not contain `/`")
    key = f"{workspace}/{_SYSTEM if model is None else model}"
    return key if version is None else f"{key}/{version}"


def cloudevent(
    kind: str,
    named: str,
    data: Mapping[str, Any],
    about: About | Envelope,
    source: str,
    actor: str | None,
    cause: Mapping[str, str],
) -> dict[str, Any]:
    """The proposal in CloudEvents' structured mode. `cause`: attributes that count unless `about` says otherwise."""
    given: dict[str, Any] = dict(about)
    body = {name: value for name, value in data.items() if value is not None}
    body.update((name, given[name]) for name in _PAYLOAD if given.get(name) is not None)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": given.get("id") or str(uuid.uuid4()),
        "source": source,
        "type": kind,
        "subject": named,
        "datacontenttype": "application/json",
        **cause,
    }
    optional = {
        "actor": given.get("actor", actor),
        "time": timestamp(given["time"]) if given.get("time") is not None else None,
        "expectedseq": str(given["expect"]) if given.get("expect") is not None else None,
        "modelexists": "true" if given.get("must_exist") else None,
        "correlationid": given.get("correlation_id"),
        "causationid": given.get("causation_id"),
    }
    event.update((name, value) for name, value in optional.items() if value is not None)
    event["data"] = plain(body)
    return event


def encode(event: Mapping[str, Any]) -> bytes:
    """The bytes that are sent, the same on every try."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
