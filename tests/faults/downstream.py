#!/usr/bin/env python3
"""Engine, webhook receiver, subscriber and Kubernetes' API server killed at random while versions are promoted.

Each promotion reaches the webhook and the named subscriber at least once, those of a model in order, nothing is skipped;
on the cluster no promotion is applied over a newer one, and in the end each Deployment is what production holds.
The engine is embedded; with --instances 2 there are two on Kafka, with PostgreSQL, and one of them is killed.
"""

import base64
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from ruamel.yaml import YAML

from stage import HERE, Engine, Failure, Service, Stage, eventually, free_port, main

MODELS, VERSIONS = 6, 5
RULE = {
    "when": {"type": ["promoted"], "model": "m*", "channel": "production"},
    "do": {"kubernetes": {"cluster": "here", "namespace": "default", "image": "scorer:{version}", "deadline_s": 120}},
}
SETTLE_S = 300


class Cluster:
    """What the API server has, asked over HTTPS as its kubeconfig says; no client library of ours."""

    def __init__(self, kubeconfig, folder):
        config = YAML(typ="safe").load(Path(kubeconfig))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        paths = []
        for name in ("client-certificate-data", "client-key-data"):
            paths.append(folder / name)
            paths[-1].write_bytes(base64.b64decode(user[name]))
        context.load_cert_chain(*paths)
        self.context = context

    def deployments(self):
        """By name: annotations and image; nothing while it is away."""
        try:
            with urllib.request.urlopen(f"{self.server}/apis/apps/v1/namespaces/default/deployments", timeout=5, context=self.context) as answer:
                items = json.load(answer)["items"]
        except OSError:
            return {}
        image = lambda item: item["spec"]["template"]["spec"]["containers"][0]["image"]  # noqa: E731
        return {item["metadata"]["name"]: (item["metadata"].get("annotations", {}), image(item)) for item in items}


class Watch(threading.Thread):
    """Looks again and again, and notes every step back."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.seen, self.wrong, self.looks = cluster, {}, [], 0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(0.05):
            for name, (annotations, image) in self.cluster.deployments().items():
                sequence = int(annotations.get("annals.dev/modelseq", 0))
                if sequence < self.seen.get(name, 0):
                    self.wrong.append(f"{name} went back from {self.seen[name]} to {sequence} ({image})")
                self.seen[name] = sequence
                self.looks += 1


class Publisher(threading.Thread):
    """Promotes one version after the other, at whoever answers, each until it is told that it is accepted."""

    def __init__(self, engines, chance):
        super().__init__(daemon=True)
        self.engines, self.chance = engines, chance
        self.accepted = []  # (id, model, version), in the order of each model
        self.stopping, self.failure = threading.Event(), None
        self.held = {}

    def run(self):
        try:
            for model in range(MODELS):
                for version in range(1, VERSIONS + 1):
                    data = {"artifact": {"digest": f"sha256:{model * 100 + version:064x}"}, "label": f"l{version}"}
                    self.send("version.registered", f"default/m{model}", f"r-{model}-{version}", data)
            count = 0
            while not self.stopping.wait(0.02):
                model = self.chance.randrange(MODELS)
                version = self.chance.choice([v for v in range(1, VERSIONS + 1) if v != self.held.get(model)])
                count += 1
                name = f"p-{count}"
                self.send("version.promoted", f"default/m{model}/{version}", name, {"channel": "production"})
                self.held[model] = version
                self.accepted.append((name, f"m{model}", version))
        except Failure as failure:
            self.failure = failure

    def send(self, kind, subject, name, data):
        """One proposal, under one id."""
        event = {"specversion": "1.0", "id": name, "source": "/test", "type": f"dev.annals.{kind}.v1", "subject": subject, "data": data}

        def told():
            for engine in self.engines:
                status, answer = engine.ask("/v1/events", json.dumps(event).encode(), content_type="application/cloudevents+json")
                if status in (200, 201):
                    return True
                if status not in (0, 202, 503):
                    raise Failure(f"{name} is refused: {answer}")
            return False

        eventually(f"{name} is accepted", told)


class Follower:
    """`annals subscribe` with a name and a command that writes down what it was given."""

    def __init__(self, stage, url):
        self.stage, self.url, self.ledger = stage, url, stage.folder / "followed"
        self.log = (stage.folder / "follower.log").open("ab")
        stage.loads.append(self)
        self.start()

    def start(self):
        """From where it was, or from the beginning."""
        write = f"import json,os,sys; e=json.load(sys.stdin); f=open({str(self.ledger)!r},'a'); f.write(json.dumps({{'id':e['id'],'subject':e['subject'],'modelseq':int(e['modelseq'])}})+chr(10)); f.flush(); os.fsync(f.fileno())"
        command = [self.stage.annals, "subscribe", "--url", self.url, "--name", "follower", "--type", "promoted", "--from", "beginning"]
        command += ["--exec", sys.executable, "--", "-S", "-c", write]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def again(self):
        """kill -9, or after it has ended by itself."""
        self.process.kill()
        self.process.wait()
        self.start()


def downstream(options):
    """The rounds, then the judgement."""
    with tempfile.TemporaryDirectory(prefix="annals-downstream-") as folder:
        with Service(folder, "kubernetes") as kubernetes:
            if options.instances == 1:
                with Stage(options.annals, None) as stage:
                    return rounds(options, stage, kubernetes, [])
            with Service(folder, "postgres") as database, Stage(options.annals, options.kafka) as stage:
                return rounds(options, stage, kubernetes, ["--database", database.address])


def rounds(options, stage, kubernetes, flags):
    """Kills one of them in each round, and waits until that one is back."""
    chance = random.Random(options.seed)
    ports, hook = [free_port() for _ in range(options.instances)], free_port()
    flags = [*flags, "--kubernetes", f"here={kubernetes.address}", "--webhook-allow", "127.0.0.0/8"]
    engines = [Engine(stage, f"engine-{n}", *flags, port=port) for n, port in enumerate(ports)]
    for engine in engines:
        engine.ready()
    receiver = Receiver(stage, hook)
    put(engines[0], "/v1/webhooks/ours", {"url": f"http://127.0.0.1:{hook}/", "when": {"type": ["promoted"]}})
    put(engines[0], "/v1/triggers/deploy", RULE)
    follower = Follower(stage, f"http://127.0.0.1:{ports[0]}")
    watch, publisher = Watch(Cluster(kubernetes.address, stage.folder)), Publisher(engines, chance)
    watch.start()
    publisher.start()
    eventually("promotions are accepted", lambda: len(publisher.accepted) > 20 or publisher.failure)
    for _ in range(options.rounds):
        time.sleep(chance.uniform(0.2, 2.0))  # a random point, not a wait for something
        match chance.choice(["engine", "engine", "receiver", "cluster", "follower"]):
            case "engine":
                n = chance.randrange(len(engines))
                engines[n].kill()
                engines[n] = Engine(stage, f"engine-{n}", *flags, port=ports[n]).ready()
            case "receiver":
                receiver.again()
            case "cluster":
                kubernetes.do("kill", kubernetes.folder)
                kubernetes.do("up", kubernetes.folder)
            case "follower":
                follower.again()
        before = len(publisher.accepted)
        eventually("promotions go on", lambda before=before: len(publisher.accepted) > before or publisher.failure)
    publisher.stopping.set()
    publisher.join()
    if publisher.failure:
        raise publisher.failure
    return judged(stage, engines, receiver, follower, watch, publisher)


def judged(stage, engines, receiver, follower, watch, publisher):
    """Everything arrived, in order, and the cluster is what production holds."""
    history = [json.loads(line) for line in stage.run("replay", "--url", engines[0].url, "--type", "promoted").splitlines()]
    events = {event["id"]: int(event["modelseq"]) for event in history}
    if missing := [name for name, *_ in publisher.accepted if name not in events]:
        raise Failure(f"accepted, and not in the journal: {missing[:5]}")
    # a delivery that failed twice waits for minutes: an operator would not
    stage.run("webhook", "replay", "ours", "--waiting", "--url", engines[0].url)
    copies = {}
    for name, ledger in (("webhook", receiver.ledger), ("subscriber", follower.ledger)):
        took = lambda ledger=ledger: lines(ledger)  # noqa: E731
        eventually(f"the {name} has everything", lambda took=took: {line["id"] for line in took()} >= events.keys(), SETTLE_S)
        copies[name] = len(took()) - len(events)
        if wrong := out_of_order(took()):
            raise Failure(f"the {name} got a model's promotions out of order: {wrong[:5]}")
    wanted = {f"{model}-production": f"scorer:{version}" for _, model, version in publisher.accepted}
    found = lambda: {name: image for name, (_, image) in watch.cluster.deployments().items() if name in wanted}  # noqa: E731
    eventually("the cluster is what production holds", lambda: found() == wanted, SETTLE_S)
    eventually("the view says so", lambda: all_in_sync(engines[0], len(wanted)), SETTLE_S)
    watch.stopping.set()
    watch.join()
    if watch.wrong:
        raise Failure(f"an older promotion was applied over a newer one: {watch.wrong[:5]}")
    if watch.looks == 0:
        raise Failure("nobody ever saw a Deployment")
    codes = {engine.name: engine.end() for engine in engines}
    if any(codes.values()):
        raise Failure(f"exit codes after SIGTERM: {codes}")
    return {"promotions": len(events), "copies": copies, "looks": watch.looks}


class Receiver:
    """A running receiver.py."""

    def __init__(self, stage, port):
        self.port, self.ledger = port, stage.folder / "received"
        stage.loads.append(self)
        self.start()

    def start(self):
        """At its port."""
        command = [sys.executable, "-B", HERE / "receiver.py", "--port", str(self.port), "--ledger", self.ledger]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def again(self):
        """kill -9, and a new one."""
        self.process.kill()
        self.process.wait()
        self.start()


def put(engine, path, body):
    """Makes a rule."""
    request = urllib.request.Request(engine.url + path, json.dumps(body).encode(), {"content-type": "application/json"}, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise Failure(f"PUT {path}: {error.code} {error.read().decode()}") from None


def lines(ledger):
    """Whole lines of a file that may be being written."""
    text = ledger.read_text(encoding="utf-8") if ledger.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def out_of_order(took):
    """Where an event came for the first time behind a later one of its model."""
    last, seen, wrong = {}, set(), []
    for line in took:
        model = line["subject"].split("/")[1]
        if line["id"] not in seen:
            seen.add(line["id"])
            if line["modelseq"] < last.get(model, 0):
                wrong.append(line)
            last[model] = max(last.get(model, 0), line["modelseq"])
    return wrong


def all_in_sync(engine, count):
    """Whether each target is found as it is wanted."""
    status, answer = engine.ask("/v1/deployments?channel=production")
    rows = answer.get("items", [])
    return status == 200 and len(rows) >= count and all(row["state"] == "in-sync" for row in rows)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main(__doc__, downstream, rounds=20, instances=1))
