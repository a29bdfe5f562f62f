#!/usr/bin/env python3
"""Writes the forged history to a real cluster, with an aborted and an open transaction, and judges it from there.

  test_raw.py --bootstrap HOST:PORT
"""

import argparse
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from forge import PARTITIONS, good
from raw import TOPICS

HERE = Path(__file__).resolve().parent


def publish(bootstrap, prefix, topics):
    """Every record at its place; journal and verdicts in transactions of a few records."""
    plain = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    writer = Producer({"bootstrap.servers": bootstrap, "transactional.id": prefix, "log_level": 0})
    writer.init_transactions(30)

    def send(producer, raw, value=None):
        key, headers = raw.key, list(raw.headers)
        producer.produce(f"{prefix}.{raw.topic}", value or raw.value, key, raw.partition, timestamp=raw.timestamp, headers=headers)

    for partition in range(PARTITIONS):
        for raw in topics.of("proposals", partition):
            send(plain, raw)
    assert plain.flush(30) == 0
    written = [raw for topic in ("journal", "verdicts") for partition in range(PARTITIONS) for raw in topics.of(topic, partition)]
    for at in range(0, len(written), 10):
        writer.begin_transaction()
        send(writer, written[at], b"this is aborted")
        assert writer.flush(30) == 0  # or it would never leave the client
        writer.abort_transaction(30)
        writer.begin_transaction()
        for raw in written[at : at + 10]:
            send(writer, raw)
        writer.commit_transaction(30)
    writer.begin_transaction()
    send(writer, written[0], b"this hangs in an open transaction")
    assert writer.flush(30) == 0
    return writer


def run(*options):
    """check.py as a command: its exit code and its summary."""
    done = subprocess.run([sys.executable, "-B", str(HERE / "check.py"), *options], capture_output=True, text=True, timeout=300)
    return done.returncode, json.loads(done.stdout)


def main():
    """The good one is passed, from the cluster and from its dump; a tampered one is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    bootstrap, prefix, forge = parser.parse_args().bootstrap, f"t-{uuid.uuid4()}", good()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(f"{prefix}.{topic}", PARTITIONS, 1) for topic in TOPICS]).values():
        made.result(30)
    writer = publish(bootstrap, prefix, forge.topics)
    with tempfile.TemporaryDirectory() as folder:
        ledger, dump = Path(folder) / "ledger", Path(folder) / "dump"
        ledger.write_text("".join(json.dumps(line) + "\n" for line in forge.ledger), encoding="utf-8")
        cluster = ["--bootstrap", bootstrap, "--prefix", prefix]
        code, found = run(*cluster, "--ledger", str(ledger), "--dump", str(dump))
        print(json.dumps(found))
        assert code == 0 and found["ok"] and found["events"] == sum(len(forge.journal(p)) for p in range(PARTITIONS)), found
        assert found["uncommitted"]["journal"] > 2 and found["uncommitted"]["proposals"] == 0, found["uncommitted"]
        assert run("--from", str(dump), "--ledger", str(ledger)) == (code, found), "the dump is not what was read"
        writer.abort_transaction(30)
        last = forge.journal(0)[-1]
        foreign = Producer({"bootstrap.servers": bootstrap})
        foreign.produce(f"{prefix}.journal", last.value.replace(b"{", b"{ ", 1), last.key, 0, headers=list(last.headers))
        assert foreign.flush(30) == 0
        code, found = run(*cluster)
        assert code == 1 and found["findings"], found
        print("tampered:", found["findings"][0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
