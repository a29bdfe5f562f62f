"""The journal's own proofs: each record's hash, rule R over the log, and what every record must carry.

Rule R, from engine.md section 4: `seq` at or below the last is a duplicate (another hash: halt), the next one must
name the last hash (else halt), one further on is an orphan.
"""

import json
from dataclasses import dataclass, field

from frame import ZERO, Malformed, halves, milliseconds, number, partition_of, record_hash

REQUIRED = (
    "ce_specversion ce_id ce_source ce_type ce_subject ce_actor ce_seq ce_modelseq ce_recordedtime ce_rules "
    "ce_prevhash ce_contentdigest ce_hash"
).split()
CONTROL = "_control/"
OPENED = "dev.annals.journal.opened.v1"


@dataclass(frozen=True)
class Event:
    """A record of the journal, read."""

    raw: object
    key: str
    headers: dict
    data: bytes
    decided: dict
    seq: int
    modelseq: int
    src: int | None
    recorded: int

    def name(self):
        """Who it is, for a person."""
        where = f"{self.raw.partition}:{self.seq} (offset {self.raw.offset})"
        return f"{where} {self.headers['ce_type']} id `{self.headers['ce_id']}`"

    def identity(self):
        """The idempotency key."""
        return self.headers["ce_source"], self.headers["ce_id"]


@dataclass
class Findings:
    """What is wrong, in the order in which it was found."""

    list: list = field(default_factory=list)

    def add(self, check, where, message):
        """Notes one more."""
        self.list.append({"check": check, "where": where, "message": message})


@dataclass
class Stream:
    """One partition's log under rule R."""

    partition: int
    accepted: list = field(default_factory=list)
    orphans: list = field(default_factory=list)
    duplicates: int = 0
    halted: bool = False


def read_event(raw):
    """Reads a record; Malformed says what is not as it must be."""
    names = [name for name, _ in raw.headers]
    twice = {name for name in names if name.startswith("ce_") and names.count(name) > 1}
    missing = [name for name in REQUIRED if name not in names]
    if twice or missing:
        raise Malformed(f"headers that come twice: {sorted(twice)}, missing: {missing}")
    try:
        headers = {name: content.decode() for name, content in raw.headers}
        key = (raw.key or b"").decode()
        data, decided = halves(raw.value)
        json.loads(data)
        src = number(headers["ce_src"]) if "ce_src" in headers else None
        numbers = number(headers["ce_seq"]), number(headers["ce_modelseq"]), src
        return Event(raw, key, headers, data, json.loads(decided), *numbers, milliseconds(headers["ce_recordedtime"]))
    except ValueError as error:
        raise Malformed(str(error)) from error


def follow(partition, raws, findings):
    """Applies rule R to a partition's records, in the order of their offsets."""
    stream = Stream(partition)
    hashes = []
    for raw in raws:
        try:
            event = read_event(raw)
        except Malformed as error:
            findings.add("form", raw.place(), f"is no record of the journal: {error}")
            stream.halted = True
            return stream
        found = record_hash(raw.key or b"", raw.headers, raw.value)
        if found != event.headers["ce_hash"]:
            findings.add("hash", event.name(), f"hashes to {found}, and carries {event.headers['ce_hash']}")
        if event.seq < len(hashes):
            if hashes[event.seq] != found:
                findings.add("rule R", event.name(), f"another record was accepted at seq {event.seq}: a reader halts here")
                stream.halted = True
                return stream
            stream.duplicates += 1
        elif event.seq > len(hashes):
            stream.orphans.append(event)
        elif event.headers["ce_prevhash"] != (hashes[-1] if hashes else ZERO):
            findings.add("rule R", event.name(), "does not name the record before it as its predecessor: a reader halts here")
            stream.halted = True
            return stream
        else:
            hashes.append(found)
            stream.accepted.append(event)
    if stream.orphans and stream.orphans[-1].raw.offset > (stream.accepted[-1].raw.offset if stream.accepted else -1):
        last = len(hashes) - 1
        findings.add("rule R", stream.orphans[-1].name(), f"the log ends in orphans: nothing follows seq {last}, a record is missing")
    return stream


def check_places(stream, partitions, findings):
    """Openings, partitions, and time, which never goes back."""
    before = None
    for event in stream.accepted:
        opening = event.headers["ce_type"] == OPENED
        if opening != (event.seq == 0):
            findings.add("opening", event.name(), "seq 0 and only seq 0 is journal.opened")
        if opening and event.decided.get("partitions") != partitions:
            findings.add("opening", event.name(), f"says {event.decided.get('partitions')} partitions, the topic has {partitions}")
        if event.key.startswith(CONTROL):
            right = int(event.key.removeprefix(CONTROL)) if event.key.removeprefix(CONTROL).isdecimal() else None
        else:
            right = partition_of(event.key.encode(), partitions)
        if right != stream.partition:
            findings.add("partition", event.name(), f"the key `{event.key}` belongs to partition {right}")
        if event.recorded != event.raw.timestamp:
            findings.add("time", event.name(), f"recordedtime {event.recorded} is not the record's timestamp {event.raw.timestamp}")
        if before is not None and event.recorded < before:
            findings.add("time", event.name(), f"time goes back by {before - event.recorded} ms")
        before = event.recorded
    if not stream.accepted and not stream.halted:
        findings.add("opening", f"journal {stream.partition}", "the partition was never opened")
