"""Trains LogisticRegression on scikit-learn's iris, for real, and says what was made from what.

A pipeline of your own would do the same: train, write the artifact, and hand facts to `annals emit`; or let the Python client
send them, as training.py does.
"""

import csv
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import annals
from annals.payload import plain

HERE = Path(__file__).resolve().parent
SEED = 11
TEST_ROWS = 60
# The new season's camera is wrongly calibrated: everything looks a fifth smaller, with some noise.
SHIFT_FACTOR = 0.8
SHIFT_NOISE_CM = 0.02


def now():
    """The time as RFC 3339 with microseconds, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_data(folder):
    """Writes the four data sets as CSV, the same bytes on every run; returns their paths by name."""
    features, species = load_iris(return_X_y=True)
    split = train_test_split(features, species, test_size=TEST_ROWS, random_state=SEED, stratify=species)
    train, test, train_species, test_species = split
    rng = np.random.default_rng(SEED)

    def shifted(rows):
        return np.round(rows * SHIFT_FACTOR + rng.normal(0, SHIFT_NOISE_CM, rows.shape), 2)

    sets = {
        "iris-train": (train, train_species),
        "iris-test": (test, test_species),
        "iris-shifted-train": (shifted(train), train_species),
        "iris-shifted-test": (shifted(test), test_species),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, (rows, labels) in sets.items():
        paths[name] = folder / f"{name}.csv"
        with paths[name].open("w", newline="", encoding="ascii") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["sepal_length", "sepal_width", "petal_length", "petal_width", "species"])
            writer.writerows([*(f"{x:.2f}" for x in row), int(label)] for row, label in zip(rows, labels))
    return paths


def read_data(paths):
    """The features and species of one or more CSV files, one after the other."""
    table = np.vstack([np.loadtxt(path, delimiter=",", skiprows=1) for path in paths])
    return table[:, :-1], table[:, -1].astype(int)


def train(run, sources, tests, folder):
    """Trains on `sources`, scores on each of `tests`, writes `model.pkl` into `folder`.

    Returns the `data` of `trained`: everything that somebody needs to make these bytes again.
    """
    started, began = now(), time.monotonic()
    features, species = read_data(sources.values())
    params = {"C": 10.0, "max_iter": 1000, "solver": "lbfgs", "random_state": SEED}
    model = LogisticRegression(**params).fit(features, species)
    folder.mkdir(parents=True, exist_ok=True)
    artifact = folder / "model.pkl"
    joblib.dump(model, artifact)
    metrics = []
    for name, path in tests.items():
        metrics.append({"name": "accuracy", "value": round(model.score(*read_data([path])), 4), "split": name})

    def described(name, path, role):
        return annals.Dataset.of(name, path, role=role, rows=len(read_data([path])[1]))

    facts = {
        "run": {"system": "examples/iris", "id": run},
        "code": annals.code_here(HERE) or sys.exit("the example needs a git checkout: the events name the commit that trained a model"),
        "data": [described(n, p, "train") for n, p in sources.items()] + [described(n, p, "test") for n, p in tests.items()],
        "metrics": metrics,
        "artifact": annals.Artifact.of(artifact, format="joblib"),
        "params": {**params, "algorithm": "LogisticRegression"},
        "environment": annals.environment_here(HERE / "requirements.txt"),
        "seed": SEED,
        "started": started,
        "ended": now(),
        "labels": {"seconds": f"{time.monotonic() - began:.2f}"},
    }
    return plain(facts)


if __name__ == "__main__":
    # Alone: `train.py FOLDER` trains the first version and prints the facts.
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "iris-out")
    data = write_data(target / "data")
    facts = train("run-1", {"iris-train": data["iris-train"]}, {"iris-test": data["iris-test"]}, target)
    json.dump(facts, sys.stdout, indent=2)
    print()
