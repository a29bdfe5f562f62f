"""What a workspace's rules say: which events they are about, and what is done then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

RuleState: TypeAlias = Literal["active", "paused", "removed"]


@dataclass(frozen=True)
class When:
    """Which events. `type`: their kinds, short or full. `model`, `channel`: `*` stands for anything.

    `where`: what the event must say besides, as text, number or bool by JSON Pointer into `{"data": …, "decided": …}`:
    `{"/data/severity": "high"}`.
    """

    type: str | Sequence[str]
    model: str | None = None
    channel: str | None = None
    where: Mapping[str, str | float | bool] | None = None


@dataclass(frozen=True)
class Webhook:
    """Tells a subscription, by its name."""

    subscription: str


@dataclass(frozen=True)
class Command:
    """Runs a program on the engine's machine. `run`: its name in the directory that `annals serve --commands` names.

    `args`: `{model}`, `{version}`, `{channel}`, `{event}`, `{drift}` and `{run}` are filled in. `timeout_s`: seconds after which it
    is ended; 300 unless given.
    """

    run: str
    args: Sequence[str] | None = None
    timeout_s: int | None = None


@dataclass(frozen=True)
class Pipeline:
    """Starts a pipeline: by a program (`run`, `args`, `timeout_s`, as of a `Command`), or by telling a `subscription`."""

    run: str | None = None
    args: Sequence[str] | None = None
    timeout_s: int | None = None
    subscription: str | None = None


@dataclass(frozen=True)
class Propose:
    """Proposes another event of the same model: its `type`, short or full, and its `data`, with the places of a `Command`.

    `version`: `event` for that of the event, else a number as text, a label or `run:ID`.
    """

    type: str
    data: Mapping[str, Any]
    version: str | None = None


@dataclass(frozen=True)
class Kubernetes:
    """Brings the version onto a cluster, by its name in the engine's configuration, and tells what came of it.

    `name`: the object's; `{model}-{channel}` unless given. `template` (the object as YAML or JSON) or `format` (a template of
    the engine's own), not both. `image`: the container's. In all of these the places of a `Command` are filled in.
    `rollback`: the version before comes back if this one does not come up within `deadline_s` seconds.
    `heal`: what others change is changed back.
    """

    cluster: str
    namespace: str | None = None
    name: str | None = None
    template: str | None = None
    format: Literal["deployment", "inferenceservice"] | None = None
    image: str | None = None
    replicas: int | None = None
    rollback: bool | None = None
    heal: bool | None = None
    deadline_s: int | None = None


@dataclass(frozen=True)
class Git:
    """Puts a manifest of what the channel holds onto a branch of a repository (an https:// URL or a path), and tags a promotion.

    `branch`: `main` unless given. `path`: the manifest's; `{workspace}/{model}/{channel}.yaml` unless given. `manifest`: what it
    says, with the places of a `Command`, `{digest}` and `{uri}`. `tag`: `model@channel#n`, unless False. `author`: `Name <email>`.
    """

    repository: str
    branch: str | None = None
    path: str | None = None
    manifest: str | None = None
    tag: bool | None = None
    author: str | None = None


@dataclass(frozen=True)
class Lookup:
    """Looks the commit of a run up, and tells what was found (`checked`). `repository`: if not the one that the run names."""

    repository: str | None = None


Action: TypeAlias = Webhook | Command | Pipeline | Propose | Kubernetes | Git | Lookup
"""What is done: exactly one of these."""


def as_when(given: When | None) -> When | None:
    """The kinds as a list, which the schema wants, also if they were given as text. `TypeError` if it is no `When`."""
    if given is not None and not isinstance(given, When):
        raise TypeError(f"`when` is a {type(given).__name__}: write annals.When(…)")
    if given is None or not isinstance(given.type, str):
        return given
    return replace(given, type=[kind.strip() for kind in given.type.split(",")])


def as_do(given: Action | None) -> dict[str, Action] | None:
    """The action under its name, which is that of its class. `TypeError` if it is none."""
    if given is not None and not isinstance(given, get_args(Action)):
        names = ", ".join(action.__name__ for action in get_args(Action))
        raise TypeError(f"`do` is a {type(given).__name__}: write one of annals.{{{names}}}")
    return None if given is None else {type(given).__name__.lower(): given}
