"""A pipeline with its own Kafka client: publishes, reads its verdicts, and hears of the promotion.

    pip install confluent-kafka
    python pipeline.py BOOTSTRAP [PREFIX] [MODEL]

An acknowledgement from Kafka means *proposed*. What became of it is the verdict, in the same partition
of PREFIX.verdicts; what was accepted is history. Nothing here knows of Annals but the topics' names.
"""

import json
import sys
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

WAIT_S = 60
SOURCE = "/pipelines/example"


class Pipeline:
    """Proposes events and waits for their verdicts."""

    def __init__(self, bootstrap, prefix="annals"):
        self.bootstrap, self.prefix = bootstrap, prefix
        # murmur2 as in Java's client: librdkafka's own default puts the key into another partition,
        # and Annals refuses what lies in the wrong one
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
        )
        self.verdicts = self.consumer(f"{SOURCE}-{uuid.uuid4()}")
        topic = self.verdicts.list_topics(f"{prefix}.verdicts", timeout=WAIT_S).topics[f"{prefix}.verdicts"]
        # from now on: a verdict may be there before Kafka has acknowledged its proposal to us
        self.begin = {p: self.verdicts.get_watermark_offsets(TopicPartition(f"{prefix}.verdicts", p))[1] for p in topic.partitions}

    def consumer(self, group, **settings):
        """A consumer that sees only what was committed."""
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                **settings,
            }
        )

    def propose(self, kind, subject, data, event_id=None):
        """Publishes one event and returns its verdict. Send it again with the same id after any doubt."""
        event_id = event_id or str(uuid.uuid4())
        delivered = []
        self.producer.produce(
            f"{self.prefix}.proposals",
            key="/".join(subject.split("/")[:2]),
            value=json.dumps(data),
            headers={
                "content-type": "application/json",
                "ce_specversion": "1.0",
                "ce_id": event_id,
                "ce_source": SOURCE,
                "ce_type": f"dev.annals.{kind}.v1",
                "ce_subject": subject,
            },
            on_delivery=lambda error, message: delivered.append((error, message)),
        )
        self.producer.flush(WAIT_S)
        error, message = delivered[0]
        if error:
            raise RuntimeError(f"Kafka did not take the event: {error}")
        return self.verdict(message.partition(), message.offset())

    def verdict(self, partition, offset):
        """The verdict on the proposal at this place."""
        self.verdicts.assign([TopicPartition(f"{self.prefix}.verdicts", partition, self.begin[partition])])
        while True:
            message = self.verdicts.poll(WAIT_S)
            if message is None:
                raise RuntimeError("no verdict came: is an engine with the role `arbiter` running?")
            if message.error():
                raise RuntimeError(message.error())
            verdict = json.loads(message.value())
            if verdict["src"] == offset:
                return verdict

    def promotions(self, group):
        """Promotions as they come, each at least once and with an id that never changes."""
        consumer = self.consumer(group)
        consumer.subscribe([f"{self.prefix}.promotions"])
        while True:
            message = consumer.poll(WAIT_S)
            if message is None:
                raise RuntimeError("no promotion came: is an engine with the role `publisher` running?")
            if message.error():
                raise RuntimeError(message.error())
            headers = {name: value.decode() for name, value in message.headers()}
            yield headers["ce_id"], headers["ce_type"], headers["ce_subject"], json.loads(message.value())
            consumer.commit(message)  # only now: what was not handled comes again


def main():
    """Registers a version, promotes it, and hears of it."""
    bootstrap, prefix, model = (sys.argv[1:] + ["annals", "python-iris"][len(sys.argv) - 2 :])[:3]
    pipeline = Pipeline(bootstrap, prefix)
    artifact = {"uri": f"s3://models/{model}/1.pkl", "digest": "sha256:" + "0" * 63 + "1", "format": "joblib"}
    registered = pipeline.propose("version.registered", f"default/{model}", {"artifact": artifact})
    print(json.dumps(registered))
    version = registered["version"]
    print(json.dumps(pipeline.propose("version.promoted", f"default/{model}/{version}", {"channel": "staging"})))
    print(json.dumps(pipeline.propose("version.promoted", f"default/{model}/99", {"channel": "staging"})))
    for event_id, kind, subject, value in pipeline.promotions(f"{SOURCE}-{uuid.uuid4()}"):
        if subject == f"default/{model}/{version}":
            print(json.dumps({"heard": kind, "id": event_id, "subject": subject, "decided": value["decided"]}))
            return


if __name__ == "__main__":
    main()
