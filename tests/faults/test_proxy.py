#!/usr/bin/env python3
"""Shows what the proxy does to a real Kafka client, and what a real broker makes of a late EndTxn.

  test_proxy.py --bootstrap HOST:PORT

Seen with Apache Kafka 4.4.0 and librdkafka 2.16.0 (EndTxn version 1: no KIP-890 part 2), and asserted in each run:
- Taken over: the commit ends with a local timeout (its retries are held as well), the successor's init_transactions
  takes half a second and aborts the old transaction. The EndTxn that comes later is refused (47,
  INVALID_PRODUCER_EPOCH), and the successor's open transaction stays whole. The epoch is a fence.
- Within one epoch: librdkafka sends EndTxn again by itself when the connection is cut, and reports a good commit. The
  first EndTxn, released into the next transaction, is taken (0) and commits what that one has written so far, before
  anybody asked; the next produce fails (INVALID_TXN_STATE). So half a transaction can be committed although no call
  ever failed: readers must take any prefix of a transaction, and nothing may hang on its being whole.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
DEADLINE_S = 60
QUIET = {"log_level": 0}


class Proxy:
    """A running proxy.py before one broker, and its control port."""

    def __init__(self, bootstrap, listen=0):
        command = [sys.executable, "-B", str(HERE / "proxy.py"), "--link", f"kafka={listen}:{bootstrap}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.bootstrap = f"127.0.0.1:{ready['links']['kafka']}"
        self.line = socket.create_connection(("127.0.0.1", ready["control"])).makefile("rw")

    def do(self, what, **members):
        """One command, and its answer."""
        self.line.write(json.dumps({"do": what, **members}) + "\n")
        self.line.flush()
        answer = json.loads(self.line.readline())
        assert "error" not in answer, answer
        return answer

    def stop(self):
        """Ends it."""
        self.process.stdin.close()
        self.process.wait(10)


def eventually(what, holds):
    """Polls until it holds; answers after how many seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < DEADLINE_S, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.02)
    return time.monotonic() - began


def new_topic(bootstrap):
    """A topic of one partition with a name of its own."""
    name = f"t-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # a name: the result dies with it
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


def committed(bootstrap, topic):
    """The values that a read_committed reader sees, and whether a transaction is still open behind them."""
    own = {"group.id": str(uuid.uuid4()), "enable.partition.eof": True, "isolation.level": "read_committed"}
    reader = Consumer({"bootstrap.servers": bootstrap, **own})
    reader.assign([TopicPartition(topic, 0, 0)])
    values, over = [], False
    while not over:
        for message in reader.consume(100, 1):
            if message.error() is None:
                values.append(message.value().decode())
            else:
                over = True
    reader.close()
    return values


def transactional(bootstrap, name):
    """A producer that took over its name."""
    own = {"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0, "transaction.timeout.ms": 20_000}
    producer = Producer({**own, **QUIET, "socket.timeout.ms": 5000, "reconnect.backoff.max.ms": 200})
    producer.init_transactions(30)
    return producer


def write(producer, topic, *values):
    """Some values in the open transaction, acknowledged by the broker."""
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def commit(producer, seconds):
    """Commits; the error's name, or `committed`."""
    try:
        producer.commit_transaction(seconds)
        return "committed"
    except KafkaException as error:
        return error.args[0].name()


def late_after_takeover(direct):
    """EndTxn held and cut; a new producer takes the name over and begins; then the EndTxn is released."""
    proxy, topic, name = Proxy(direct), new_topic(direct), f"x-{uuid.uuid4()}"
    old = transactional(proxy.bootstrap, name)
    old.begin_transaction()
    write(old, topic, "a1", "a2")
    proxy.do("hold", api_key=26, contains=name, cut=True, count=99)
    told = commit(old, 2)
    assert proxy.do("held")["held"], "no EndTxn was held"
    began = time.monotonic()
    new = transactional(direct, name)
    took = time.monotonic() - began
    new.begin_transaction()
    write(new, topic, "b1")
    released = proxy.do("release")["released"]
    between = committed(direct, topic)
    write(new, topic, "b2")
    last = commit(new, 30)
    facts = {"old commit": told, "takeover_s": round(took, 2), "errors": sorted({h["error"] for h in released if h["answered"]}, key=str)}
    facts |= {"read between": between, "new commit": last, "read at last": committed(direct, topic)}
    proxy.stop()
    return facts


def late_within_epoch(direct):
    """EndTxn held and cut; the same producer commits by trying again, begins anew; then the EndTxn is released."""
    proxy, topic, name = Proxy(direct), new_topic(direct), f"x-{uuid.uuid4()}"
    producer = transactional(proxy.bootstrap, name)
    producer.begin_transaction()
    write(producer, topic, "a1")
    proxy.do("hold", api_key=26, contains=name, cut=True, count=1)
    first = commit(producer, 30)
    producer.begin_transaction()
    write(producer, topic, "b1")
    released = proxy.do("release")["released"]
    between = committed(direct, topic)
    try:
        write(producer, topic, "b2")
        last = commit(producer, 30)
    except KafkaException as error:
        last = error.args[0].name()
    facts = {"first commit": first, "errors": [h["error"] for h in released], "version": [h["version"] for h in released]}
    facts |= {"read between": between, "second commit": last, "read at last": committed(direct, topic)}
    proxy.stop()
    return facts


def heals(direct):
    """Each fault stops a client, and it goes on by itself afterwards; how long that took, in seconds."""
    proxy, topic, took = Proxy(direct), new_topic(direct), {}
    own = {"bootstrap.servers": proxy.bootstrap, "linger.ms": 0, "enable.idempotence": True}
    producer = Producer({**own, **QUIET, "socket.timeout.ms": 2000, "reconnect.backoff.max.ms": 200, "message.timeout.ms": 60_000})
    write(producer, topic, "0")
    assert proxy.do("stats")["kafka"]["opened"] >= 2, "the client went round the proxy"
    faults = {
        "latency": {"do": "latency", "ms": 300},
        "reset": {"do": "reset"},
        "close": {"do": "close"},
        "stall up": {"do": "stall", "way": "up"},
        "stall down": {"do": "stall", "way": "down"},
        "swallow up": {"do": "swallow", "way": "up"},
        "swallow down": {"do": "swallow", "way": "down"},
    }
    for name, fault in faults.items():
        proxy.do(fault.pop("do"), **fault)
        seen, began = [], time.monotonic()
        producer.produce(topic, name, partition=0, on_delivery=lambda error, _, seen=seen: seen.append(error))
        passes = name in ("latency", "reset")
        while not seen and time.monotonic() - began < (DEADLINE_S if passes else 2.5):
            producer.poll(0.05)
        assert bool(seen) == passes, f"{name}: {'nothing came through' if passes else 'it came through'}"
        assert name != "latency" or time.monotonic() - began >= 0.6, "there was no latency"
        proxy.do("heal")
        healed = time.monotonic()
        while not seen and time.monotonic() - healed < DEADLINE_S:
            producer.poll(0.05)
        assert seen == [None], f"{name}: {seen}"
        took[name] = round(time.monotonic() - healed, 2)
    values = committed(direct, topic)
    assert values == ["0", *faults], values
    proxy.stop()
    return took


def main():
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    direct = parser.parse_args().bootstrap
    print("heals:", heals(direct))
    taken = late_after_takeover(direct)
    print("late EndTxn after a takeover:", taken)
    assert (taken["errors"], taken["read between"], taken["read at last"]) == ([47], [], ["b1", "b2"]), "the epoch is no fence"
    within = late_within_epoch(direct)
    print("late EndTxn within one epoch:", within)
    assert within["first commit"] == "committed" and within["errors"] == [0], within
    assert within["read between"] == ["a1", "b1"], "the late EndTxn did not hit the next transaction"
    return 0


if __name__ == "__main__":
    sys.exit(main())
