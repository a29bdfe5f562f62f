"""Release: a version is evaluated, approved, promoted to a channel, named by an alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..payload import Channel, Check, Person, VersionRef
from ..proposal import About, Envelope, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Release(Proposes):
    """Events between training and deployment."""

    def evaluated(
        self,
        model: str,
        version: VersionRef,
        suite: str,
        results: Sequence[Check] = (),
        *,
        verdict: Literal["passed", "failed"] | None = None,
        dataset_digest: str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A version was measured against thresholds: `evaluated("iris", 7, "accuracy", [Check.at_least("accuracy", 0.97, 0.9)])`.

        `suite`: the suite of checks, with its version. `verdict`: unless given, `passed` if every check says that it passed;
        `ValueError` if one does not say. `dataset_digest`: `sha256:…` of the data. Refused with `unknown-version`.
        """
        if verdict is None:
            if not results or any(check.passed is None for check in results):
                raise ValueError("name the verdict: there are no results, or one does not say whether it passed")
            verdict = "passed" if all(check.passed for check in results) else "failed"
        data = {"suite": suite, "dataset_digest": dataset_digest, "results": list(results) or None, "verdict": verdict}
        return self._propose("evaluated", model, version, data, about)

    def approval_requested(
        self,
        model: str,
        version: VersionRef,
        approval: str,
        channel: Channel | str,
        *,
        digest: str | None = None,
        policy: str | None = None,
        requester: Person | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """Somebody asked for a version's release to a channel. `approval`: an id, unique in the model.

        `digest`: of the artifact that is to be approved. `requester`: the actor unless named. Refused with `digest-mismatch`,
        `no-change` (the id is taken).
        """
        data = {"approval": approval, "channel": channel, "digest": digest, "policy": policy, "requester": requester}
        return self._propose("approval-requested", model, version, data, about)

    def approval_decided(
        self,
        model: str,
        approval: str,
        decision: Literal["approved", "rejected"],
        approver: Person,
        *,
        reason: str,
        version: VersionRef | None = None,
        digest: str | None = None,
        meaning: str | None = None,
        **about: Unpack[Envelope],
    ) -> Receipt:
        """Somebody else answered. `meaning`: of the signature, such as `reviewed and released for use`.

        Refused with `self-approval` (who asked or registered may not answer), `digest-mismatch`, `illegal-transition`.
        """
        data = {"approval": approval, "decision": decision, "digest": digest, "approver": approver, "meaning": meaning}
        return self._propose("approval-decided", model, version, {**data, "reason": reason}, about)

    def promoted(
        self,
        model: str,
        version: VersionRef,
        channel: Channel | str,
        *,
        rollback: bool | None = None,
        strategy: str | None = None,
        break_glass: bool | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A channel now holds this version: `client.promoted("iris", "run:run-7", "production", reason="accuracy 0.97")`.

        `rollback`: this takes back the promotion of the version that the channel holds. `strategy`: such as `canary`.
        `break_glass`: a rule was passed over in an emergency. Refused with `unknown-version`, `no-change`, `illegal-transition`.
        """
        data = {"channel": channel, "rollback": rollback, "strategy": strategy, "break_glass": break_glass}
        return self._propose("promoted", model, version, data, about)

    def demoted(
        self, model: str, version: VersionRef, channel: Channel | str, *, reason: str, **about: Unpack[Envelope]
    ) -> Receipt:
        """A channel no longer holds this version. Refused with `illegal-transition` if it does not hold it."""
        return self._propose("demoted", model, version, {"channel": channel, "reason": reason}, about)

    def alias_set(self, model: str, version: VersionRef, alias: str, **about: Unpack[About]) -> Receipt:
        """An alias such as `champion` names this version. Refused with `no-change` if it does already."""
        return self._propose("alias-set", model, version, {"alias": alias}, about)

    def alias_removed(
        self,
        model: str,
        alias: str,
        *,
        reason: str,
        version: VersionRef | None = None,
        **about: Unpack[Envelope],
    ) -> Receipt:
        """An alias names nothing any more. Refused with `unknown-alias`."""
        return self._propose("alias-removed", model, version, {"alias": alias, "reason": reason}, about)
