"""Lets TFX look after iris: trained and released, drifted, trained again although the first try fails half-way, released.

Four rules (rules.yaml) and two programs (commands/) do all of it; this file starts the engine, brings the flowers of a new
season, takes the training device away for a while, and then only watches.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "iris"))

import emit  # noqa: E402
import train  # noqa: E402
from engine import Failure, example, say, serving  # noqa: E402
from loop import causes, eventually  # noqa: E402

ACCURACY_MIN = 0.90
# trainer.py looks for this file in the folder that it runs in
TAKEN = "device-taken"
# a pipeline takes half a minute on an idle machine
WAIT_S = 900
DRIFT = "iris-accuracy-1"


def production(annals, version):
    """Waits until production holds this version, and returns it."""

    def held():
        there = [c for c in annals.ask("list", "channels", "iris")["items"] if c["channel"] == "production"]
        return there if there and there[0]["version"] == version else None

    eventually(f"version {version} is in production", held, WAIT_S)
    say(f"version {version} is in production")
    return annals.ask("get", "iris", str(version))


def accuracy(version, path):
    """How many flowers the very files of a version get right; and how many there are."""
    import tensorflow as tf

    folder = Path(unquote(urlsplit(version["uri"]).path))
    if emit.tree_digest(folder) != version["digest"]:
        raise Failure(f"{folder} has other files than version {version['version']}")
    rows, species = train.read_data([path])
    names = path.read_text(encoding="ascii").partition("\n")[0].split(",")[:-1]
    columns = {name: tf.constant(rows[:, [column]], tf.float32) for column, name in enumerate(names)}
    model = tf.saved_model.load(str(folder))
    said = model.serve(columns).numpy().argmax(axis=1)
    return round(float((said == species).mean()), 4), len(species)


def measured(annals, version, path, name):
    """The accuracy of a version on a data set, reported."""
    start = train.now()
    value, rows = accuracy(version, path)
    window = {"start": start, "end": train.now(), "n": rows}
    say(f"measured: accuracy {value} of version {version['version']} on {name}")
    annals.emit("measured", {"metric": "accuracy", "value": value, "window": window}, version=version["version"], actor="monitor")
    return value, window


def failed(annals):
    """Waits until the training has failed half-way, and shows how that looks."""

    def tried():
        tasks = annals.ask("trigger", "history", "tfx-train")["items"]
        return [task for task in tasks if task["attempts"] > 0 and task["state"] == "pending"]

    note = eventually("the training has failed", tried, WAIT_S)[0]["note"]
    annals.show("trigger", "history", "tfx-train")
    if "failed in Trainer" not in note or TAKEN not in note:
        raise Failure(f"the history does not say why it failed: {note}")


def story(annals, home, data):
    """Everything that a person does here is to ask for the first version."""
    annals.show("trigger", "apply", str(HERE / "rules.yaml"))
    shutil.copy(data["iris-train"], home / "data")
    annals.emit("created", {"owner": "ada", "purpose": "names the species of an iris"})
    annals.emit("retrain-requested", {"cause": {"kind": "person"}, "reason": "the first version"})
    say("TFX trains (about a minute)")
    first = production(annals, 1)
    baseline, _ = measured(annals, first, data["iris-test"], "iris-test")

    say("\n== a new season: the camera is wrongly calibrated; and somebody else holds the training device")
    shutil.copy(data["iris-shifted-train"], home / "data")
    (home / TAKEN).touch()
    observed, window = measured(annals, first, data["iris-shifted-test"], "iris-shifted-test")
    if observed >= ACCURACY_MIN:
        raise Failure(f"the shifted data did not hurt: accuracy {observed}")
    drift = {"drift": DRIFT, "kind": "performance", "metric": "accuracy", "baseline": baseline, "observed": observed}
    drift |= {"threshold": ACCURACY_MIN, "window": window, "detector": "examples/tfx/retrain.py", "severity": "high"}
    annals.emit("drifted", drift, version=1, actor="monitor")
    failed(annals)

    say("== the device is free again; from here on nobody does anything")
    (home / TAKEN).unlink()
    second = production(annals, 2)
    recovered, _ = measured(annals, second, data["iris-shifted-test"], "iris-shifted-test")
    if recovered < ACCURACY_MIN:
        raise Failure(f"version 2 did not recover: accuracy {recovered}")
    annals.emit("drift-resolved", {"drift": DRIFT, "reason": f"version 2 has accuracy {recovered}"}, actor="monitor")


def answers(annals):
    """What happened, and why; and that each run was told once."""
    annals.wait_for_views("/v1/models/iris", "/v1/models/iris/timeline", "/v1/models/iris/versions/2/lineage")
    say("\n== the timeline: from the drift to production, by rules")
    annals.show("timeline", "iris")
    say("== what ML Metadata says of version 2, kept in the journal")
    annals.show("lineage", "iris", "2")
    say("== what each rule did")
    for rule in ("tfx-retrain", "tfx-train", "tfx-register", "tfx-promote"):
        annals.show("trigger", "history", rule)
    events = [json.loads(line) for line in annals.run("replay", "--model", "iris").splitlines()]
    if (told := [e["type"] for e in events].count("dev.annals.run.trained.v1")) != 2:
        raise Failure(f"two runs were whole, and {told} were told")
    chain = causes(annals, [e for e in events if e["type"] == "dev.annals.version.promoted.v1"][-1])
    say("== why version 2 is in production: " + " <- ".join(chain))
    if chain != ["version.promoted", "version.evaluated", "run.trained", "retrain.requested", "drift.detected"]:
        raise Failure(f"the promotion does not go back to the drift: {chain}")


def main():
    """One temporary folder, one engine, one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annals", required=True, help="the program")
    parser.add_argument("--keep", action="store_true", help="leave journal, metadata and models in place")
    options = parser.parse_args()

    def tell(work):
        home = work / "tfx"
        (home / "data").mkdir(parents=True)
        # what the programs are to find: this Python with TFX, and the folder that the pipeline runs in
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with serving(options.annals, work / "annals", ["--commands", str(HERE / "commands")], {"PATH": path, "TFX_HOME": str(home)}) as annals:
            story(annals, home, train.write_data(work / "seasons"))
            answers(annals)
        return "TFX looked after iris"

    return example("examples/tfx/run", options.keep, tell)


if __name__ == "__main__":
    sys.exit(main())
