"""Reads a journal's topic with Confluent's JSONDeserializer, as a stranger with nothing but a schema registry would.

Usage: confluent_journal.py BOOTSTRAP REGISTRY PREFIX    Prints a JSON object {read, plain, types}.
"""

import json
import sys

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

bootstrap, url, prefix = sys.argv[1:4]
topic = f"{prefix}.journal"
deserializer = JSONDeserializer(None, schema_registry_client=SchemaRegistryClient({"url": url}))
settings = {"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False, "enable.partition.eof": True}
consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
left = set(consumer.list_topics(topic, timeout=60).topics[topic].partitions)
consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
read, plain, types = 0, 0, set()
while left:
    message = consumer.poll(60)
    assert message is not None, "nothing came for 60 s"
    if message.error():
        assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
        left.discard(message.partition())
        continue
    headers = dict(message.headers())
    if "__value_schema_id" not in headers:
        plain += 1
        continue
    value = deserializer(message.value(), SerializationContext(topic, MessageField.VALUE, message.headers()))
    assert value == json.loads(message.value()), value
    read += 1
    types.add(headers["ce_type"].decode())
consumer.close()
print(json.dumps({"read": read, "plain": plain, "types": sorted(types)}))
