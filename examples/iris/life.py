"""Takes iris through its whole life: trained, released, served, drifted, trained again, retired.

Nothing is pretended: models are trained, artifacts are served over HTTP and scored, and each step is
one `annals emit` whose exit code counts. Read `life` from top to bottom.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import train
from engine import Failure, example, say, serving, stop, topics

ACCURACY_MIN = 0.90
HERE = Path(__file__).resolve().parent
TARGET = {"platform": "local", "cluster": "this-machine", "namespace": "default", "name": "iris-scorer"}
DRIFT = "iris-accuracy-1"


class Scorer:
    """A running scorer.py, or the reason why it did not come up."""

    def __init__(self, artifact, digest):
        command = [sys.executable, "-B", str(HERE / "scorer.py"), "--artifact", str(artifact), "--digest", digest]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        ready = json.loads(line) if line else {}
        self.endpoint, self.digest = ready.get("endpoint"), ready.get("digest")
        self.error = None if line else self.process.stderr.read().strip()

    def accuracy(self, path):
        """The share of rows of a data set that it gets right, asked over HTTP; and how many rows."""
        rows, species = train.read_data([path])
        body = json.dumps({"rows": rows.tolist()}).encode()
        request = urllib.request.Request(self.endpoint + "/score", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = json.load(answer)["species"]
        right = sum(int(a == b) for a, b in zip(said, species, strict=True))
        return round(right / len(species), 4), len(species)


def train_and_register(annals, number, sources, tests, folder):
    """One training, reported and registered; returns the facts of the run."""
    facts = train.train(f"run-{number}", sources, tests, folder)
    artifact = facts["artifact"]
    say(f"trained run-{number}: accuracy {facts['metrics'][0]['value']} on {facts['metrics'][0]['split']}, {artifact['digest']}")
    annals.emit("trained", facts, actor="pipeline")
    verdict = annals.emit(
        "registered",
        {
            "label": f"{number}.0",
            "run": f"run-{number}",
            "artifact": artifact,
            "algorithm": "LogisticRegression",
            "description": "iris species from four measurements in centimetres",
            "performance": facts["metrics"],
            "data": facts["data"],
            "labels": {
                "code.commit": facts["code"]["commit"],
                "code.dirty": str(facts["code"]["dirty"]).lower(),
                "environment.lockfile_digest": facts["environment"]["lockfile_digest"],
            },
        },
    )
    if verdict["version"] != number:
        raise Failure(f"run-{number} should have become version {number}: {verdict}")
    say(f"registered as version {number}, at position {verdict['position']}")
    return facts


def evaluate_and_approve(annals, version, facts):
    """Checks the version against the threshold; a second person approves these very bytes for production."""
    results = [
        {"metric": f"accuracy on {m['split']}", "value": m["value"], "threshold": ACCURACY_MIN, "passed": m["value"] >= ACCURACY_MIN}
        for m in facts["metrics"]
    ]
    if not all(r["passed"] for r in results):
        raise Failure(f"version {version} is not good enough: {results}")
    test = facts["data"][-1]  # the newest flowers
    annals.emit(
        "evaluated",
        {"suite": f"accuracy on {test['name']}", "dataset_digest": test["digest"], "results": results, "verdict": "passed"},
        version=version,
        actor="pipeline",
    )
    digest, approval = facts["artifact"]["digest"], f"iris-{version}-production"
    annals.emit("approval-requested", {"approval": approval, "channel": "production", "digest": digest}, version=version)
    decision = {"approval": approval, "decision": "approved", "digest": digest, "meaning": "release", "reason": "results and data were reviewed"}
    own = annals.emit("approval-decided", {**decision, "approver": {"id": "ada"}}, refused=True)
    say(f"refused, as it must be: {own['refusal']['message']}")
    grace = {"id": "grace", "name": "Grace", "role": "quality"}
    annals.emit("approval-decided", {**decision, "approver": grace}, actor="grace")


def promote(annals, version):
    """To staging, then to production; `champion` follows."""
    for channel in ("staging", "production"):
        reason = f"version {version} passed evaluation and review"
        annals.emit("promoted", {"channel": channel, "reason": reason}, version=version)
    annals.emit("alias-set", {"alias": "champion"}, version=version)


def deploy(annals, stack, version, deployment, artifact, digest):
    """Asks for the deployment, starts the scorer with these bytes, reports what became of it."""
    asked = {"deployment": deployment, "target": TARGET, "channel": "production"}
    annals.emit("deployment-requested", asked, version=version, actor="deployer")
    scorer = Scorer(artifact, digest)
    stack.callback(stop, scorer.process)
    if scorer.endpoint is None:
        say(f"the scorer did not start: {scorer.error}")
        annals.emit("deployment-failed", {"deployment": deployment, "error": scorer.error}, actor="deployer")
        return None
    say(f"version {version} is served at {scorer.endpoint}")
    served = {"kind": "served artifact", "uri": scorer.endpoint + "/health", "digest": scorer.digest}
    observed = {"endpoint": scorer.endpoint, "replicas_ready": 1}
    annals.emit("deployed", {"deployment": deployment, "observed": observed, "evidence": [served]}, actor="deployer")
    return scorer


def measure(annals, scorer, deployment, path, name):
    """Scores a data set through the deployed scorer and reports the accuracy; returns it with its window."""
    start = train.now()
    value, rows = scorer.accuracy(path)
    window = {"start": start, "end": train.now(), "n": rows}
    say(f"measured over HTTP: accuracy {value} on {name} ({rows} flowers)")
    annals.emit("measured", {"metric": "accuracy", "value": value, "window": window, "deployment": deployment}, actor="monitor")
    return value, window


def drift(annals, scorer, baseline, path):
    """The new season's flowers arrive, the accuracy falls, a new training is asked for."""
    observed, window = measure(annals, scorer, "iris-prod-1", path, "iris-shifted-test")
    if observed >= ACCURACY_MIN:
        raise Failure(f"the shifted data did not hurt: accuracy {observed}")
    drifted = {
        "drift": DRIFT,
        "kind": "performance",
        "metric": "accuracy",
        "baseline": baseline,
        "observed": observed,
        "threshold": ACCURACY_MIN,
        "window": window,
        "detector": "examples/iris/life.py",
        "severity": "high",
    }
    annals.emit("drifted", drifted, version=1, actor="monitor")
    annals.emit("retrain-requested", {"cause": {"kind": "drift", "drift": DRIFT}, "pipeline": "examples/iris/train.py"}, actor="monitor")


def life(annals, stack, work):
    """The whole story; returns two times: version 1 in production, version 2 in production."""
    data = train.write_data(work / "data")
    annals.emit("created", {"owner": "ada", "purpose": "names the species of an iris", "risk_tier": "low"})
    test = {"iris-test": data["iris-test"]}
    first = train_and_register(annals, 1, {"iris-train": data["iris-train"]}, test, work / "v1")
    evaluate_and_approve(annals, 1, first)
    promote(annals, 1)

    artifact, digest = work / "v1" / "model.pkl", first["artifact"]["digest"]
    damaged = work / "v1" / "damaged.pkl"
    damaged.write_bytes(artifact.read_bytes()[:-1] + b"?")
    if deploy(annals, stack, 1, "iris-prod-0", damaged, digest) is not None:
        raise Failure("the scorer served bytes that were never released")
    scorer = deploy(annals, stack, 1, "iris-prod-1", artifact, digest)
    baseline, _ = measure(annals, scorer, "iris-prod-1", data["iris-test"], "iris-test")
    then = train.now()

    drift(annals, scorer, baseline, data["iris-shifted-test"])
    both = {name: data[name] for name in ("iris-train", "iris-shifted-train")}
    tests = {name: data[name] for name in ("iris-test", "iris-shifted-test")}
    second = train_and_register(annals, 2, both, tests, work / "v2")
    evaluate_and_approve(annals, 2, second)
    promote(annals, 2)
    successor = deploy(annals, stack, 2, "iris-prod-2", work / "v2" / "model.pkl", second["artifact"]["digest"])
    stop(scorer.process)
    recovered, _ = measure(annals, successor, "iris-prod-2", data["iris-shifted-test"], "iris-shifted-test")
    if recovered < ACCURACY_MIN:
        raise Failure(f"version 2 did not recover: accuracy {recovered}")
    annals.emit("drift-resolved", {"drift": DRIFT, "reason": f"version 2 has accuracy {recovered}"}, actor="monitor")
    annals.emit("retired", {"reason": "drifted, and replaced by version 2", "successor": 2}, version=1)
    return then, train.now()


def answers(annals, then, later, export):
    """What the journal can be asked afterwards, and that it is whole."""
    annals.wait_for_views("/v1/models/iris", "/v1/models/iris/timeline", "/v1/models/iris/versions/2/lineage")
    say("\n== the timeline: every event of iris")
    annals.show("timeline", "iris")
    say("== what was in production at two times")
    for at, expected in ((then, 1), (later, 2)):
        annals.show("at", at, "--model", "iris", "--channel", "production")
        check_production(annals, at, expected)
    say("== the lineage of version 2: which data and code it came from, where it runs")
    annals.show("lineage", "iris", "2")
    say("== the journal as one file, checked record by record without the server")
    annals.show("export", str(export))
    annals.show("audit", "verify", str(export))


def check_production(annals, at, expected):
    """The answer must be the version that really was in production."""
    held = annals.ask("at", at, "--model", "iris", "--channel", "production")
    if held["version"] != expected:
        raise Failure(f"at {at} production should hold version {expected}: {held}")


def where(options, stack):
    """The arguments that put the engine on Kafka, in topics of its own which end with the example."""
    if not options.kafka:
        return []
    prefix = f"iris-{int(time.time())}-{os.getpid()}"
    kafka = ["--kafka", options.kafka, "--kafka-prefix", prefix]
    topics(options.annals, "create", *kafka, "--replication-factor", "1", "--min-insync-replicas", "1")
    if not options.keep:
        stack.callback(topics, options.annals, "delete", *kafka, "--yes")
    given = [("--schema-registry", options.schema_registry), ("--database", options.database)]
    return kafka + [word for flag, value in given if value for word in (flag, value)]


def main():
    """One temporary folder, one server, one life."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annals", required=True, help="the program")
    parser.add_argument("--keep", action="store_true", help="leave journal, models and export in place")
    parser.add_argument("--kafka", metavar="BOOTSTRAP", help="keep the journal on this Kafka, in new topics")
    parser.add_argument("--schema-registry", metavar="URL", help="register the events' schemas there")
    parser.add_argument("--database", metavar="URL", help="keep the views in this PostgreSQL database")
    options = parser.parse_args()

    def tell(work):
        with ExitStack() as stack:
            annals = stack.enter_context(serving(options.annals, work / "annals", where(options, stack)))
            then, later = life(annals, stack, work)
            answers(annals, then, later, work / "journal.ndjson")
        return "iris lived its whole life"

    return example("examples/iris/run", options.keep, tell)


if __name__ == "__main__":
    sys.exit(main())
