"""The raw records of the three topics, from a cluster or from a dump (JSON lines).

A cluster is read twice, from the first offset to the end: as `read_committed` readers see it, and with everything;
what only the second shows was aborted, or hangs in an open transaction.
"""

import base64
import json
import time
import uuid
from dataclasses import dataclass, field

TOPICS = ("proposals", "journal", "verdicts")
FORMAT = "annals.raw.v1"
QUIET_MAX_S = 60.0


@dataclass(frozen=True)
class Raw:
    """One record as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: tuple
    value: bytes

    def header(self, name):
        """The first header of this name as text, or None."""
        found = next((content for header, content in self.headers if header == name), None)
        return None if found is None else found.decode("utf-8", "replace")

    def place(self):
        """Where it is, for a person."""
        return f"{self.topic} {self.partition}@{self.offset}"


@dataclass
class Topics:
    """All that was read: committed records by topic and partition, in their order, and what surrounds them."""

    records: dict = field(default_factory=dict)  # (topic, partition) -> [Raw]
    partitions: dict = field(default_factory=dict)  # topic -> count
    begin: dict = field(default_factory=dict)  # (topic, partition) -> first offset
    uncommitted: dict = field(default_factory=dict)  # topic -> how many records only read_uncommitted shows

    def of(self, topic, partition):
        """The committed records of a partition."""
        return self.records.get((topic, partition), [])

    def add(self, raw):
        """Appends a record behind the others of its partition."""
        self.records.setdefault((raw.topic, raw.partition), []).append(raw)


def _text(content):
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _bytes(written):
    if isinstance(written, dict):
        return base64.b64decode(written["base64"])
    return None if written is None else written.encode()


def dump(topics, path):
    """Writes what was read, one record a line."""
    with open(path, "w", encoding="utf-8") as out:
        begin = [[topic, partition, offset] for (topic, partition), offset in sorted(topics.begin.items())]
        head = {"format": FORMAT, "partitions": topics.partitions, "begin": begin, "uncommitted": topics.uncommitted}
        out.write(json.dumps(head) + "\n")
        for _, records in sorted(topics.records.items()):
            for raw in records:
                line = {"topic": raw.topic, "partition": raw.partition, "offset": raw.offset, "timestamp": raw.timestamp}
                line |= {"key": _text(raw.key), "headers": [[n, _text(c)] for n, c in raw.headers], "value": _text(raw.value)}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")


def load(path):
    """Reads a dump."""
    with open(path, encoding="utf-8") as lines:
        head = json.loads(next(lines, "{}"))
        if head.get("format") != FORMAT:
            raise SystemExit(f"{path} is not a dump of the three topics ({FORMAT})")
        topics = Topics(partitions=head["partitions"], uncommitted=head["uncommitted"])
        topics.begin = {(topic, partition): offset for topic, partition, offset in head["begin"]}
        for line in map(json.loads, lines):
            headers = tuple((name, _bytes(content)) for name, content in line["headers"])
            where = (line["topic"], line["partition"], line["offset"], line["timestamp"])
            topics.add(Raw(*where, _bytes(line["key"]), headers, _bytes(line["value"]) or b""))
    return topics


def read(bootstrap, prefix, properties=None):
    """Reads the three topics of a cluster to their present ends."""
    topics = Topics(uncommitted=dict.fromkeys(TOPICS, 0))
    base = {"bootstrap.servers": bootstrap, **(properties or {})}
    for topic in TOPICS:
        committed = _read_topic(base, prefix, topic, "read_committed", topics)
        everything = _read_topic(base, prefix, topic, "read_uncommitted", topics)
        offsets = {(raw.partition, raw.offset) for raw in committed}
        topics.uncommitted[topic] = sum((raw.partition, raw.offset) not in offsets for raw in everything)
        for raw in committed:
            topics.add(raw)
    return topics


def _read_topic(base, prefix, topic, isolation, topics):
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

    own = {
        "group.id": f"checker-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": isolation,
        "auto.offset.reset": "error",
    }
    consumer = Consumer({**base, **own})
    name = f"{prefix}.{topic}"
    try:
        found = consumer.list_topics(name, timeout=30).topics[name]
        if found.error is not None:
            raise SystemExit(f"the topic {name} cannot be read: {found.error.str()}")
        partitions = sorted(found.partitions)
        topics.partitions[topic] = len(partitions)
        for p in partitions:
            topics.begin[(topic, p)] = consumer.get_watermark_offsets(TopicPartition(name, p), timeout=30)[0]
        consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in partitions])
        waiting, records, last = set(partitions), [], time.monotonic()
        while waiting:
            for message in consumer.consume(1000, 0.2):
                last = time.monotonic()
                if message.error() is None:
                    records.append(_raw(topic, message))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                else:
                    raise KafkaException(message.error())
            if time.monotonic() - last > QUIET_MAX_S:
                raise SystemExit(f"the topic {name} has no end: nothing came of partitions {sorted(waiting)} for {QUIET_MAX_S:.0f} s")
        return records
    finally:
        consumer.close()


def _raw(topic, message):
    headers = tuple((name, content if content is not None else b"") for name, content in message.headers() or [])
    _, timestamp = message.timestamp()
    return Raw(topic, message.partition(), message.offset(), timestamp, message.key(), headers, message.value() or b"")
