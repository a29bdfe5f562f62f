"""Confluent's own serializer and deserializer beside a record of Annals, on a real topic and a real schema registry.

Usage: confluent.py BOOTSTRAP REGISTRY PREFIX    A JSON object {type, value, header (hex), data} on standard input.

Produces the record with its header, reads it back through JSONDeserializer, and frames the data with JSONSerializer
as a producer would. Prints a JSON object {read, wrong, framed}.
"""

import json
import sys
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

bootstrap, url, prefix = sys.argv[1:4]
record = json.load(sys.stdin)
registry = SchemaRegistryClient({"url": url})
topic = f"t-confluent-{uuid.uuid4()}"
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)


def subject(context, name):
    """By the record's name; tests share a schema registry, so theirs have another beginning."""
    return name and record_subject_name_strategy(context, name).replace("dev.annals.", prefix, 1)


def through(value):
    """What the deserializer reads of a value that went over the topic with our header."""
    message = exchange(value)
    context = SerializationContext(topic, MessageField.VALUE, message.headers())
    return JSONDeserializer(None, schema_registry_client=registry)(message.value(), context)


def exchange(value):
    header = ("__value_schema_id", bytes.fromhex(record["header"]))
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value=value, headers=[("content-type", b"application/json"), header])
    producer.flush(60)
    message = consumer.poll(60)
    assert message is not None and message.error() is None, message and message.error()
    return message


consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
try:
    read = through(record["value"].encode())
    spoilt = json.loads(record["value"])
    spoilt["decided"]["version"] = "one"
    try:
        wrong = f"read as {through(json.dumps(spoilt).encode())}"
    except SerializationError as error:
        wrong = str(error)
    name = f"{record['type']}.data"
    latest = registry.get_latest_version(subject(None, name))
    settings = {"auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": subject}
    serializer = JSONSerializer(latest.schema.schema_str, registry, conf=settings)
    framed = serializer(record["data"], SerializationContext("annals.proposals", MessageField.VALUE))
    print(json.dumps({"read": read, "wrong": wrong, "framed": framed.hex()}))
finally:
    consumer.close()
    admin.delete_topics([topic])[topic].result(60)
