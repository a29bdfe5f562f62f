"""Deploy: a version is wanted on a target, and what became of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..payload import Channel, Observed, Target, VersionRef
from ..proposal import About, Envelope, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Deploy(Proposes):
    """Events of the stage *deploy*. `deployment` is an id of yours, unique in the model."""

    def deployment_requested(
        self,
        model: str,
        version: VersionRef,
        deployment: str,
        target: Target,
        *,
        channel: Channel | str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A version is wanted on a target. `channel`: that the target serves.

        Refused with `no-change` (the id is taken), `illegal-transition` (the channel does not hold the version).
        """
        data = {"deployment": deployment, "target": target, "channel": channel}
        return self._propose("deployment-requested", model, version, data, about)

    def deployed(
        self,
        model: str,
        deployment: str,
        *,
        version: VersionRef | None = None,
        observed: Observed | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """It runs there. `observed`: what was seen. Refused with `illegal-transition` unless it was requested and is open."""
        data = {"deployment": deployment, "observed": observed}
        return self._propose("deployed", model, version, data, about)

    def deployment_failed(
        self,
        model: str,
        deployment: str,
        error: str,
        *,
        version: VersionRef | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """It did not come up. `error`: what went wrong. Refused as `deployed`."""
        return self._propose("deployment-failed", model, version, {"deployment": deployment, "error": error}, about)

    def deployment_removed(
        self,
        model: str,
        deployment: str,
        *,
        reason: str,
        version: VersionRef | None = None,
        **about: Unpack[Envelope],
    ) -> Receipt:
        """It no longer runs there. Refused with `illegal-transition` unless it is active."""
        return self._propose("deployment-removed", model, version, {"deployment": deployment, "reason": reason}, about)

    def rolled_back(
        self,
        model: str,
        deployment: str,
        *,
        reason: str,
        error: str | None = None,
        version: VersionRef | None = None,
        **about: Unpack[Envelope],
    ) -> Receipt:
        """It was taken back, and what ran before runs again. `error`: what went wrong.

        Refused with `illegal-transition` unless it is active or failed, and the newest on its target.
        """
        data = {"deployment": deployment, "error": error, "reason": reason}
        return self._propose("rolled-back", model, version, data, about)

    def observed(
        self,
        model: str | None,
        target: Target,
        finding: Literal["created", "changed", "removed", "adopted", "restored"],
        *,
        version: VersionRef | None = None,
        image: str | None = None,
        manager: str | None = None,
        fields: Sequence[str] | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """Something was found on a target that nobody asked for here. It changes no deployment.

        `finding`: what somebody did there; `adopted`: it is ours from now on; `restored`: it is as it should be again.
        `model`: that is deployed there, or None if nothing of ours is. `image`: the container image that was found. `manager`:
        who did it, as the platform says. `fields`: paths of what differs from what is wanted, such as `spec.replicas`.

        Refused with `illegal-transition` if the model has no deployment there.
        """
        data = {"target": target, "finding": finding, "image": image, "manager": manager, "fields": fields}
        return self._propose("observed", model, version, data, about)
