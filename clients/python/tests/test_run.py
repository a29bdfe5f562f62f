"""A run as a block, with real scikit-learn: what it emits, what it does not, and that it may be run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import annals
from engine import Engine, environment

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "iris" / "training.py"


def train(client: annals.Client, model: str, folder: Path, strength: float = 10.0) -> annals.Run:
    features, species = load_iris(return_X_y=True)
    folder.mkdir(exist_ok=True)
    with client.run(model, "run-1", seed=3) as run:
        run.data("iris", features.tobytes() + species.tobytes(), rows=len(features))
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(features, species)
        run.log_params(fitted.get_params())
        run.log_metric("accuracy", 0.1)
        run.log_metric("accuracy", fitted.score(features, species))
        run.label("kind", "test")
        joblib.dump(fitted, folder / "model.pkl")
        run.artifact(folder / "model.pkl", format="joblib")
    return run


def test_a_run_becomes_one_event_and_a_version(client: annals.Client, model: str, tmp_path: Path) -> None:
    run = train(client, model, tmp_path)
    assert run.register(label="1.0", algorithm="LogisticRegression") == 1
    run.promoted("production", reason="good")
    trained, registered, promoted = client.events(model=model)
    assert trained.data["params"]["C"] == 10.0 and trained.data["params"]["random_state"] is None
    assert [m["name"] for m in trained.data["metrics"]] == ["accuracy"] and trained.data["metrics"][0]["value"] > 0.9
    assert trained.data["artifact"]["digest"] == annals.digest(tmp_path / "model.pkl")
    assert trained.data["environment"]["framework"].startswith("scikit-learn ")
    assert trained.data["started"] < trained.data["ended"] and trained.data["seed"] == 3
    assert registered.data["data"][0]["rows"] == 150 and registered.decided["external"] is False
    assert promoted.version == 1 and promoted.id == f"default/{model}/run-1/promoted/production"


def test_the_same_bytes_again_are_the_same_run(client: annals.Client, model: str, tmp_path: Path) -> None:
    first = train(client, model, tmp_path / "a")
    assert first.register(label="1.0") == 1
    again = train(client, model, tmp_path / "b")  # at another time, in another folder
    assert again.receipt is not None and first.receipt is not None
    assert (again.receipt.outcome, again.receipt.position) == ("duplicate", first.receipt.position)
    assert again.register(label="1.0") == 1
    assert len(list(client.events(model=model))) == 2
    with pytest.raises(annals.Conflict):
        again.register(label="2.0")


def test_other_bytes_are_another_run(client: annals.Client, model: str, tmp_path: Path) -> None:
    train(client, model, tmp_path)
    with pytest.raises(annals.Conflict, match="id-conflict"):
        train(client, model, tmp_path, strength=1.0)
    assert len(list(client.events(model=model))) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_raises_sends_nothing(client: annals.Client, model: str, pickle: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), client.run(model, "run-1") as run:
        run.artifact(pickle)
        raise error
    assert run.receipt is None and not list(client.events(model=model))
    with pytest.raises(annals.Incomplete):
        run.register()


def test_a_run_without_an_artifact_says_so(client: annals.Client, model: str) -> None:
    with pytest.raises(annals.Incomplete, match=r"run\.artifact"), client.run(model, "run-1") as run:
        run.log_metric("accuracy", 0.9)
    assert not list(client.events(model=model))


def test_a_run_has_one_artifact_and_figures_that_json_has(client: annals.Client, model: str, pickle: Path) -> None:
    with pytest.raises(ValueError, match="nan"), client.run(model, "run-1") as run:
        run.artifact(pickle)
        with pytest.raises(ValueError, match="artifact already"):
            run.artifact(pickle)
        run.log_metric("loss", float("nan"))
    assert not list(client.events(model=model))


def test_the_example_may_be_started_again(engine: Engine, tmp_path: Path) -> None:
    def start(folder: str) -> str:
        command = [sys.executable, "-B", str(EXAMPLE), "run-7", str(tmp_path / folder)]
        sources = str(Path(annals.__file__).parents[1])
        surroundings = {**environment(), "ANNALS_URL": engine.url, "ANNALS_WORKSPACE": "example", "PYTHONPATH": sources}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "(accepted)" in start("a")
    assert "(duplicate)\nin production: version 1" in start("b")
    with annals.Client(engine.url, workspace="example") as client:
        assert [line.kind for line in client.timeline("iris")] == [
            "run.trained",
            "version.registered",
            "version.evaluated",
            "version.promoted",
        ]
        commit = subprocess.run(["git", "-C", str(EXAMPLE.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        (trained,) = client.events("trained", workspace="example")
        assert trained.data["code"]["commit"] == commit.stdout.strip()
