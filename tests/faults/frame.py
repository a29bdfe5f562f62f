"""The form of a record, written from the documents: its frame and hash, its two halves, its partition.

Source: engine.md section 3 (the frame), Apache Kafka's murmur2 (seed 0x9747b28c). Nothing here is shared with
the engine, so that a mistake there is not repeated by its judge.
"""

import hashlib
import re
from datetime import datetime, timezone

MAGIC = b"annals.record.v1"
ZERO = "0" * 64
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Malformed(Exception):
    """Bytes that are not what the documents describe."""


def framed(items):
    """Each item with its length before it, as a 32-bit big-endian number."""
    return b"".join(len(item).to_bytes(4, "big") + item for item in items)


def frame(key, headers, value):
    """What is hashed of a record: magic, key, every `ce_*` header but `ce_hash` sorted by name, value."""
    chosen = sorted((name.encode(), content) for name, content in headers if name.startswith("ce_") and name != "ce_hash")
    return framed([MAGIC, key, *(part for pair in chosen for part in pair), value])


def record_hash(key, headers, value):
    """SHA-256 of the frame, in hexadecimal."""
    return hashlib.sha256(frame(key, headers, value)).hexdigest()


def content_digest(kind, subject, expected, data):
    """What tells a retry from another proposal with the same id: 128 bits over type, subject, expectation, data."""
    items = [kind.encode(), subject.encode(), (expected or "").encode(), data]
    return hashlib.sha256(framed(items)).hexdigest()[:32]


def halves(value):
    """Splits `{"data":…,"decided":…}`; the last `,"decided":` is the engine's."""
    start, middle = b'{"data":', b',"decided":'
    at = value.rfind(middle)
    if not value.startswith(start) or not value.endswith(b"}") or at < 0:
        raise Malformed('the value is not {"data":…,"decided":…}')
    return value[len(start) : at], value[at + len(middle) : -1]


def murmur2(data):
    """Java's hash of a key, as an unsigned number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if len(data) > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, partitions):
    """The partition that a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def milliseconds(text):
    """An RFC 3339 time as milliseconds since 1970."""
    if not _TIME.fullmatch(text):
        raise Malformed(f"`{text}` is not an RFC 3339 time")
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds() * 1000)


def rfc3339(ms):
    """Milliseconds as the engine writes a time."""
    moment = datetime.fromtimestamp(ms // 1000, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def number(text):
    """A decimal number without sign or blanks."""
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise Malformed(f"`{text}` is not a number")
    return int(text)
