"""A training script with the Python client: trains on iris, reports the run, and releases the version if it is good enough.

`training.py RUN [FOLDER]` reports to `ANNALS_URL`. With the same RUN it may be started again: what was reported counts once.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import annals

ACCURACY_MIN = 0.90
SEED = 11


def main(name: str, folder: Path) -> None:
    """One run, from the data to production."""
    features, species = load_iris(return_X_y=True)
    train, test, train_species, test_species = train_test_split(
        features, species, test_size=60, random_state=SEED, stratify=species
    )
    folder.mkdir(parents=True, exist_ok=True)
    with annals.Client(actor="pipeline") as client:
        lockfile = Path(__file__).with_name("requirements.txt")
        with client.run("iris", annals.RunRef(name, system="examples/iris"), seed=SEED, lockfile=lockfile) as run:
            run.data("iris-train", train.tobytes() + train_species.tobytes(), rows=len(train))
            run.data("iris-test", test.tobytes() + test_species.tobytes(), rows=len(test), role="test")
            model = LogisticRegression(C=10.0, max_iter=1000, random_state=SEED).fit(train, train_species)
            accuracy = round(float(model.score(test, test_species)), 4)
            run.log_params(model.get_params())
            run.log_metric("accuracy", accuracy, split="test")
            joblib.dump(model, folder / "model.pkl")
            run.artifact(folder / "model.pkl", format="joblib")
        version = run.register(algorithm="LogisticRegression")
        checks = run.evaluated("accuracy on iris-test", [annals.Check.at_least("accuracy", accuracy, ACCURACY_MIN)])
        print(f"{name}: version {version}, accuracy {accuracy}, evaluated at {checks.position} ({checks.outcome})")
        if accuracy >= ACCURACY_MIN:
            run.promoted("production", reason=f"accuracy {accuracy} on the test set")
        print(f"in production: version {client.production('iris').version}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "iris-out"))
