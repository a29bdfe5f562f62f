"""The parts that events are made of, as the published schemas have them, and how they become JSON."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .digests import Source, digest

if TYPE_CHECKING:
    from typing_extensions import Self

VersionRef: TypeAlias = int | str
"""A version: its number, its label such as `"1.0"`, or `"run:ID"`."""
Time: TypeAlias = datetime | str
"""A moment: a `datetime` with a time zone, or RFC 3339 text."""
Channel: TypeAlias = Literal["dev", "staging", "production"]


@dataclass(frozen=True)
class Artifact:
    """The bytes of a model. `uri`: where they are. `digest`: `sha256:` and 64 hex digits. `size`: bytes.

    `format`: how to read them, such as `joblib`.
    """

    uri: str | None = None
    digest: str | None = None
    format: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str], *, uri: str | None = None, format: str | None = None) -> Self:
        """Describes a file: digest and size from its bytes, and its path as a `file:` URI unless `uri` says better.

        Raises `OSError` if it cannot be read.
        """
        file = Path(path)
        return cls(uri or file.resolve().as_uri(), digest(file), format, file.stat().st_size)


@dataclass(frozen=True)
class Dataset:
    """Data that was read. `rows`: how many. `role`: `train`, `validation` or `test`."""

    name: str | None = None
    uri: str | None = None
    digest: str | None = None
    rows: int | None = None
    role: str | None = None

    @classmethod
    def of(cls, name: str, source: Source, *, role: str | None = None, rows: int | None = None, uri: str | None = None) -> Self:
        """Describes a file by its path, or data in memory by its bytes (which have no URI unless you give one).

        Raises `OSError` if the file cannot be read.
        """
        if uri is None and not isinstance(source, bytes):
            uri = Path(source).resolve().as_uri()
        return cls(name, uri, digest(source), rows, role)


@dataclass(frozen=True)
class Metric:
    """A figure in the metric's own unit. `split`: the part of the data it was measured on."""

    name: str
    value: float
    split: str | None = None


@dataclass(frozen=True)
class Check:
    """One check of an evaluation: `value` held against `threshold`, both in the metric's own unit."""

    metric: str
    value: float
    threshold: float | None = None
    passed: bool | None = None

    @classmethod
    def at_least(cls, metric: str, value: float, threshold: float) -> Self:
        """Passes if the value is not below the threshold."""
        return cls(metric, value, threshold, bool(value >= threshold))

    @classmethod
    def at_most(cls, metric: str, value: float, threshold: float) -> Self:
        """Passes if the value is not above the threshold."""
        return cls(metric, value, threshold, bool(value <= threshold))


@dataclass(frozen=True)
class RunRef:
    """A training run. `id`: the pipeline's own, unique in the model. `system`: what ran it. `uri`: where to look at it."""

    id: str
    system: str | None = None
    uri: str | None = None


@dataclass(frozen=True)
class Code:
    """The code that ran. `dirty`: whether there were changes that no commit holds."""

    repository: str | None = None
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class Environment:
    """What a run ran in. `lockfile_digest`: of the file that pinned the libraries. `other`: further text by name."""

    image: str | None = None
    lockfile_digest: str | None = None
    framework: str | None = None
    python: str | None = None
    hardware: str | None = None
    other: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Person:
    """A person or service by an opaque id; `name` only if it may be kept for ever."""

    id: str
    name: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class Target:
    """Where a version runs. `platform`: such as `kubernetes`; `name`: the name there."""

    platform: str
    name: str
    cluster: str | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Observed:
    """What was seen of a deployment. `endpoint`: where it answers."""

    replicas_ready: int | None = None
    image_digest: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Window:
    """What was measured over: from `start` until before `end`, `n` samples."""

    start: Time | None = None
    end: Time | None = None
    n: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What supports an event: `kind` such as `report`, where it is, and the digest of its bytes."""

    kind: str | None = None
    uri: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Report:
    """A detector's own report: where it is, and the digest of its bytes."""

    uri: str | None = None
    digest: str | None = None


Metrics: TypeAlias = Mapping[str, float] | Sequence[Metric]
"""Figures by name, or one by one with their splits."""


def as_metrics(given: Metrics | None) -> list[Metric] | None:
    """One `Metric` for each figure."""
    if isinstance(given, Mapping):
        return [Metric(name, value) for name, value in given.items()]
    return None if given is None else list(given)


def as_artifact(given: Artifact | str | os.PathLike[str]) -> Artifact:
    """A path becomes the description of its file."""
    return given if isinstance(given, Artifact) else Artifact.of(given)


def timestamp(moment: Time) -> str:
    """RFC 3339, UTC. Raises `ValueError` for a `datetime` without a time zone: nobody could know what it means."""
    if isinstance(moment, str):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: write datetime.now(timezone.utc)")
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def plain(value: Any, where: str = "") -> Any:
    """A value as JSON has it: absent members left out, times as text, numbers of NumPy as numbers.

    Raises `ValueError` for a number that JSON does not have (NaN, infinity) and `TypeError` for what is no JSON, with the field.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        members.update(members.pop("other", None) or {})
        return plain({name: member for name, member in members.items() if member is not None}, where)
    if isinstance(value, Mapping):
        return {str(name): plain(member, f"{where}/{name}") for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}/{number}") for number, item in enumerate(value)]
    if isinstance(value, datetime):
        return timestamp(value)
    if not isinstance(value, (str, int, float)) and hasattr(value, "tolist"):
        return plain(value.tolist(), where)  # an array or a number of NumPy
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'the data'} is {value}, which JSON does not have: leave it out")
        return float(value)
    if value is None or isinstance(value, (str, int)):
        return value
    raise TypeError(f"{where or 'the data'} is a {type(value).__name__}, which is no JSON")


def described(value: Any) -> Any:
    """A training parameter as JSON, and as the text of its `repr` if it is none: an estimator, a function, NaN."""
    try:
        return plain(value)
    except (TypeError, ValueError):
        return repr(value)
