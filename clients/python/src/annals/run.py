"""A training run as a block of code: what it read, measured and made becomes one `trained` event at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .answers import Event, Receipt
from .collect import code_here, environment_here
from .digests import Source
from .errors import Incomplete, Refused
from .payload import Artifact, Channel, Check, Code, Dataset, Environment, Metric, RunRef, VersionRef, described
from .proposal import About, step_id

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .client import Client


class Run:
    """Collects the facts of a run; made by `client.run`.

    At the end of its `with` block it emits `trained`. If the block raises, nothing is sent and the exception goes on.
    Its events have ids made from workspace, model, run and step, so that the script may be run again: if it makes the same
    bytes, the events of the first time stand (`duplicate`), and if not, `Conflict` or `Refused` says so.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        run: RunRef,
        *,
        seed: int | None = None,
        parent: VersionRef | None = None,
        code: Code | Literal["here"] | None = "here",
        environment: Environment | Literal["here"] | None = "here",
        lockfile: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.run = run
        self.receipt: Receipt | None = None
        """The verdict on `trained`; None until the block has ended."""
        self._client = client
        self._seed = seed
        self._parent = parent
        self._code = code
        self._environment = environment
        self._lockfile = lockfile
        self._started: datetime | None = None
        self._data: list[Dataset] = []
        self._params: dict[str, Any] = {}
        self._metrics: dict[tuple[str, str | None], Metric] = {}
        self._labels: dict[str, str] = {}
        self._artifact: Artifact | None = None

    def __enter__(self) -> Self:
        self._started = datetime.now(timezone.utc)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._end()

    def data(
        self,
        name: str,
        source: Source | None = None,
        *,
        role: str = "train",
        rows: int | None = None,
        uri: str | None = None,
        digest: str | None = None,
    ) -> Dataset:
        """Notes a dataset: a file by its path, data in memory by its bytes, or by a `digest` (`sha256:…`) that you know.

        `rows`: how many. `role`: `train`, `validation` or `test`. `OSError` if the file cannot be read.
        """
        if source is None:
            dataset = Dataset(name, uri, digest, rows, role)
        elif digest is None:
            dataset = Dataset.of(name, source, role=role, rows=rows, uri=uri)
        else:
            raise ValueError("give the data or its digest, not both")
        self._data.append(dataset)
        return dataset

    def log_param(self, name: str, value: Any) -> None:
        """Notes a parameter of the training; a value that is no JSON is kept as the text of its `repr`."""
        self._params[name] = described(value)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Notes several, such as `estimator.get_params()`."""
        for name, value in params.items():
            self.log_param(name, value)

    def log_metric(self, name: str, value: float, *, split: str | None = None) -> None:
        """Notes a figure in the metric's own unit; the last one of a name and split is what is reported.

        `split`: the part of the data that it was measured on, such as `test`.
        """
        self._metrics[name, split] = Metric(name, float(value), split)

    def log_metrics(self, metrics: Mapping[str, float], *, split: str | None = None) -> None:
        """Notes several."""
        for name, value in metrics.items():
            self.log_metric(name, value, split=split)

    def label(self, name: str, value: str) -> None:
        """Keeps a text with the event."""
        self._labels[name] = value

    def artifact(self, path: str | os.PathLike[str], *, uri: str | None = None, format: str | None = None) -> Artifact:
        """Notes the file that the run made, which must be complete: its digest is taken now.

        `uri`: where others find it; a `file:` URI of this machine unless given. `ValueError` for a second one.
        """
        if self._artifact is not None:
            raise ValueError(f"the run {self.run.id} has an artifact already: pack several files into one")
        self._artifact = Artifact.of(path, uri=uri, format=format)
        return self._artifact

    def register(
        self,
        *,
        label: str | None = None,
        description: str | None = None,
        algorithm: str | None = None,
        signature: Mapping[str, Any] | None = None,
        model_card: str | None = None,
        licence: str | None = None,
        **about: Unpack[About],
    ) -> int:
        """Registers what the run made, behind its block, with its data and metrics; returns the version's number.

        Raises as `client.registered`; `Incomplete` before the run has ended.
        """
        artifact = self._ended()
        about.setdefault("id", self._step("registered"))
        receipt = self._or_first_time(
            lambda: self._client.registered(
                self.model,
                artifact,
                run=self.run.id,
                label=label,
                description=description,
                algorithm=algorithm,
                data=self._data or None,
                performance=list(self._metrics.values()) or None,
                signature=signature,
                model_card=model_card,
                licence=licence,
                **about,
            ),
            lambda event: event.decided.get("digest") == artifact.digest and event.data.get("label") == label,
        )
        if receipt.version is None:
            raise Incomplete(f"the version of {self.run.id} has no number yet: do not call register with wait=False")
        return receipt.version

    def evaluated(self, suite: str, results: Sequence[Check], **about: Unpack[About]) -> Receipt:
        """Reports checks of the version that was registered from this run; see `client.evaluated`."""
        about.setdefault("id", self._step("evaluated", suite))
        return self._client.evaluated(self.model, self.version, suite, results, **about)

    def promoted(self, channel: Channel | str, **about: Unpack[About]) -> Receipt:
        """Promotes the version that was registered from this run; once per channel, see `client.promoted`."""
        about.setdefault("id", self._step("promoted", channel))
        return self._client.promoted(self.model, self.version, channel, **about)

    @property
    def version(self) -> str:
        """The version as any event may name it: `run:ID`."""
        return f"run:{self.run.id}"

    def _step(self, *what: str) -> str:
        return step_id(self._client.workspace, self.model, self.run.id, *what)

    def _ended(self) -> Artifact:
        if self._artifact is None or self.receipt is None:
            raise Incomplete(f"the run {self.run.id} has not ended: leave its `with` block first")
        return self._artifact

    def _end(self) -> None:
        artifact = self._artifact
        if artifact is None:
            raise Incomplete(f"the run {self.run.id} ended without an artifact, and nothing was sent: call run.artifact(path)")
        environment = environment_here(self._lockfile) if self._environment == "here" else self._environment
        about = About(id=self._step("trained"))
        if self._labels:
            about["labels"] = self._labels
        self.receipt = self._or_first_time(
            lambda: self._client.trained(
                self.model,
                self.run,
                artifact,
                metrics=list(self._metrics.values()) or None,
                data=self._data or None,
                params=self._params or None,
                code=code_here() if self._code == "here" else self._code,
                environment=environment,
                seed=self._seed,
                started=self._started,
                ended=datetime.now(timezone.utc),
                parent=self._parent,
                **about,
            ),
            lambda event: event.decided.get("digest") == artifact.digest,
        )

    def _or_first_time(self, propose: Callable[[], Receipt], same: Callable[[Event], bool]) -> Receipt:
        """Proposes; if this run reported the step before with other times or paths, but the same bytes, that stands.

        A run is its bytes: what says when, and in which folder, cannot be the same twice.
        """
        try:
            return propose()
        except Refused as refused:
            if refused.code not in ("id-conflict", "run-known", "label-taken"):
                raise
            first = self._client.accepted(refused.id)
            if first is None or not same(first):
                raise
            return Receipt(
                raw=first.attributes,
                id=first.id,
                source=first.source,
                type=first.type,
                subject=first.attributes["subject"],
                outcome="duplicate",
                position=first.position,
                modelseq=first.modelseq,
                version=first.version,
            )
