#!/usr/bin/env python3
"""Loads an engine with seeded lives of models, over HTTP and straight over Kafka, and writes down all that it was told.

Each attempt is a line of the ledger, written as soon as it is over: check.py and linear.py judge by it. Who gets no
answer, a 202 or a 503 tries again with the same id, at any of the URLs; a few give up, a few repeat what was accepted.

  load.py --url URL [--url URL] --ledger FILE [--seed N] [--clients N] [--models N] [--seconds S | --writes N]
          [--partitions N] [--kafka HOST:PORT --prefix PREFIX --kafka-clients N]
"""

import argparse
import http.client
import json
import random
import signal
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from frame import partition_of
from lives import Lives

REFUSED = (404, 409, 412)
UNSOUND = ("malformed", "unknown-type", "schema-violation", "too-large")
GIVE_UP, REPEAT, CONFLICT, CONDITION, READ = 0.05, 0.06, 0.02, 0.3, 0.35


class Ledger:
    """The file, one line per attempt, flushed at once: a killed load leaves a ledger that is true."""

    def __init__(self, path):
        self.file, self.lock = Path(path).open("a", encoding="utf-8"), threading.Lock()
        self.counts = {}

    def write(self, line):
        """Appends a line."""
        with self.lock:
            self.counts[line["outcome"]] = self.counts.get(line["outcome"], 0) + 1
            self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.file.flush()


class Doors:
    """Connections of one client to every URL, made anew after each failure."""

    def __init__(self, urls, timeout):
        self.urls, self.timeout, self.open = urls, timeout, {}

    def ask(self, url, method, path, body=None, headers=None):
        """Status, headers and JSON; status 0 where nothing came back."""
        try:
            if url not in self.open:
                where = urllib.parse.urlsplit(url)
                self.open[url] = http.client.HTTPConnection(where.hostname, where.port, timeout=self.timeout)
            self.open[url].request(method, path, body, headers or {})
            answer = self.open[url].getresponse()
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else {}
        except (OSError, http.client.HTTPException, ValueError):
            connection = self.open.pop(url, None)
            if connection is not None:
                connection.close()
            return 0, {}, {}


class HttpClient(threading.Thread):
    """One caller: proposes, tries again, reads what it wrote."""

    def __init__(self, number, options, keys, ledger, over):
        super().__init__(daemon=True)
        self.lives, self.ledger, self.over = Lives(options.seed, f"h{number}", keys), ledger, over
        self.random, self.doors = random.Random(f"{options.seed}/doors/{number}"), Doors(options.url, options.timeout)
        self.source, self.writes, self.patience = f"/load/{options.seed}/h{number}", options.writes, options.patience

    def run(self):
        """Until the time is over, or the writes are done."""
        done = 0
        while not self.over.is_set() and (self.writes is None or done < self.writes):
            if self.random.random() < READ:
                self.read()
            else:
                self.live()
                done += 1

    def live(self):
        """One proposal with all its attempts, and what may follow."""
        key, kind, version, data, sound = self.lives.next()
        known, text = self.lives.known[key], json.dumps(data, ensure_ascii=self.random.random() < 0.5)
        condition = known.modelseq if known.modelseq and self.random.random() < CONDITION else None
        op = {"op": "write", "via": "http", "key": key, "id": self.lives.unique(), "source": self.source}
        op |= {"type": f"dev.annals.{kind}.v1", "subject": f"{key}/{version}" if version else key, "data": text}
        op |= {"if_match": condition, "sound": sound}
        outcome = self.settle(op)
        if outcome in ("accepted", "duplicate"):
            if self.random.random() < REPEAT:
                self.settle(op)
            if self.random.random() < CONFLICT:
                self.attempt({**op, "data": json.dumps({**data, "reason": "another text"})})

    def settle(self, op):
        """Tries until there is an answer, patience ends or it gives up."""
        began, pause = time.monotonic(), 0.05
        while True:
            outcome = self.attempt(op)
            if outcome not in ("pending", "unavailable", "none") or self.random.random() < GIVE_UP:
                return outcome
            if time.monotonic() - began > self.patience:
                return outcome
            time.sleep(pause * (0.5 + self.random.random()))
            pause = min(pause * 2, 1.0)

    def attempt(self, op):
        """One request, and its line."""
        url = self.random.choice(self.doors.urls)
        event = {"specversion": "1.0", **{n: op[n] for n in ("id", "source", "type", "subject")}}
        body = json.dumps(event)[:-1] + ', "data": ' + op["data"] + "}"
        headers = {"Content-Type": "application/cloudevents+json"}
        if op["if_match"] is not None:
            headers["If-Match"] = f'"{op["if_match"]}"'
        start = time.monotonic()
        status, _, answer = self.doors.ask(url, "POST", "/v1/events", body.encode(), headers)
        line = {**op, "url": url, "start": start, "end": time.monotonic(), "status": status, "outcome": outcome_of(status, answer)}
        if line["outcome"] in ("accepted", "duplicate"):
            line |= {name: answer.get(name) for name in ("position", "modelseq", "version")}
            self.lives.known[op["key"]].learn(line["modelseq"], line["position"], line["version"])
        elif status >= 400:
            state = answer.get("state") or {}
            line |= {"code": answer.get("code"), "state_modelseq": state.get("modelseq")}
            self.lives.known[op["key"]].learn(state.get("modelseq"), None, state.get("versions"))
        self.ledger.write(line)
        return line["outcome"]

    def read(self):
        """A model as the view has it, mostly with the position of the last own write."""
        key = self.random.choice(self.lives.keys)
        known, url = self.lives.known[key], self.random.choice(self.doors.urls)
        position = known.position if self.random.random() < 0.8 else None
        headers = {"Annals-Min-Position": position} if position else {}
        workspace, model = key.split("/", 1)
        path = f"/v1/models/{urllib.parse.quote(model)}?workspace={urllib.parse.quote(workspace)}"
        line = {"op": "read", "via": "http", "key": key, "url": url, "min_position": position, "start": time.monotonic()}
        status, found, answer = self.doors.ask(url, "GET", path, None, headers)
        line |= {"end": time.monotonic(), "status": status, "outcome": f"read {status}", "modelseq": None}
        if status == 200:
            line |= {"modelseq": int(found["ETag"].strip('"')), "versions": answer["versions"], "channels": answer["channels"]}
            known.learn(line["modelseq"], None, line["versions"])
        self.ledger.write(line)


def outcome_of(status, answer):
    """The word for an answer."""
    named = {201: "accepted", 200: "duplicate", 202: "pending", 503: "unavailable"}
    if status in named:
        return named[status]
    if answer.get("code") in UNSOUND:
        return "malformed"
    if status in REFUSED or answer.get("code") == "id-conflict":
        return "refused"
    return "none"


class KafkaClient(threading.Thread):
    """A pipeline with its own Kafka client: the acknowledgement only says that it is proposed."""

    def __init__(self, number, options, keys, ledger, over):
        super().__init__(daemon=True)
        from confluent_kafka import Producer

        own = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 2, "delivery.timeout.ms": 120_000}
        self.producer = Producer({"bootstrap.servers": options.kafka, **own, **dict(options.property)})
        self.lives, self.ledger, self.over = Lives(options.seed, f"k{number}", keys), ledger, over
        self.random, self.topic = random.Random(f"{options.seed}/kafka/{number}"), f"{options.prefix}.proposals"
        self.source, self.writes, self.rate = f"/load/{options.seed}/k{number}", options.writes, options.kafka_rate

    def run(self):
        """Until the time is over; then waits for every acknowledgement."""
        done = 0
        while not self.over.is_set() and (self.writes is None or done < self.writes):
            key, kind, version, data, sound = self.lives.next()
            text = json.dumps(data)
            op = {"op": "write", "via": "kafka", "key": key, "id": self.lives.unique(), "source": self.source, "sound": sound}
            op |= {"type": f"dev.annals.{kind}.v1", "subject": f"{key}/{version}" if version else key, "data": text}
            for _ in range(2 if self.random.random() < REPEAT else 1):
                self.propose(op)
            if self.random.random() < 0.1:  # it learns nothing, so it guesses
                self.lives.known[key].versions += 1
            done += 1
            self.producer.poll(1 / self.rate)
        self.producer.flush(130)

    def propose(self, op):
        """One message in binary mode; the line is written when it is acknowledged, or is not."""
        headers = [("content-type", b"application/json"), ("ce_specversion", b"1.0")]
        headers += [(f"ce_{name}", op[name].encode()) for name in ("id", "source", "type", "subject")]
        start = time.monotonic()

        def acknowledged(error, message):
            line = {**op, "start": start, "end": time.monotonic(), "outcome": "none" if error else "pending"}
            if error is None:
                line |= {"partition": message.partition(), "offset": message.offset()}
            self.ledger.write(line)

        self.producer.produce(self.topic, op["data"].encode(), op["key"].encode(), headers=headers, on_delivery=acknowledged)


def arguments():
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", default=[], help="of an engine; several: each attempt takes one")
    parser.add_argument("--ledger", required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8, help="over HTTP")
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--partitions", type=int, help="of the journal: each client keeps to the models of one, and waits for no other")
    parser.add_argument("--seconds", type=float, help="how long; a signal ends it as well")
    parser.add_argument("--writes", type=int, help="proposals of each client")
    parser.add_argument("--timeout", type=float, default=10, help="of one request, in seconds")
    parser.add_argument("--patience", type=float, default=60, help="for one proposal with all its attempts, in seconds")
    parser.add_argument("--kafka", metavar="HOST:PORT")
    parser.add_argument("--prefix", default="annals")
    parser.add_argument("--property", action="append", default=[], type=lambda text: text.split("=", 1), metavar="KEY=VALUE")
    parser.add_argument("--kafka-clients", type=int, default=0)
    parser.add_argument("--kafka-rate", type=float, default=50, help="proposals a second of each Kafka client")
    return parser.parse_args()


def keys_of(options):
    """The models, in one share or in one for each partition."""
    shares, n = [[] for _ in range(options.partitions or 1)], 0
    each = -(-options.models // len(shares))
    while any(len(share) < each for share in shares):
        key = f"{'default' if n % 4 else 'lab'}/m-{options.seed}-{n}"
        share = shares[partition_of(key.encode(), len(shares))]
        share += [key] if len(share) < each else []
        n += 1
    return shares


def main():
    """Starts the clients, waits, says what came of it."""
    options = arguments()
    over, ledger = threading.Event(), Ledger(options.ledger)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    shares = keys_of(options)
    clients = [HttpClient(n, options, shares[n % len(shares)], ledger, over) for n in range(options.clients if options.url else 0)]
    everything = [key for share in shares for key in share]
    clients += [KafkaClient(n, options, everything, ledger, over) for n in range(options.kafka_clients if options.kafka else 0)]
    began = time.monotonic()
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        time.sleep(0.1)
        if options.seconds is not None and time.monotonic() - began > options.seconds:
            over.set()
    print(json.dumps({"seconds": round(time.monotonic() - began, 3), "outcomes": dict(sorted(ledger.counts.items()))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
