"""Maintain: a new training is wanted, a version is no longer to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..payload import Time, VersionRef, Window
from ..proposal import About, Envelope, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Maintain(Proposes):
    """Events of the stage *maintain*."""

    def retrain_requested(
        self,
        model: str,
        cause: Literal["drift", "schedule", "person"],
        *,
        drift: str | None = None,
        pipeline: str | None = None,
        data_window: Window | None = None,
        dedup: str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A new training is wanted. `drift`: the drift's id, if one asks for it. `pipeline`: that is to train.

        `dedup`: at most one retraining with this key is open; by default `<cause>` or `<cause>:<drift>`. Refused with
        `no-change` while one is.
        """
        why = {"kind": cause} if drift is None else {"kind": cause, "drift": drift}
        data = {"cause": why, "pipeline": pipeline, "data_window": data_window, "dedup": dedup}
        return self._propose("retrain-requested", model, None, data, about)

    def retired(
        self,
        model: str,
        version: VersionRef,
        *,
        reason: str,
        successor: VersionRef | None = None,
        hold_until: Time | None = None,
        **about: Unpack[Envelope],
    ) -> Receipt:
        """A version is no longer to be used. `successor`: the version to use instead. `hold_until`: it must be kept all the same.

        Refused with `version-held` while a channel or a deployment holds it.
        """
        data = {"successor": successor, "hold_until": hold_until, "reason": reason}
        return self._propose("retired", model, version, data, about)
