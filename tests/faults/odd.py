#!/usr/bin/env python3
"""A load over Kafka with a wrong partitioner, without keys and with garbage among it: each is answered with its remedy.

Sound proposals, over HTTP and over Kafka, go on beside them; the history is what it would be without the odd ones.
"""

import json
import random
import sys
import time

import raw
from frame import partition_of
from kills import counted
from stage import Engine, Failure, Load, Stage, eventually, main

GARBAGE = [
    (b"garbage \x00 not json", []),
    (b"\xff\xfe{", "sound"),
    (None, "sound"),
    (b"[1, 2, 3]", "sound"),
    (b'{"owner": "ada"', "sound"),
    (b"{}", [("content-type", b"application/cloudevents+json")]),
    (b'{"specversion": "1.0", "id": 7}', [("content-type", b"application/cloudevents+json")]),
    (b"{}", [("ce_id", b"twice"), ("ce_id", b"twice"), ("ce_source", b"/odd"), ("ce_specversion", b"1.0")]),
    (b"{}", [("ce_id", b"\xff"), ("ce_source", b"/odd"), ("ce_specversion", b"1.0")]),
    (b"{" * 2_000, "sound"),
]


class Odd:
    """Sends what no pipeline should, and remembers what must be the answer."""

    def __init__(self, stage, seed):
        from confluent_kafka import Producer

        # what librdkafka does unless it is told otherwise
        self.producer = Producer({"bootstrap.servers": stage.bootstrap, "partitioner": "consistent_random", "linger.ms": 2})
        self.topic, self.partitions, self.seed = f"{stage.prefix}.proposals", stage.partitions, seed
        self.random, self.count, self.expected = random.Random(f"{seed}/odd"), 0, {}

    def one(self):
        """One message of some kind."""
        self.count += 1
        kind = self.random.choice(("crc32", "no key", "garbage", "other key"))
        key = f"default/m-{self.seed}-{self.random.randrange(24)}"
        headers, value = self.headers(key), json.dumps({"metric": "accuracy", "value": self.count}).encode()
        if kind == "crc32":
            self.send(key, value, headers, lambda sent: self.by_partition(key, sent))
        elif kind == "no key":
            self.send(None, value, headers, lambda _: ("malformed", None))
        elif kind == "other key":
            self.send("default/somebody-else", value, headers, lambda _: ("malformed", None))
        else:
            value, own = self.random.choice(GARBAGE)
            self.send(key, value, headers if own == "sound" else own, lambda _: ("malformed", None))

    def headers(self, key):
        """Those of a sound measurement."""
        fields = {"id": f"odd-{self.seed}-{self.count}", "source": "/odd", "type": "dev.annals.model.measured.v1", "subject": key, "specversion": "1.0"}
        return [("content-type", b"application/json"), *((f"ce_{name}", text.encode()) for name, text in fields.items())]

    def by_partition(self, key, sent):
        """CRC32 and murmur2 sometimes agree."""
        right = partition_of(key.encode(), self.partitions) == sent.partition()
        return (None, None) if right else ("refused", "wrong-partition")

    def send(self, key, value, headers, expected):
        def delivered(error, sent):
            if error is not None:
                raise Failure(f"an odd message was not taken: {error}")
            self.expected[(sent.partition(), sent.offset())] = expected(sent)

        self.producer.produce(self.topic, value, key, headers=headers, on_delivery=delivered)
        self.producer.poll(0)


def odd(options):
    """The odd ones among a sound load, then the judges."""
    with Stage(options.annals, options.kafka) as stage:
        engines = [Engine(stage, name).ready() for name in ("one", "two")]
        flags = ["--seed", str(options.seed), "--clients", "8", "--models", "24", "--partitions", "6"]
        flags += ["--kafka", options.kafka, "--prefix", stage.prefix, "--kafka-clients", "2", "--kafka-rate", "30"]
        load = Load(stage, [engine.url for engine in engines], *flags)
        eventually("the load is accepted", lambda: load.accepted() > 50)
        sender = Odd(stage, options.seed)
        for _ in range(options.messages):
            sender.one()
            time.sleep(0.005)  # among the others, not all at once
        sender.producer.flush(60)
        before = load.accepted()
        eventually("sound proposals go on", lambda: load.accepted() > before + 20)
        load.end()
        found = stage.judge(load)
        answered = answers(stage, sender.expected)
        codes = {engine.name: engine.end() for engine in engines}
        if any(codes.values()):
            raise Failure(f"exit codes after SIGTERM: {codes}")
        return {"odd": answered, **counted(found)}


def answers(stage, expected):
    """Every odd message has its verdict with a remedy; counts them by outcome."""
    topics, counts = raw.read(stage.bootstrap, stage.prefix), {}
    bodies = {}
    for partition in range(stage.partitions):
        bodies |= {(partition, body["src"]): body for body in (json.loads(record.value) for record in topics.of("verdicts", partition))}
    for place, (outcome, code) in sorted(expected.items()):
        body = bodies.get(place)
        if body is None:
            raise Failure(f"the odd message at {place} has no verdict")
        if outcome is not None and (body["outcome"] != outcome or (code and body["code"] != code)):
            raise Failure(f"the odd message at {place} should be {outcome} ({code}): {body}")
        if outcome is not None and not body.get("remedy"):
            raise Failure(f"the verdict on {place} names no remedy: {body}")
        name = body.get("code") or body["outcome"]
        counts[name] = counts.get(name, 0) + 1
    if counts.get("wrong-partition", 0) == 0 or sum(counts.values()) != len(expected):
        raise Failure(f"the partitioners did not differ, so this test shows nothing: {counts}")
    return counts


if __name__ == "__main__":
    sys.exit(main(__doc__, odd, messages=600))
