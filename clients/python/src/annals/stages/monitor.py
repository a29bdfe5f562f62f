"""Monitor: what a model in use measures, and when it no longer fits its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..payload import Report, VersionRef, Window
from ..proposal import About, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Monitor(Proposes):
    """Events of the stage *monitor*."""

    def measured(
        self,
        model: str,
        metric: str,
        value: float,
        *,
        version: VersionRef | None = None,
        window: Window | None = None,
        deployment: str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A metric of a model in use, in the metric's own unit, over a window. One a batch or an hour, never one a request."""
        data = {"metric": metric, "value": value, "window": window, "deployment": deployment}
        return self._propose("measured", model, version, data, about)

    def drifted(
        self,
        model: str,
        drift: str,
        kind: Literal["data", "prediction", "concept", "performance", "quality"],
        metric: str,
        observed: float,
        *,
        version: VersionRef | None = None,
        baseline: float | None = None,
        threshold: float | None = None,
        window: Window | None = None,
        detector: str | None = None,
        severity: Literal["low", "medium", "high", "critical"] | None = None,
        features: Sequence[str] | None = None,
        deployment: str | None = None,
        source: Report | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A model in use no longer fits its data. `drift`: an id of yours, unique in the model. `kind`: what moved.

        `observed`, `baseline` (when all was well) and `threshold` are in the metric's own unit. `detector`: with its version.
        `source`: the detector's own report.

        Refused with `unknown-model`, `unknown-version` (a model is never guessed), `no-change` (the id is taken).
        """
        data = {
            "drift": drift,
            "kind": kind,
            "metric": metric,
            "observed": observed,
            "baseline": baseline,
            "threshold": threshold,
            "window": window,
            "detector": detector,
            "severity": severity,
            "features": features,
            "deployment": deployment,
            "source": source,
        }
        return self._propose("drifted", model, version, data, about)

    def drift_resolved(self, model: str, drift: str, *, version: VersionRef | None = None, **about: Unpack[About]) -> Receipt:
        """It fits again, or was judged harmless. Refused with `illegal-transition` (unknown drift), `no-change`."""
        return self._propose("drift-resolved", model, version, {"drift": drift}, about)
