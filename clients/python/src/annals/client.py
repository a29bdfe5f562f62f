"""The client: one engine, its events, its questions and its stream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import httpx

from .answers import Event, Receipt
from .errors import NotFound, Unavailable, problem
from .payload import Channel, Code, Environment, RunRef, VersionRef
from .proposal import About, Envelope, cause_here, cloudevent, encode, subject
from .reads import Moment, Reads, at
from .run import Run
from .stages import Stages
from .stream import Kinds, Subscription, kinds, lines
from .transport import Transport, body_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

URL = "http://127.0.0.1:8400"
SOURCE = "/clients/python"


class Client(Stages, Reads):
    """Reports events to one engine and asks it.

    `url`: unless given `ANNALS_URL`, or this machine. `workspace`: `ANNALS_WORKSPACE`, or `default`. `source`: who produces
    the events, as a URI reference; ids are unique per source (`ANNALS_SOURCE`, or `/clients/python`). `actor`: who acts
    (`ANNALS_ACTOR`). `timeout_s`: seconds that one request may take; the engine answers a proposal after 5 s at most.
    `http`: a client of your own, for TLS, tokens or proxies; it is then yours to close, and `timeout_s` is its own.

    In a program that a trigger started, each event names the one that caused it. May be used by several threads; a context
    manager.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        workspace: str | None = None,
        source: str | None = None,
        actor: str | None = None,
        timeout_s: float = 30.0,
        http: httpx.Client | None = None,
    ) -> None:
        self.workspace = workspace or os.environ.get("ANNALS_WORKSPACE") or "default"
        self.source = source or os.environ.get("ANNALS_SOURCE") or SOURCE
        self.actor = actor or os.environ.get("ANNALS_ACTOR") or None
        self._cause = cause_here()
        self._owned = httpx.Client(timeout=timeout_s) if http is None else None
        self._transport = Transport(http or self._owned or httpx.Client(), url or os.environ.get("ANNALS_URL") or URL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections, unless `http` was given."""
        if self._owned is not None:
            self._owned.close()

    def emit(
        self,
        kind: str,
        model: str | None,
        data: Mapping[str, Any] | None = None,
        *,
        version: VersionRef | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """Proposes an event of any kind (`promoted`, `version.promoted`, or the full type), with the data that its schema has.

        For a kind that this client has no method for yet. `model` is None for what is about no model. Raises as every kind's
        method does.
        """
        return self._propose(kind, model, version, data or {}, about)

    def run(
        self,
        model: str,
        run: str | RunRef,
        *,
        seed: int | None = None,
        parent: VersionRef | None = None,
        code: Code | Literal["here"] | None = "here",
        environment: Environment | Literal["here"] | None = "here",
        lockfile: str | os.PathLike[str] | None = None,
    ) -> Run:
        """A training run as a `with` block, which emits `trained` at its end and nothing if it raises.

        `run`: the pipeline's own id, unique in the model. `code`, `environment`: collected unless given; None leaves them out.
        `lockfile`: the file that pins the libraries, for its digest. `parent`: the version that training begins from.
        """
        reference = RunRef(run) if isinstance(run, str) else run
        return Run(
            self,
            model,
            reference,
            seed=seed,
            parent=parent,
            code=code,
            environment=environment,
            lockfile=lockfile,
        )

    def subscribe(
        self,
        types: Kinds | None = None,
        *,
        model: str | None = None,
        workspace: str | None = None,
        channel: Channel | str | None = None,
        start: Literal["now", "beginning"] = "now",
        after: str | None = None,
        give_up_after_s: float | None = None,
    ) -> Subscription:
        """Events as they are accepted: `for event in client.subscribe("promoted", channel="production"): …`.

        `types`: short or full names; all unless given. `model`, `workspace`, `channel`: `*` stands for anything; all
        workspaces unless given. `after`: the `cursor` of the last event that was dealt with; `start` counts without one.
        Connects at the first event that is asked for, and again for ever, or raises `Unavailable` once the engine was away for
        `give_up_after_s` seconds. `CursorGone` if the journal is another one, `Problem` for a filter that matches nothing.
        """
        query = {"type": kinds(types), "model": model, "workspace": workspace, "channel": channel, "from": start}
        return Subscription(self._transport, query, after, give_up_after_s)

    def events(
        self,
        types: Kinds | None = None,
        *,
        model: str | None = None,
        workspace: str | None = None,
        channel: Channel | str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Events that were accepted, oldest first, until where the journal is now. Filters as for `subscribe`.

        `since`, `until`: inclusive, times or positions. Raises `Unavailable` if the connection breaks on the way.
        """
        query = {
            "type": kinds(types),
            "model": model,
            "workspace": workspace,
            "channel": channel,
            "from": at(since),
            "until": at(until),
            "limit": limit,
        }
        asked = {name: value for name, value in query.items() if value is not None}
        transport = self._transport
        try:
            with transport.http.stream("GET", f"{transport.url}/v1/events", params=asked) as response:
                if not response.is_success:
                    response.read()
                    said = problem(response.status_code, body_of(response))
                    raise Unavailable(str(said)) if said.status in (502, 503, 504) else said
                for line in lines(response.iter_bytes()):
                    yield Event.read(json.loads(line))
        except httpx.TransportError as error:
            raise Unavailable(f"the replay broke off: {error or type(error).__name__}") from error

    def accepted(self, id: str, *, source: str | None = None) -> Event | None:
        """The event that a proposal became, or None if it became none."""
        try:
            state = self.proposal(id, source=source)
        except NotFound:
            return None
        if state.position is None:
            return None
        return next(self.events(since=state.position, until=state.position), None)

    def _propose(
        self,
        kind: str,
        model: str | None,
        version: VersionRef | None,
        data: Mapping[str, Any],
        about: About | Envelope,
    ) -> Receipt:
        named = subject(about.get("workspace", self.workspace), model, version)
        event = cloudevent(kind, named, data, about, self.source, self.actor, self._cause)
        return self._transport.propose(encode(event), event["id"], self.source, wait=about.get("wait", True))
