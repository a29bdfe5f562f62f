"""Sends what no pipeline should to PREFIX.proposals, and prints each verdict as a line of JSON."""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

WAIT_S = 60


def good(event_id, kind="model.created", subject="default/odd"):
    """The headers of a proposal that is as it should be."""
    return {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": "/odd",
        "ce_type": f"dev.annals.{kind}.v1",
        "ce_subject": subject,
    }


def structured(event_id):
    """A whole CloudEvent as the value."""
    event = {"specversion": "1.0", "id": event_id, "source": "/odd", "type": "dev.annals.model.created.v1", "subject": "default/whole", "data": {}}
    return json.dumps(event)


def main():
    """One message at a time, so that the verdicts are in this order."""
    bootstrap, prefix = sys.argv[1:]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "odd", "isolation.level": "read_committed"})
    partitions = consumer.list_topics(f"{prefix}.verdicts", timeout=WAIT_S).topics[f"{prefix}.verdicts"].partitions
    murmur = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    crc = Producer({"bootstrap.servers": bootstrap, "partitioner": "consistent_random"})
    messages = [
        ("right", murmur, {"key": "default/odd", "value": "{}", "headers": good("right")}),
        ("structured", murmur, {"key": "default/whole", "value": structured("structured"), "headers": {"content-type": "application/cloudevents+json"}}),
        # the two partitioners differ for this key, which the test asserts by the verdict
        *[(f"crc-{n}", crc, {"key": f"default/crc-{n}", "value": "{}", "headers": good(f"crc-{n}", subject=f"default/crc-{n}")}) for n in range(8)],
        ("no-key", murmur, {"value": "{}", "headers": good("no-key", subject="default/unkeyed"), "partition": 0}),
        ("no-headers", murmur, {"key": "default/odd", "value": "garbage \x00 not json"}),
        ("not-json", murmur, {"key": "default/odd", "value": b"\xff\xfe{", "headers": good("not-json")}),
        ("null", murmur, {"key": "default/odd", "value": None, "headers": good("null")}),
        ("framed", murmur, {"key": "default/odd", "value": b"\x00\x00\x00\x00\x07" + b'{"metric":"m","value":1}', "headers": good("framed", "model.measured")}),
        ("too-large", murmur, {"key": "default/odd", "value": json.dumps({"description": "x" * 300_000}), "headers": good("too-large")}),
        ("unknown-type", murmur, {"key": "default/odd", "value": "{}", "headers": good("unknown-type", "model.exploded")}),
        ("engines-own", murmur, {"key": "_control/0", "value": "{}", "headers": good("engines-own", "journal.opened", "_control/0"), "partition": 0}),
    ]
    for name, producer, message in messages:
        delivered = []
        producer.produce(f"{prefix}.proposals", on_delivery=lambda error, sent: delivered.append((error, sent)), **message)
        producer.flush(WAIT_S)
        error, sent = delivered[0]
        assert error is None, error
        consumer.assign([TopicPartition(f"{prefix}.verdicts", p, 0) for p in partitions if p == sent.partition()])
        deadline = time.monotonic() + WAIT_S
        while True:
            assert time.monotonic() < deadline, f"no verdict on {name}"
            found = consumer.poll(1)
            if found is None or found.error():
                continue
            verdict = json.loads(found.value())
            if verdict["src"] == sent.offset():
                print(json.dumps({"name": name, **verdict}))
                break


if __name__ == "__main__":
    main()
