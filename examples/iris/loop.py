"""Lets iris look after itself: it drifts, and is trained, registered, released and deployed again without a hand.

Four rules (rules.yaml) and one program (commands/train) do all of it; this file starts the engine, brings the flowers of a
new season, and then only watches. The cluster is a real API server with its controllers; where no container can run
(as in this project's tests) a stand-in kubelet says what becomes of the pods, so accuracy is measured on a local scorer.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import train
from engine import Failure, example, say, serving, stop
from life import ACCURACY_MIN, Scorer

HERE = Path(__file__).resolve().parent
WAIT_S = 120
POLL_S = 0.2
DRIFT = "iris-accuracy-1"


def eventually(what, found, wait_s=WAIT_S):
    """Polls until it finds something, and returns that."""
    deadline = time.monotonic() + wait_s
    while not (result := found()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {wait_s} s: {what}")
        time.sleep(POLL_S)
    return result


def deployed(annals, version):
    """Waits until this version is wanted in production, and the cluster runs it."""

    def there():
        rows = [d for d in annals.ask("deployments", "--channel", "production")["items"] if d["model"] == "iris"]
        return next((d for d in rows if d["state"] == "in-sync" and d["found"]["version"] == version), None)

    row = eventually(f"version {version} runs in production", there)
    say(f"version {version} runs on {row['target']}: found what is wanted")
    return row


def measured(annals, version, path, name):
    """The accuracy of a version's very bytes on a data set, over HTTP; reported with its window."""
    facts = annals.ask("get", "iris", str(version))
    scorer = Scorer(facts["uri"].removeprefix("file://"), facts["digest"])
    if scorer.endpoint is None:
        raise Failure(f"version {version} cannot be scored: {scorer.error}")
    try:
        start = train.now()
        value, rows = scorer.accuracy(path)
    finally:
        stop(scorer.process)
    say(f"measured: accuracy {value} of version {version} on {name}")
    window = {"start": start, "end": train.now(), "n": rows}
    annals.emit("measured", {"metric": "accuracy", "value": value, "window": window}, version=version, actor="monitor")
    return value, window


def loop(annals, work):
    """Everything that a person does here is the first line and the last."""
    annals.show("trigger", "apply", str(HERE / "rules.yaml"))
    data = train.write_data(work / "data")
    annals.emit("created", {"owner": "ada", "purpose": "names the species of an iris"})
    annals.emit("retrain-requested", {"cause": {"kind": "person"}, "reason": "the first version"})
    deployed(annals, 1)
    baseline, _ = measured(annals, 1, data["iris-test"], "iris-test")

    say("\n== a new season: the camera is wrongly calibrated, and the accuracy falls")
    observed, window = measured(annals, 1, data["iris-shifted-test"], "iris-shifted-test")
    if observed >= ACCURACY_MIN:
        raise Failure(f"the shifted data did not hurt: accuracy {observed}")
    drift = {"drift": DRIFT, "kind": "performance", "metric": "accuracy", "baseline": baseline, "observed": observed}
    drift |= {"threshold": ACCURACY_MIN, "window": window, "detector": "examples/iris/loop.py", "severity": "high"}
    annals.emit("drifted", drift, version=1, actor="monitor")
    say("== from here on nobody does anything")
    deployed(annals, 2)
    recovered, _ = measured(annals, 2, data["iris-shifted-test"], "iris-shifted-test")
    if recovered < ACCURACY_MIN:
        raise Failure(f"version 2 did not recover: accuracy {recovered}")
    annals.emit("drift-resolved", {"drift": DRIFT, "reason": f"version 2 has accuracy {recovered}"}, actor="monitor")


def answers(annals):
    """What happened, what runs, and why: each event names the one that caused it."""
    annals.wait_for_views("/v1/models/iris", "/v1/models/iris/timeline")
    say("\n== the timeline: from the drift to the deployment, by rules")
    annals.show("timeline", "iris")
    say("== what is wanted and what is found")
    annals.show("deployments")
    say("== what each rule did")
    for rule in ("iris-retrain", "iris-train", "iris-promote", "iris-deploy"):
        annals.show("trigger", "history", rule)
    events = [json.loads(line) for line in annals.run("replay", "--model", "iris", "--type", "deployed").splitlines()]
    chain = causes(annals, events[-1])
    say("== why version 2 runs: " + " <- ".join(chain))
    if chain[-1] != "drift.detected":
        raise Failure(f"the deployment does not go back to the drift: {chain}")


def take_down(annals):
    """Production is empty again, and so is the cluster."""
    say("== the end: production is emptied, and the rule takes the Deployment away")
    annals.emit("demoted", {"channel": "production", "reason": "the example ends"}, version=2)
    ours = lambda: [d for d in annals.ask("deployments")["items"] if d["state"] == "in-sync"]  # noqa: E731
    eventually("nothing runs any more", lambda: not ours())


def causes(annals, event):
    """The types of an event and of all that caused it, latest first."""
    known = {e["id"]: e for e in map(json.loads, annals.run("replay", "--model", "iris").splitlines())}
    chain = []
    while event:
        chain.append(event["type"].removeprefix("dev.annals.").removesuffix(".v1"))
        event = known.get(event.get("causationid"))
    return chain


def main():
    """One temporary folder, one engine, one cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annals", required=True, help="the program")
    parser.add_argument("--kubeconfig", required=True, help="the cluster that it deploys to")
    parser.add_argument("--keep", action="store_true", help="leave journal and models in place")
    options = parser.parse_args()
    flags = ["--kubernetes", f"here={options.kubeconfig}", "--commands", str(HERE / "commands")]

    def tell(work):
        # what the training is to find: this Python with scikit-learn, the program, and a place for its files
        surroundings = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "IRIS_ANNALS": str(Path(options.annals).resolve()),
            "IRIS_WORK": str(work / "trained"),
        }
        with serving(options.annals, work / "annals", flags, surroundings) as annals:
            loop(annals, work)
            answers(annals)
            take_down(annals)
        return "iris looked after itself"

    return example("examples/iris/run --kubernetes", options.keep, tell)


if __name__ == "__main__":
    sys.exit(main())
