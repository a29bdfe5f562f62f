"""Train: a run ended with an artifact, a version got its number."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..answers import Receipt
from ..collect import code_here, environment_here
from ..payload import (
    Artifact,
    Code,
    Dataset,
    Environment,
    Metrics,
    RunRef,
    Time,
    VersionRef,
    as_artifact,
    as_metrics,
    described,
)
from ..proposal import About, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Train(Proposes):
    """Events of the stage *train*."""

    def trained(
        self,
        model: str,
        run: str | RunRef,
        artifact: Artifact | str | os.PathLike[str],
        *,
        metrics: Metrics | None = None,
        data: Sequence[Dataset] | None = None,
        params: Mapping[str, Any] | None = None,
        code: Code | Literal["here"] | None = "here",
        environment: Environment | Literal["here"] | None = "here",
        seed: int | None = None,
        started: Time | None = None,
        ended: Time | None = None,
        parent: VersionRef | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A training run ended with an artifact: `client.trained("iris", "run-7", "model.pkl", metrics={"accuracy": 0.97})`.

        `run`: the pipeline's own id, unique in the model. `artifact`: a file by its path (digest, size and URI are collected), or
        an `Artifact`. `metrics`: figures at the end, each in its own unit. `data`: what was read. `params`: any JSON by name; what
        is none (an estimator, a function) is kept as the text of its `repr`. `code` and `environment` are collected where the
        script runs; None leaves them out. `parent`: the version that training began from.

        Refused with `run-known`, `unknown-version` (the parent). `OSError` if the artifact cannot be read.
        """
        members = {
            "run": RunRef(run) if isinstance(run, str) else run,
            "code": code_here() if code == "here" else code,
            "data": data,
            "metrics": as_metrics(metrics),
            "artifact": as_artifact(artifact),
            "params": None if params is None else {name: described(value) for name, value in params.items()},
            "environment": environment_here() if environment == "here" else environment,
            "seed": seed,
            "started": started,
            "ended": ended,
            "parent": parent,
        }
        return self._propose("trained", model, None, members, about)

    def checked(
        self,
        model: str,
        run: str,
        outcome: Literal["found", "dirty", "missing", "ambiguous", "shallow", "unreachable", "denied", "unnamed"],
        *,
        code: Code | None = None,
        branches: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        truncated: bool | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """The commit of a run was looked up: what a rule with `Lookup` tells by itself.

        `branches`, `tags`: those that lead to it. `truncated`: there may be more of them. `reason` says why it is not known.

        Refused with `illegal-transition` (the run was not reported).
        """
        members = {"run": run, "code": code, "outcome": outcome, "branches": branches, "tags": tags, "truncated": truncated}
        return self._propose("checked", model, None, members, about)

    def registered(
        self,
        model: str,
        artifact: Artifact | str | os.PathLike[str],
        *,
        run: str | None = None,
        label: str | None = None,
        description: str | None = None,
        algorithm: str | None = None,
        data: Sequence[Dataset] | None = None,
        performance: Metrics | None = None,
        signature: Mapping[str, Any] | None = None,
        model_card: str | None = None,
        licence: str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A version gets its number, which is the receipt's `version`.

        `artifact`: a file by its path, or an `Artifact`; without a digest the version is *unpinned*. `run`: the id of the run
        that made it. `label`: your own name of the version, such as `1.0`, unique in the model and not all digits.
        `model_card`: Markdown or a link. `licence`: best as an SPDX expression.

        Refused with `label-taken`, `digest-mismatch` (the run made other bytes). Registering the same bytes twice under two ids
        makes two versions: give an `id` if the call may be made again.
        """
        members = {
            "artifact": as_artifact(artifact),
            "label": label,
            "run": run,
            "description": description,
            "algorithm": algorithm,
            "data": data,
            "performance": as_metrics(performance),
            "signature": signature,
            "model_card": model_card,
            "licence": licence,
        }
        return self._propose("registered", model, None, members, about)
