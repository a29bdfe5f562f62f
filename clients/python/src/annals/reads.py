"""Questions: what the registry, the timeline and the lineage know, now or at any time before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar
from urllib.parse import quote

from .answers import (
    Alias,
    Answer,
    Deployment,
    Drift,
    Hit,
    Holding,
    Line,
    Lineage,
    Model,
    Point,
    ProposalState,
    TargetState,
    TargetWord,
    Version,
)
from .payload import Channel, VersionRef, timestamp
from .transport import Transport

PAGE_ITEMS = 200
WHOLE: dict[str, str | int | None] = {"limit": None}
"""Of a list that is short and has no pages."""
Moment: TypeAlias = datetime | str
"""A point in the past: a `datetime` with a time zone, RFC 3339 text, or positions such as `3:17,5:2`."""
_A = TypeVar("_A", bound=Answer)


class Reads:
    """Every question but a search takes `as_of`, each takes `workspace`, and sees at least what this client wrote before.

    Lists are iterators over all pages, all of them at the point of the first one. Raises `NotFound`, `Unavailable`, `Problem`.
    """

    _transport: Transport
    workspace: str
    source: str

    def models(self, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Model]:
        """The workspace's models, by name."""
        return self._many(Model, "/v1/models", as_of, workspace)

    def model(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Model:
        """One model."""
        return self._one(Model, path("models", model), as_of, workspace)

    def versions(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Version]:
        """A model's versions, by number."""
        return self._many(Version, path("models", model, "versions"), as_of, workspace)

    def version(self, model: str, version: VersionRef, *, as_of: Moment | None = None, workspace: str | None = None) -> Version:
        """One version, by its number, its label or `run:ID`."""
        return self._one(Version, path("models", model, "versions", version), as_of, workspace)

    def production(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Holding:
        """The version in production: `client.production("iris", as_of="2026-11-23T13:54:00Z").version`.

        `NotFound` if there was none. `as_of.settled` of the answer says whether it can still change.
        """
        return self.channel(model, "production", as_of=as_of, workspace=workspace)

    def channel(self, model: str, channel: Channel | str, *, as_of: Moment | None = None, workspace: str | None = None) -> Holding:
        """The version that a channel holds. `NotFound` if it holds none, or there is no such channel."""
        return self._one(Holding, path("models", model, "channels", channel), as_of, workspace)

    def channels(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Holding]:
        """The version of each channel of a model that holds one."""
        return self._many(Holding, path("models", model, "channels"), as_of, workspace, WHOLE)

    def holdings(self, channel: Channel | str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Holding]:
        """The version of every model of the workspace (`*`: of all workspaces) that the channel holds."""
        return self._many(Holding, path("channels", channel), as_of, workspace)

    def alias(self, model: str, alias: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Alias:
        """The version that an alias names."""
        return self._one(Alias, path("models", model, "aliases", alias), as_of, workspace)

    def aliases(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Alias]:
        """A model's aliases."""
        return self._many(Alias, path("models", model, "aliases"), as_of, workspace, WHOLE)

    def deployment(self, model: str, deployment: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Deployment:
        """One deployment, by its id."""
        return self._one(Deployment, path("models", model, "deployments", deployment), as_of, workspace)

    def deployments(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Deployment]:
        """A model's deployments, also those that have ended."""
        return self._many(Deployment, path("models", model, "deployments"), as_of, workspace)

    def targets(
        self,
        *,
        channel: Channel | str | None = None,
        target: str | None = None,
        state: TargetWord | None = None,
        as_of: Moment | None = None,
        workspace: str | None = None,
    ) -> Iterator[TargetState]:
        """What is wanted on each target of the workspace (`*`: of all workspaces) beside what was found there, by target.

        `channel`: only those that serve it. `target`: only these (`platform/cluster/namespace/name`; `*` stands for anything).
        `state`: only those that are so. A target is listed while something is wanted or found there.
        """
        asked = {"channel": channel, "target": target, "state": state}
        return self._many(TargetState, path("deployments"), as_of, workspace, asked)

    def drifts(self, model: str, *, as_of: Moment | None = None, workspace: str | None = None) -> Iterator[Drift]:
        """A model's drifts, also those that are resolved."""
        return self._many(Drift, path("models", model, "drifts"), as_of, workspace)

    def timeline(
        self,
        model: str | None = None,
        *,
        order: Literal["oldest", "newest"] = "oldest",
        as_of: Moment | None = None,
        workspace: str | None = None,
    ) -> Iterator[Line]:
        """One line per event: of a model, or without one of all models of all workspaces."""
        where = "/v1/timeline" if model is None else path("models", model, "timeline")
        return self._many(Line, where, as_of, workspace, {"order": order})

    def lineage(self, model: str, version: VersionRef, *, as_of: Moment | None = None, workspace: str | None = None) -> Lineage:
        """What a version came from, and what came of it."""
        return self._one(Lineage, path("models", model, "versions", version, "lineage"), as_of, workspace)

    def search(self, q: str, *, workspace: str | None = None) -> Iterator[Hit]:
        """Models and versions as they are now, newest first, by words that must all be there (`begin*`, `field:word`, `-word`)."""
        query: dict[str, str | int | None] = {"q": q, "workspace": workspace or self.workspace, "limit": PAGE_ITEMS}
        while True:
            page = self._transport.get("/v1/search", query).json()
            yield from map(Hit.read, page["items"])
            if not page.get("next"):
                return
            query["after"] = page["next"]

    def proposal(self, id: str, *, source: str | None = None) -> ProposalState:
        """What became of a proposal. `NotFound`: never seen, not judged yet, or refused more than 30 days ago."""
        answer = self._transport.get(path("proposals", id), {"source": source or self.source})
        return ProposalState.read(answer.json())

    def _one(self, kind: type[_A], where: str, as_of: Moment | None, workspace: str | None) -> _A:
        query = {"workspace": workspace or self.workspace, "as_of": at(as_of)}
        return kind.read(self._transport.get(where, query).json())

    def _many(
        self,
        kind: type[_A],
        where: str,
        as_of: Moment | None,
        workspace: str | None,
        more: Mapping[str, str | int | None] | None = None,
    ) -> Iterator[_A]:
        query: dict[str, str | int | None] = {"workspace": workspace or self.workspace, "as_of": at(as_of), "limit": PAGE_ITEMS}
        query.update(more or {})
        point: Point | None = None
        while True:
            page = self._transport.get(where, query).json()
            if point is None and page.get("as_of"):
                point = Point.read(page["as_of"])  # what was asked, whatever the next pages are asked with
            for item in page["items"]:
                yield kind.read({**item, "as_of": point.raw} if point else item)
            if not page.get("next"):
                return
            query.update(after=page["next"], as_of=page["position"])


def path(*parts: str | int) -> str:
    """A path under `/v1`, each part encoded. Raises `ValueError` for an empty part: the path would be another one."""
    if not all(str(part) for part in parts):
        raise ValueError("a name must not be empty")
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def at(as_of: Moment | None) -> str | None:
    """A point in the past as the query has it."""
    return None if as_of is None else timestamp(as_of)
