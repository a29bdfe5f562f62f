"""Reports a run of TFX as `trained`: what ML Metadata has written down of it, with the digests of the files themselves.

`emit.py HOME RUN` reads `HOME/metadata.sqlite` (`--store` names another) and tells the engine (`ANNALS_URL`) of the run. A
run that failed, has not ended, or lacks its files is not told: the last line says which component it was, and what to do.
The event's id follows from model, pipeline and run, so it may be told again. Exit codes as of `annals`: 0 told, or known
already; 1 refused, or nothing to tell; 69 no engine there; 75 not settled: tell it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ml_metadata import errors as mlmd_errors
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

import annals

SOURCE = "/examples/tfx"
STORE = "metadata.sqlite"
SQLITE = b"SQLite format 3\x00"
FIGURES = "metrics.json"
LINE_MAX = 200
DONE = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


class Untold(Exception):
    """There is nothing to report; the message says why, and what to do."""


class Failed(Untold):
    """The run ended without what it was for."""


class Store:
    """A store of ML Metadata in one SQLite file, opened for reading, and the folder that its relative URIs begin at."""

    def __init__(self, home: Path, file: Path | None = None) -> None:
        self.home = home.resolve()
        self.file = file or home / STORE
        self._mlmd = self._opened()

    def _opened(self) -> metadata_store.MetadataStore:
        # ML Metadata itself would make an empty store of what is not there
        try:
            with self.file.open("rb") as opened:
                head = opened.read(len(SQLITE))
        except OSError as error:
            raise Untold(f"{self.file} cannot be read: {error.strerror}; name the file that the pipeline wrote") from error
        if head != SQLITE:
            raise Untold(f"{self.file} is no SQLite file: it was cut off or is another; name the file that the pipeline wrote")
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self.file)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
        return self._asked(lambda: metadata_store.MetadataStore(config))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (mlmd_errors.StatusError, RuntimeError) as error:
            # without the statement, which is long
            why = first_line(str(error).partition(" query:  ")[0].partition(". ")[0])
            remedy = "read it with the ml-metadata that wrote it, or put the file back from a copy"
            raise Untold(f"{self.file} is no whole store of this ml-metadata's version: {why}; {remedy}") from error

    def context(self, kind: str, name: str) -> mlmd.Context | None:
        """The context of this type and name."""
        found: mlmd.Context | None = self._asked(lambda: self._mlmd.get_context_by_type_and_name(kind, name))
        return found

    def runs(self) -> list[str]:
        """The names of all runs, oldest first."""
        return [context.name for context in self._asked(lambda: self._mlmd.get_contexts_by_type("pipeline_run"))]

    def executions(self, context: mlmd.Context) -> list[mlmd.Execution]:
        """What ran, in its order."""
        found = self._asked(lambda: self._mlmd.get_executions_by_context(context.id))
        return sorted(found, key=lambda execution: execution.id)

    def pipeline(self, execution: mlmd.Execution) -> str:
        """The name of the pipeline that an execution belongs to."""
        contexts = self._asked(lambda: self._mlmd.get_contexts_by_execution(execution.id))
        return next((str(context.name) for context in contexts if context.type == "pipeline"), "unnamed")

    def outputs(self, execution: mlmd.Execution) -> list[mlmd.Artifact]:
        """What an execution made, or took from an earlier one that made the same."""
        events = self._asked(lambda: self._mlmd.get_events_by_execution_ids([execution.id]))
        ids = [event.artifact_id for event in events if event.type == mlmd.Event.OUTPUT]
        found: list[mlmd.Artifact] = self._asked(lambda: self._mlmd.get_artifacts_by_id(ids)) if ids else []
        return found

    def path(self, artifact: mlmd.Artifact) -> Path:
        """Where an artifact's files are."""
        path = self.home / str(artifact.uri).removeprefix("file://")
        if not path.exists():
            raise Untold(f"the {artifact.type} of artifact {artifact.id} is not at {path} any more: put it back, or train again")
        return path


def component(execution: mlmd.Execution) -> str:
    """`Trainer`, of `tfx.components.trainer.component.Trainer`."""
    return str(execution.type).rsplit(".", 1)[-1]


def text(values: Mapping[str, Any], name: str) -> str:
    """A property as text, empty if there is none."""
    return str(values[name].string_value) if name in values else ""


def first_line(message: str) -> str:
    """What fits into a line."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "")[:LINE_MAX].rstrip(".:; ")


class Run:
    """One run of a pipeline, by the name of its context."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        context = store.context("pipeline_run", name)
        if context is None:
            known = ", ".join(store.runs()[-5:]) or "none"
            raise Untold(f"{store.file} knows no run `{name}`, its newest are: {known}; name one of those")
        self.context = context
        self.executions = store.executions(context)

    def check(self, said: str = "") -> None:
        """Raises `Failed` unless every component ended well, to the last one.

        `said`: what the pipeline said at its end. ML Metadata only knows that a component failed, not why.
        """
        why = first_line(said) or "ML Metadata does not say why, look at what the pipeline said"
        again = "run it again under a new name, what was finished is kept"
        for execution in self.executions:
            what = f"the run {self.name} %s in {component(execution)} (execution {execution.id})"
            if execution.last_known_state in (mlmd.Execution.NEW, mlmd.Execution.RUNNING):
                raise Failed(f"{what % 'has not ended'}: it is still at it, or was killed there; wait for it, or {again}")
            if execution.last_known_state not in DONE:
                raise Failed(f"{what % 'failed'}: {why}; nothing was reported; mend it, and {again}")
        for last in ("Trainer", "Pusher"):
            if last not in map(component, self.executions):
                raise Failed(f"the run {self.name} ended before {last}: nothing was reported; {again}")

    def pipeline(self) -> str:
        """The pipeline that it is a run of."""
        return self.store.pipeline(self.executions[0])

    def of(self, name: str) -> mlmd.Execution:
        """A component's execution."""
        return next(execution for execution in self.executions if component(execution) == name)

    def artifacts(self, kind: str) -> Iterator[mlmd.Artifact]:
        """What the run made of this type."""
        made = (artifact for execution in self.executions for artifact in self.store.outputs(execution))
        return (artifact for artifact in made if artifact.type == kind)

    def pushed(self) -> tuple[annals.Artifact, mlmd.Artifact]:
        """The model that was pushed: its files, as Pusher keeps them beside those that are served."""
        for artifact in self.artifacts("PushedModel"):
            if artifact.custom_properties["pushed"].int_value == 1:
                path = self.store.path(artifact)
                size = sum(file.stat().st_size for file in files(path))
                return annals.Artifact(path.as_uri(), tree_digest(path), "saved_model", size), artifact
        raise Failed(f"the run {self.name} pushed no model: it was not blessed; look at its evaluation")

    def data(self) -> list[annals.Dataset]:
        """The examples, each split with the digest of its files."""
        roles = {"train": "train", "eval": "validation", "test": "test"}
        found = []
        for artifact in self.artifacts("Examples"):
            for split in json.loads(text(artifact.properties, "split_names") or "[]"):
                folder = self.store.path(artifact) / f"Split-{split}"
                found.append(annals.Dataset(f"examples/{split}", folder.as_uri(), tree_digest(folder), None, roles.get(split)))
        return found

    def metrics(self) -> list[annals.Metric]:
        """The figures that the Trainer left in its `model_run`, by split; none if it left none."""
        found = []
        for artifact in self.artifacts("ModelRun"):
            file = self.store.path(artifact) / FIGURES
            if file.exists():
                try:
                    for split, figures in json.loads(file.read_text(encoding="utf-8")).items():
                        found += [annals.Metric(name, float(value), split) for name, value in figures.items()]
                except (ValueError, TypeError, AttributeError) as error:
                    raise Untold(f"the figures in {file} cannot be read: {error}; correct or remove the file") from error
        return found

    def evidence(self) -> list[annals.Evidence]:
        """What was found out about the data and the training on the way."""
        kinds = ("ExampleStatistics", "Schema", "ExampleAnomalies", "ModelRun")
        made = [artifact for kind in kinds for artifact in self.artifacts(kind)]
        return [annals.Evidence(a.type, self.store.path(a).as_uri(), tree_digest(self.store.path(a))) for a in made]

    def params(self) -> dict[str, Any]:
        """What the Trainer was told."""
        given = self.of("Trainer").custom_properties
        told = {name: text(given, name) for name in given if not name.startswith("__")}
        return {name: as_json(value) for name, value in sorted(told.items()) if value not in ("", "null")}

    def labels(self, pushed: mlmd.Artifact) -> dict[str, str]:
        """Where ML Metadata has it."""
        labels = {"mlmd.pipeline": self.pipeline(), "mlmd.pipeline_run": str(self.context.id), "mlmd.pushed_model": str(pushed.id)}
        for execution in self.executions:
            labels[f"mlmd.execution.{component(execution)}"] = str(execution.id)
        for name in ("pushed_destination", "pushed_version"):
            labels |= {f"tfx.{name}": text(pushed.custom_properties, name)} if text(pushed.custom_properties, name) else {}
        return labels

    def report(self, client: annals.Client, model: str, lockfile: Path | None) -> annals.Receipt | annals.Event:
        """Tells the engine of a run that was checked; the event of the first time, if these bytes were told before."""
        artifact, pushed = self.pushed()
        version = text(pushed.custom_properties, "tfx_version")
        pinned = annals.digest(lockfile) if lockfile else None
        environment = annals.Environment(lockfile_digest=pinned, framework=f"tfx {version}" if version else None)
        moments = [execution.create_time_since_epoch for execution in self.executions]
        ended = max(execution.last_update_time_since_epoch for execution in self.executions)
        proposal = annals.step_id(client.workspace, model, self.pipeline(), self.name, "trained")
        try:
            return client.trained(
                model,
                annals.RunRef(self.name, "tfx", self.store.file.resolve().as_uri()),
                artifact,
                metrics=self.metrics() or None,
                data=self.data() or None,
                params=self.params() or None,
                code=annals.code_here(),
                environment=environment,
                started=moment(min(moments)),
                ended=moment(ended),
                evidence=self.evidence(),
                labels=self.labels(pushed),
                id=proposal,
                time=moment(ended),
            )
        except annals.Refused as refused:
            # told before from another folder, at another commit or by hand: a run is its bytes
            first = client.accepted(proposal) if refused.code in ("id-conflict", "run-known") else None
            if first is None or first.decided.get("digest") != artifact.digest:
                raise
            return first


def run_name(event: Mapping[str, Any], number: int) -> str:
    """The id of the run that is this try, from 1, for the event that asked for it: its own id, and a digest of its source."""
    return f"{event['id']}-{hashlib.sha256(event['source'].encode()).hexdigest()[:8]}.{number}"


def files(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def tree_digest(folder: Path) -> str:
    """A folder's digest: `find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`, told within it."""
    found = files(folder)
    if not found:
        raise Untold(f"there are no files in {folder} any more: put them back, or train again")
    lines = (f"{annals.digest(file).removeprefix('sha256:')}  ./{file.relative_to(folder).as_posix()}\n" for file in found)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def as_json(value: str) -> Any:
    """Properties are JSON or plain text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def moment(ms: int) -> datetime:
    """A time of ML Metadata."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reports one run."""
    parser = argparse.ArgumentParser(description="Reports a run of TFX as `trained`.")
    parser.add_argument("home", type=Path, help="the folder that the pipeline ran in")
    parser.add_argument("run", help="the run's id")
    parser.add_argument("--store", type=Path, metavar="FILE", help=f"the ML Metadata store; HOME/{STORE} unless given")
    parser.add_argument("--model", default="iris", metavar="NAME")
    parser.add_argument("--said", default="", metavar="TEXT", help="what the pipeline said at its end, if it failed")
    parser.add_argument("--lockfile", type=Path, metavar="FILE", help="what pinned the libraries, for its digest")
    options = parser.parse_args(arguments)
    try:
        run = Run(Store(options.home, options.store), options.run)
        run.check(options.said)
        with annals.Client(source=SOURCE) as client:
            told = run.report(client, options.model, options.lockfile)
    except annals.Unsettled as unsettled:
        return fail(75, unsettled)
    except annals.Unavailable as unavailable:
        return fail(69, unavailable)
    except (Untold, annals.AnnalsError, OSError) as error:
        # one that did not even begin is unknown to ML Metadata
        return fail(1, error, "" if isinstance(error, Failed) else first_line(options.said))
    outcome = told.outcome if isinstance(told, annals.Receipt) else "duplicate"
    print(f"{outcome}: {options.model} was trained by the run {run.name}, at {told.position}")
    return 0


def fail(code: int, error: Exception, said: str = "") -> int:
    """Says why on one line, with what the pipeline said."""
    print(f"emit.py: {said + '; ' if said else ''}{error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
