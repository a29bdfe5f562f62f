"""What the engine answers, read into frozen objects; `raw` keeps what a newer engine says besides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Self


def moment(text: str) -> datetime:
    """An RFC 3339 time as a `datetime` with its time zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read the `Z`


def _read(reader: Callable[[Any], Any]) -> dict[str, Any]:
    return {"read": reader}


def _when() -> Any:
    return field(metadata=_read(moment))


def _maybe_when() -> Any:
    return field(default=None, metadata=_read(moment))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Something that was read from JSON."""

    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """Takes the members that this class names; others stay in `raw`."""
        taken: dict[str, Any] = {"raw": body}
        for member in dataclasses.fields(cls):
            value = body.get(member.name)
            if member.name != "raw" and value is not None:
                reader = member.metadata.get("read")
                taken[member.name] = reader(value) if reader else value
            elif member.name in body and member.default is dataclasses.MISSING:
                taken.setdefault(member.name, value)
        return cls(**taken)


@dataclass(frozen=True, kw_only=True)
class Receipt(Answer):
    """What became of a proposal. `position`: `partition:seq` of the event, of the first one for a duplicate.

    `modelseq`: the model's sequence behind it. `version`: the version that it is about. `pending`: only with `wait=False`.
    """

    id: str
    source: str
    type: str
    subject: str
    outcome: Literal["accepted", "duplicate", "pending"]
    position: str | None = None
    modelseq: int | None = None
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class ProposalState(Answer):
    """What is known of a proposal; `problem` says why it was refused (code, detail, remedy)."""

    id: str
    source: str
    state: Literal["accepted", "duplicate", "refused", "malformed"]
    position: str | None = None
    modelseq: int | None = None
    version: int | None = None
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Point(Answer):
    """Which point of the journal an answer is about. `settled`: nothing can be added any more to what was recorded until then."""

    asked: str
    position: str
    settled: bool


@dataclass(frozen=True, kw_only=True)
class Dated(Answer):
    """An answer that may be about the past; `as_of` is None if it is about now."""

    as_of: Point | None = field(default=None, metadata=_read(Point.read))


@dataclass(frozen=True, kw_only=True)
class Model(Dated):
    """A model as it stands. `channels`, `aliases`: the version by name. `health`: `healthy` or `drifted`."""

    workspace: str
    name: str
    policy: str
    versions: int
    health: str
    created: datetime = _when()
    created_by: str
    modelseq: int
    latest_version: int | None = None
    owner: str | None = None
    description: str | None = None
    channels: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    open_drifts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Version(Dated):
    """A registered version. `unpinned`: it has no digest. `event`: the id of the event that registered it."""

    workspace: str
    model: str
    version: int
    status: str
    unpinned: bool
    created: datetime = _when()
    created_by: str
    modelseq: int
    event: str
    label: str | None = None
    digest: str | None = None
    uri: str | None = None
    format: str | None = None
    size: int | None = None
    run: str | None = None
    algorithm: str | None = None
    description: str | None = None
    data: Sequence[Mapping[str, Any]] = ()
    performance: Sequence[Mapping[str, Any]] = ()
    channels: Sequence[str] = ()
    aliases: Sequence[str] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()
    approvals: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Holding(Dated):
    """A version that a channel holds. `since`: when it was promoted, `previous`: the version before it."""

    workspace: str
    model: str
    channel: str
    version: int
    since: datetime = _when()
    actor: str
    modelseq: int
    event: str
    label: str | None = None
    digest: str | None = None
    previous: int | None = None
    rollback_of: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hit(Answer):
    """A model (`kind` is `model`) or a version that a search found, as it is now; its other members are in `raw`."""

    kind: Literal["model", "version"]
    workspace: str
    name: str
    created: datetime = _when()
    updated: datetime = _when()
    modelseq: int
    version: int | None = None
    label: str | None = None
    status: str | None = None
    description: str | None = None
    algorithm: str | None = None
    digest: str | None = None
    channels: Sequence[str] = ()
    aliases: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Alias(Dated):
    """A version that an alias names."""

    workspace: str
    model: str
    alias: str
    version: int
    since: datetime = _when()
    actor: str
    event: str
    digest: str | None = None
    previous: int | None = None


@dataclass(frozen=True, kw_only=True)
class Deployment(Dated):
    """A version on a target (`platform/cluster/namespace/name`). `state`: such as `requested`, `active`, `rolled_back`."""

    workspace: str
    model: str
    deployment: str
    version: int
    target: str
    state: str
    requested: datetime = _when()
    requested_by: str
    digest: str | None = None
    channel: str | None = None
    active: datetime | None = _maybe_when()
    ended: datetime | None = _maybe_when()
    endpoint: str | None = None
    error: str | None = None
    replaces: str | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Caused(Answer):
    """Something with the event that made it so: when that was recorded, its id, and its `partition:seq`."""

    since: datetime = _when()
    event: str
    position: str


@dataclass(frozen=True, kw_only=True)
class Wanted(Caused):
    """The deployment that was asked for last."""

    deployment: str
    version: int
    digest: str | None = None
    channel: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found(Caused):
    """What is there, as far as it was told. `deployment`: None if it is none of ours; `image`: only then."""

    deployment: str | None = None
    version: int | None = None
    digest: str | None = None
    image: str | None = None


@dataclass(frozen=True, kw_only=True)
class Note(Caused):
    """Why it failed or was rolled back, or what others did."""

    text: str


TargetWord: TypeAlias = Literal["in-sync", "progressing", "failed", "rolled-back", "foreign", "missing", "changed"]


@dataclass(frozen=True, kw_only=True)
class TargetState(Caused, Dated):
    """What is wanted on a target (`platform/cluster/namespace/name`) beside what was found there.

    `model`: None where what is there is `foreign`. `channel`: that the target serves. `note`: only until the next success.
    """

    workspace: str
    target: str
    state: TargetWord
    model: str | None = None
    channel: str | None = None
    wanted: Wanted | None = field(default=None, metadata=_read(Wanted.read))
    found: Found | None = field(default=None, metadata=_read(Found.read))
    note: Note | None = field(default=None, metadata=_read(Note.read))


@dataclass(frozen=True, kw_only=True)
class Drift(Dated):
    """A drift; `state`: `open` or `resolved`. `observed`, `baseline`, `threshold`: in the metric's own unit."""

    workspace: str
    model: str
    drift: str
    state: str
    kind: str
    metric: str
    observed: float
    detected: datetime = _when()
    detected_by: str
    version: int | None = None
    deployment: str | None = None
    baseline: float | None = None
    threshold: float | None = None
    severity: str | None = None
    resolved: datetime | None = _maybe_when()
    resolved_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Line(Answer):
    """One line of a timeline. `refused`: the code, if the line is about a refusal. `event`, `source`: the event's id."""

    partition: int
    seq: int
    key: str
    modelseq: int
    kind: str
    recorded: datetime = _when()
    actor: str
    summary: str
    event: str
    source: str
    hash: str
    version: int | None = None
    occurred: str | None = None
    reason: str | None = None
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lineage(Dated):
    """What a version came from and what came of it: `nodes` {id, kind, about} and `edges` {source, target, relation}."""

    version: str
    nodes: Sequence[Mapping[str, Any]]
    edges: Sequence[Mapping[str, str]]
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the journal. `kind`: dotted, such as `version.promoted`. `data`: the producer's; `decided`: the engine's.

    `model`: `_system` for what is about the workspace.
    `cursor`: where a subscription goes on behind it (None in a replay). `position`: `partition:seq`.
    Each event comes at least once; copies have the same `source` and `id`.
    """

    id: str
    source: str
    type: str
    kind: str
    workspace: str
    model: str
    version: int | None
    actor: str
    recorded: datetime
    position: str
    modelseq: int
    hash: str
    data: Mapping[str, Any]
    decided: Mapping[str, Any]
    attributes: Mapping[str, str] = field(repr=False)
    cursor: str | None = None

    @classmethod
    def read(cls, event: Mapping[str, Any], cursor: str | None = None) -> Self:
        """Reads a CloudEvent as the stream and the replay write it."""
        attributes = {name: value for name, value in event.items() if name != "data"}
        workspace, model, *version = str(event["subject"]).split("/", 2)
        return cls(
            id=event["id"],
            source=event["source"],
            type=event["type"],
            kind=str(event["type"]).removeprefix("dev.annals.").rsplit(".", 1)[0],
            workspace=workspace,
            model=model,
            version=int(version[0]) if version and version[0].isdigit() else None,
            actor=event.get("actor", ""),
            recorded=moment(event["recordedtime"]),
            position=event["position"],
            modelseq=int(event["modelseq"]),
            hash=event["hash"],
            data=event["data"]["data"],
            decided=event["data"]["decided"],
            attributes=attributes,
            cursor=cursor,
        )
