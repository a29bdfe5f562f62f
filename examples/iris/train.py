"""Trains LogisticRegression on scikit-learn's iris, for real, and says what was made from what.

A pipeline of your own would do the same: train, write the artifact, and hand facts to `annals emit`.
"""

import csv
import hashlib
import json
import re
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import joblib
import numpy as np
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
SEED = 11
TEST_ROWS = 60
# The new season's camera is wrongly calibrated: everything looks a fifth smaller, with some noise.
SHIFT_FACTOR = 0.8
SHIFT_NOISE_CM = 0.02


def digest(path):
    """`sha256:` and the hexadecimal SHA-256 of a file's bytes."""
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()


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


def git(*arguments):
    """What git says about the checkout that this file lies in."""
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"git {' '.join(arguments)} failed; the example needs a git checkout:\n{done.stderr}")
    return done.stdout.strip()


def code():
    """Which code trains: repository, commit, and whether files differ from it."""
    remote = subprocess.run(
        ["git", "-C", str(HERE), "config", "--get", "remote.origin.url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    short = re.fullmatch(r"[\w.-]+@([\w.-]+):(.+)", remote)  # git's own short form of an ssh address
    parts = urlsplit(f"ssh://{short[1]}/{short[2]}" if short else remote)
    # A checkout of a local folder has no address that means anything to others, and a password in
    # an address must not get into a journal that is kept for ever.
    repository = parts._replace(netloc=parts.hostname).geturl() if parts.hostname else "local"
    return {"repository": repository, "commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


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
        rows = len(read_data([path])[1])
        return {"name": name, "uri": path.resolve().as_uri(), "digest": digest(path), "rows": rows, "role": role}

    return {
        "run": {"system": "examples/iris", "id": run},
        "code": code(),
        "data": [described(n, p, "train") for n, p in sources.items()] + [described(n, p, "test") for n, p in tests.items()],
        "metrics": metrics,
        "artifact": {
            "uri": artifact.resolve().as_uri(),
            "digest": digest(artifact),
            "size": artifact.stat().st_size,
            "format": "joblib",
        },
        "params": {**params, "algorithm": "LogisticRegression"},
        "environment": {
            "lockfile_digest": digest(HERE / "requirements.txt"),
            "framework": f"scikit-learn {sklearn.__version__}",
            "python": ".".join(map(str, sys.version_info[:3])),
        },
        "seed": SEED,
        "started": started,
        "ended": now(),
        "labels": {"seconds": f"{time.monotonic() - began:.2f}"},
    }


if __name__ == "__main__":
    # Alone: `train.py FOLDER` trains the first version and prints the facts.
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "iris-out")
    data = write_data(target / "data")
    facts = train("run-1", {"iris-train": data["iris-train"]}, {"iris-test": data["iris-test"]}, target)
    json.dump(facts, sys.stdout, indent=2)
    print()
