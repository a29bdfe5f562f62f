"""The topics of a stage past the engine: their ends, what can be deleted in them, and what anybody can write into them."""

import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chain import read_event
from frame import record_hash, rfc3339
from raw import Raw
from stage import Failure, eventually

ASK_S = 30


class Topics:
    """What somebody with rights on the whole cluster can do."""

    def __init__(self, stage):
        self.stage, self.base = stage, {"bootstrap.servers": stage.bootstrap}
        self.admin = AdminClient(self.base)

    def name(self, word):
        """The whole name of a topic."""
        return f"{self.stage.prefix}.{word}"

    def end(self, word, partition):
        """Behind the last message or marker."""
        consumer = Consumer({**self.base, "group.id": "faults"})
        try:
            return consumer.get_watermark_offsets(TopicPartition(self.name(word), partition), timeout=ASK_S)[1]
        finally:
            consumer.close()

    def truncate(self, word, partition, before=None):
        """Deletes the records before an offset, or all."""
        at = self.end(word, partition) if before is None else before
        asked = self.admin.delete_records([TopicPartition(self.name(word), partition, at)], request_timeout=ASK_S)
        for future in asked.values():
            future.result()

    def delete(self, word):
        """Deletes a topic, and waits until nobody sees it."""
        for future in self.admin.delete_topics([self.name(word)], operation_timeout=ASK_S).values():
            future.result()
        eventually(f"{word} is gone", lambda: self.name(word) not in self.admin.list_topics(timeout=ASK_S).topics)

    def create(self, word, partitions=None):
        """Makes a topic as somebody would who does not know `annals topics create`."""

        def made():
            topic = NewTopic(self.name(word), partitions or self.stage.partitions, 1)
            try:
                for future in self.admin.create_topics([topic], operation_timeout=ASK_S).values():
                    future.result()
            except KafkaException as error:
                if error.args[0].name() == "TOPIC_ALREADY_EXISTS":  # the one that is being deleted
                    return False
                raise
            return True

        eventually(f"{word} is made", made)
        eventually(f"{word} has leaders", lambda: self.leads(word))

    def leads(self, word):
        """Whether every partition of a topic answers."""
        try:
            return all(self.end(word, partition) >= 0 for partition in range(self.stage.partitions))
        except KafkaException:
            return False

    def send(self, word, partition, key, value, headers, timestamp=None):
        """One message, without a transaction; answers its offset."""
        sent = []
        producer = Producer({**self.base, "acks": "all"})
        at = {"timestamp": timestamp} if timestamp is not None else {}
        producer.produce(self.name(word), value, key, partition, headers=list(headers), on_delivery=lambda *told: sent.append(told), **at)
        producer.flush(ASK_S)
        if not sent or sent[0][0] is not None:
            raise Failure(f"nothing could be written to {word}: {sent and sent[0][0]}")
        return sent[0][1].offset()

    def last_event(self, partition):
        """The last committed record of the journal."""
        consumer = Consumer({**self.base, "group.id": "faults", "isolation.level": "read_committed", "enable.partition.eof": True})
        last = None
        try:
            consumer.assign([TopicPartition(self.name("journal"), partition, 0)])
            deadline = time.monotonic() + ASK_S
            while time.monotonic() < deadline:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    return read_event(last)
                headers = tuple(message.headers())
                last = Raw("journal", partition, message.offset(), message.timestamp()[1], message.key(), headers, message.value())
            raise Failure(f"the journal's partition {partition} has no end")
        finally:
            consumer.close()

    def forge(self, partition, **members):
        """A record that follows the last one in the chain, and that no arbiter has decided; answers its seq."""
        last = self.last_event(partition)
        fields = {name: content for name, content in last.headers.items() if name.startswith("ce_") and name != "ce_hash"}
        now = int(time.time() * 1000)
        fields |= {"ce_seq": str(last.seq + 1), "ce_modelseq": str(last.modelseq + 1), "ce_prevhash": last.headers["ce_hash"]}
        fields |= {"ce_id": f"forged-{last.seq}", "ce_recordedtime": rfc3339(now), **members}
        headers = [("content-type", b"application/json"), *((name, text.encode()) for name, text in fields.items())]
        digest = record_hash(last.raw.key, headers, last.raw.value)
        self.send("journal", partition, last.raw.key, last.raw.value, [*headers, ("ce_hash", digest.encode())], now)
        return last.seq + 1
