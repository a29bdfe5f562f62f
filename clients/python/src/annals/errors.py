"""What can go wrong, as one exception per thing that a caller can do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AnnalsError(Exception):
    """The root of all that this package raises by itself (besides `ValueError` and `TypeError` for wrong arguments)."""


class Incomplete(AnnalsError):
    """A run ended without what its event must hold. Nothing was sent."""


class Unavailable(AnnalsError):
    """The engine could not be reached, or said that it took nothing: later, the same call may succeed."""


class Unsettled(AnnalsError):
    """A proposal was sent and no verdict came: it may be an event, or become one.

    Send it again with the same `id` and `source`, which is never applied twice, or ask `client.proposal(id)`.
    """

    def __init__(self, id: str, source: str, why: str) -> None:
        super().__init__(f"no verdict yet on the proposal {id} of {source}: {why}; send it again with the same id, which is safe")
        self.id = id
        self.source = source


class Problem(AnnalsError):
    """The engine answered with a problem (RFC 9457).

    `status`: HTTP status. `code`: the stable word to match on. `detail`: what was wrong this time. `remedy`: what to do.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(body.get("code", "unknown"))
        self.detail = str(body.get("detail", f"the server answered {status} without saying why"))
        self.remedy = str(body.get("remedy", "look at the server's log"))
        super().__init__(f"{self.code}: {self.detail}; {self.remedy}")


class NotFound(Problem):
    """There is no such thing, or there was none at the time that was asked about."""


class CursorGone(Problem):
    """The cursor belongs to another journal, or to a history that was replaced: begin anew."""


class Refused(Problem):
    """A proposal was judged, and is not an event.

    `allowed`: the steps that would be accepted instead (short names). `state`: the model's state that it was judged on.
    `violations`: for `schema-violation`, pairs of field (JSON Pointer into the data) and message. `id`, `source`: of the proposal.
    """

    def __init__(self, status: int, body: Mapping[str, Any], id: str, source: str) -> None:
        super().__init__(status, body)
        self.id = id
        self.source = source
        self.allowed: Sequence[str] = tuple(body.get("allowed") or ())
        self.state: Mapping[str, Any] = body.get("state") or {}
        self.violations: Sequence[tuple[str, str]] = tuple(
            (str(v.get("field", "")), str(v.get("message", ""))) for v in body.get("violations") or ()
        )
        more = [f"{field or 'the data'}: {message}" for field, message in self.violations]
        if self.allowed:
            more.append("allowed now: " + ", ".join(self.allowed))
        if more:
            self.args = ("; ".join([*self.args, *more]),)


class Conflict(Refused):
    """What was said contradicts what happened meanwhile.

    Code `stale-expectation`: the model is not at the sequence that `expect` named; `modelseq` says where it is: read, decide again.
    Code `id-conflict`: this id was used before with other content; choose another id, or send what was sent before.
    """

    @property
    def modelseq(self) -> int | None:
        """The model's sequence now, if the engine said it."""
        seq = self.state.get("modelseq")
        return seq if isinstance(seq, int) else None


def refusal(status: int, body: Mapping[str, Any], id: str, source: str) -> Refused:
    """The exception for a proposal that was answered with 4xx."""
    moved = status == 412 or body.get("code") == "id-conflict"
    return (Conflict if moved else Refused)(status, body, id, source)


def problem(status: int, body: Mapping[str, Any]) -> Problem:
    """The exception for a question that was answered with a problem."""
    return {404: NotFound, 410: CursorGone}.get(status, Problem)(status, body)
