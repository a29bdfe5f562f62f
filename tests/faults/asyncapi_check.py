"""Checks real messages against events/asyncapi.yaml: key, headers and payload of each, read raw; and the topics' settings.

Usage: asyncapi_check.py --bootstrap HOST:PORT --prefix PREFIX [--properties FILE] [TOPIC …]
       asyncapi_check.py --records FILE …        records as in events/golden, instead of a broker

A message must fit exactly one message of its channel. What lies in `proposals` and fits none must have been refused.
Prints a line for each fault and a count for each topic; exits with 1 if there was a fault or nothing to check.
"""

import argparse
import collections
import json
import pathlib
import sys

import jsonschema
import yaml

DOCUMENT = pathlib.Path(__file__).parents[2] / "events" / "asyncapi.yaml"
Message = collections.namedtuple("Message", "place key headers value")


class Channels:
    """The channels of the document, with their references put in."""

    def __init__(self, file):
        self.folder = file.parent
        self.root = yaml.safe_load(file.read_text())
        self.by_name = {
            name: [(label, Shape(self.whole(message))) for label, message in channel["messages"].items()]
            for name, channel in self.root["channels"].items()
        }

    def whole(self, node):
        if isinstance(node, list):
            return [self.whole(item) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if reference is None:
            return {name: self.whole(value) for name, value in node.items()}
        if not reference.startswith("#"):
            return json.loads((self.folder / reference).read_text())
        found = self.root
        for part in reference[2:].split("/"):
            found = found[part]
        return self.whole(found)

    def fault(self, channel, message):
        """Why a message fits none or several of its channel's; None if all is well."""
        found = {label: shape.fault(message) for label, shape in self.by_name[channel]}
        fitting = [label for label, fault in found.items() if fault is None]
        if len(fitting) == 1:
            return None
        if fitting:
            return f"fits {' and '.join(fitting)}"
        named = text(dict(message.headers or []).get("ce_type", b"")).removeprefix("dev.annals.").removesuffix(".v1")
        told = [f"{label}: {fault}" for label, fault in found.items() if len(found) == 1 or label.endswith(f".{named}")]
        return "; ".join(told) or f"fits no message (type `{named}`)"


class Shape:
    """What one message of the document demands."""

    def __init__(self, message):
        self.headers = message["headers"]
        self.binary = binary_names(self.headers)
        self.checks = {
            name: jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
            for name, schema in [
                ("key", message["bindings"]["kafka"]["key"]),
                ("headers", self.headers),
                ("payload", message["payload"]),
            ]
        }

    def fault(self, message):
        try:
            headers = {}
            for name, value in message.headers or []:
                if name in headers:
                    return f"header {name} comes twice"
                headers[name] = value.decode("latin-1" if name in self.binary else "utf-8")
            parts = {"headers": headers, "key": (message.key or b"").decode(), "payload": json.loads(message.value)}
        except (ValueError, AttributeError) as error:
            return f"is not text or not JSON: {error}"
        for name, part in parts.items():
            error = jsonschema.exceptions.best_match(self.checks[name].iter_errors(part))
            if error:
                return f"{name} {error.json_path}: {error.message[:200]}"
        return None


def binary_names(schema):
    """The headers that are bytes, not text."""
    names = {name for name, inner in schema.get("properties", {}).items() if inner.get("contentEncoding") == "binary"}
    return names.union(*map(binary_names, schema.get("allOf", [])))


def text(data):
    return (data or b"").decode("utf-8", "replace")


def unframed(value):
    """A proposal's value without the prefix of a schema registry's serializer."""
    return value[5:] if value and value[0] == 0 and len(value) >= 5 else value


def from_topic(consumer, name):
    """All messages of a topic up to its end as it is now."""
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    topic = consumer.list_topics(name, timeout=30).topics[name]
    if topic.error:
        raise SystemExit(f"asyncapi_check: {name}: {topic.error}")
    ends = {p: consumer.get_watermark_offsets(TopicPartition(name, p), timeout=30) for p in topic.partitions}
    left = {p for p, (low, high) in ends.items() if high > low}
    consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in left])
    while left:
        message = consumer.poll(60)
        if message is None:
            raise SystemExit(f"asyncapi_check: {name}: nothing came for 60 s")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise SystemExit(f"asyncapi_check: {name}: {message.error()}")
            left.discard(message.partition())  # also behind markers and aborted records
            continue
        yield Message((message.partition(), message.offset()), message.key(), message.headers(), message.value())


def other_settings(admin, channels, prefix, names):
    """What a topic is set to, where the document says otherwise. How many replicas there are is the operator's choice."""
    from confluent_kafka.admin import ConfigResource

    for name in names:
        resource = ConfigResource(ConfigResource.Type.TOPIC, f"{prefix}.{name}")
        found = admin.describe_configs([resource])[resource].result(60)
        for setting, wanted in channels.root["channels"][name]["bindings"]["kafka"]["topicConfiguration"].items():
            wanted = ",".join(wanted) if isinstance(wanted, list) else str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
            if setting != "min.insync.replicas" and found[setting].value != wanted:
                yield f"{prefix}.{name}: {setting} is {found[setting].value}, not {wanted}"


def check_broker(channels, arguments):
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

    settings = {"bootstrap.servers": arguments.bootstrap, "group.id": f"{arguments.prefix}.asyncapi-check"}
    settings |= {"enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True}
    for line in arguments.properties.read_text().splitlines() if arguments.properties else []:
        if line.strip() and not line.lstrip().startswith("#"):
            name, value = line.split("=", 1)
            settings[name.strip()] = value.strip()
    names = arguments.names or list(channels.by_name)
    own = ("group.id", "enable.auto.commit", "isolation.level", "enable.partition.eof")
    admin = AdminClient({name: value for name, value in settings.items() if name not in own})
    differing = list(other_settings(admin, channels, arguments.prefix, names))
    consumer = Consumer(settings)
    faults, counts = [], {}
    try:
        refused = set()
        for channel in names:
            topic, count = f"{arguments.prefix}.{channel}", 0
            for message in from_topic(consumer, topic):
                count += 1
                if channel == "proposals":
                    message = message._replace(value=unframed(message.value))
                fault = channels.fault(channel, message)
                if fault:
                    faults.append((channel, message.place, fault))
            counts[topic] = count
        if any(channel == "proposals" for channel, _, _ in faults):
            for message in from_topic(consumer, f"{arguments.prefix}.verdicts"):
                verdict = json.loads(message.value)
                if verdict["outcome"] in ("refused", "malformed"):
                    refused.add((message.place[0], verdict["src"]))
        faults = [fault for fault in faults if fault[0] != "proposals" or fault[1] not in refused]
    finally:
        consumer.close()
    return differing + [f"{arguments.prefix}.{channel} {p}:{offset}: {fault}" for channel, (p, offset), fault in faults], counts


def check_files(channels, files):
    faults = []
    for file in files:
        record = json.loads(pathlib.Path(file).read_text())
        headers = [("content-type", b"application/json"), ("ce_hash", record["hash"].encode())]
        headers += [(name, value.encode()) for name, value in record["headers"].items()]
        fault = channels.fault("journal", Message(file, record["key"].encode(), headers, record["value"].encode()))
        if fault:
            faults.append(f"{file}: {fault}")
    return faults, {"files": len(files)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap")
    parser.add_argument("--prefix", default="annals")
    parser.add_argument("--properties", type=pathlib.Path, help="settings of librdkafka, KEY=VALUE lines")
    parser.add_argument("--records", action="store_true", help="NAMES are files of records")
    parser.add_argument("--document", type=pathlib.Path, default=DOCUMENT)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    channels = Channels(arguments.document)
    if arguments.records:
        faults, counts = check_files(channels, arguments.names)
    elif arguments.bootstrap:
        faults, counts = check_broker(channels, arguments)
    else:
        parser.error("give --bootstrap or --records")
    for fault in faults:
        print(f"asyncapi_check: {fault}")
    print(", ".join(f"{name}: {count}" for name, count in counts.items()))
    sys.exit(1 if faults or not sum(counts.values()) else 0)


if __name__ == "__main__":
    main()
