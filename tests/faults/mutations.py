"""The ways to bend a history, each with the check that must name it.

ON_ANY takes topics and answers (topics, None); ON_FORGED takes a forged history and answers (topics, ledger).
"""

import json
from dataclasses import replace

from chain import CONTROL
from forge import PARTITIONS, chained, with_header
from frame import ZERO, halves, record_hash, rfc3339

REASONS, ON_ANY, ON_FORGED, HARMLESS = {}, {}, {}, {}


def bends(name, reason, table):
    """Enters a mutation into its table."""

    def enter(bend):
        REASONS[name] = reason
        table[name] = bend
        return bend

    return enter


def on_any(name, reason):
    """A mutation of topics; also entered for forged histories, with their ledger."""

    def enter(bend):
        REASONS[name] = reason
        ON_ANY[name] = lambda topics: (bend(topics) or topics, None)
        ON_FORGED[name] = lambda forge: (bend(forge.topics) or forge.topics, forge.ledger)
        return bend

    return enter


def fullest(topics):
    """The partition with most events, and its journal."""
    journals = {p: records for (topic, p), records in topics.records.items() if topic == "journal"}
    partition = max(journals, key=lambda p: len(journals[p]))
    return partition, journals[partition]


def proposed(record):
    """Whether it came from a proposal that was accepted."""
    return record.header("ce_source") != "/annals" and not record.key.decode().startswith(CONTROL)


def middle(journal):
    """An accepted event with others behind it."""
    places = [at for at, record in enumerate(journal[:-2]) if proposed(record)]
    return places[len(places) // 2]


def link(topics, partition, renumber=True):
    """Mends numbers, hashes and chain, as a forger would."""
    records = topics.records[("journal", partition)]
    if renumber:
        records = [with_header(r, "ce_seq", str(seq)) for seq, r in enumerate(records)]
    topics.records[("journal", partition)] = chained(records)


def edited(record):
    """The record with a member more in its data."""
    data, decided = halves(record.value)
    return replace(record, value=b'{"data":{"edited":1,' + data[1:].lstrip() + b',"decided":' + decided + b"}")


@on_any("a value was edited", "hash")
def _(topics):
    _, journal = fullest(topics)
    journal[middle(journal)] = edited(journal[middle(journal)])


@on_any("a value was edited and its hash made anew", "rule R")
def _(topics):
    _, journal = fullest(topics)
    at = middle(journal)
    record = edited(journal[at])
    journal[at] = with_header(record, "ce_hash", record_hash(record.key, record.headers, record.value))


@on_any("a value was edited and all behind it chained anew", "source")
def _(topics):
    partition, journal = fullest(topics)
    journal[middle(journal)] = edited(journal[middle(journal)])
    link(topics, partition)


@on_any("who asked was edited", "hash")
def _(topics):
    _, journal = fullest(topics)
    journal[middle(journal)] = with_header(journal[middle(journal)], "ce_actor", "unverified:mallory")


@on_any("a record was dropped", "rule R")
def _(topics):
    _, journal = fullest(topics)
    del journal[middle(journal)]


@on_any("a record was dropped and the rest chained anew", "lost")
def _(topics):
    partition, journal = fullest(topics)
    del journal[middle(journal)]
    link(topics, partition)


@on_any("the newest records were cut off", "lost")
def _(topics):
    _, journal = fullest(topics)
    last = max(at for at, record in enumerate(journal) if proposed(record))
    del journal[last:]


@on_any("two records were swapped", "rule R")
def _(topics):
    _, journal = fullest(topics)
    at = middle(journal)
    one, two = journal[at], journal[at + 1]
    journal[at], journal[at + 1] = replace(two, offset=one.offset), replace(one, offset=two.offset)


@on_any("two records were swapped and chained anew", "source")
def _(topics):
    partition, journal = fullest(topics)
    at = middle(journal)
    one, two = journal[at], journal[at + 1]
    journal[at], journal[at + 1] = replace(two, offset=one.offset), replace(one, offset=two.offset)
    link(topics, partition)


@on_any("a record of somebody else was inserted, well-formed", "source")
def _(topics):
    partition, journal = fullest(topics)
    foreign = with_header(with_header(journal[middle(journal)], "ce_id", "foreign"), "ce_src", "999999")
    journal.insert(middle(journal) + 1, foreign)
    link(topics, partition)


@on_any("a proposal became two events", "twice")
def _(topics):
    partition, journal = fullest(topics)
    journal.append(replace(journal[middle(journal)], offset=journal[-1].offset + 1))
    link(topics, partition)


@on_any("another record was written for the same seq", "rule R")
def _(topics):
    _, journal = fullest(topics)
    other = with_header(journal[-1], "ce_actor", "unverified:mallory")
    other = with_header(other, "ce_hash", record_hash(other.key, other.headers, other.value))
    journal.append(replace(other, offset=journal[-1].offset + 1))


@on_any("an event lies in the wrong partition", "partition")
def _(topics):
    partition, journal = fullest(topics)
    other = next(p for p in range(topics.partitions["journal"]) if p != partition)
    target = topics.records[("journal", other)]
    target.append(replace(journal[middle(journal)], partition=other, offset=target[-1].offset + 1))
    link(topics, other)


@on_any("time goes back", "time")
def _(topics):
    partition, journal = fullest(topics)
    record = journal[middle(journal)]
    early = replace(record, timestamp=journal[0].timestamp - 1)
    journal[middle(journal)] = with_header(early, "ce_recordedtime", rfc3339(early.timestamp))
    link(topics, partition)


@on_any("the record's timestamp is not its recordedtime", "time")
def _(topics):
    _, journal = fullest(topics)
    journal[middle(journal)] = replace(journal[middle(journal)], timestamp=journal[middle(journal)].timestamp + 1)


@on_any("modelseq jumps", "modelseq")
def _(topics):
    partition, journal = fullest(topics)
    record = journal[middle(journal)]
    journal[middle(journal)] = with_header(record, "ce_modelseq", str(int(record.header("ce_modelseq")) + 1))
    link(topics, partition)


@on_any("the opening is gone", "rule R")
def _(topics):
    _, journal = fullest(topics)
    del journal[0]


@on_any("the opening speaks of another number of partitions", "opening")
def _(topics):
    partition, journal = fullest(topics)
    decided = {"generation": 1, "partitions": topics.partitions["journal"] + 1}
    journal[0] = replace(journal[0], value=b'{"data":{},"decided":' + json.dumps(decided).encode() + b"}")
    link(topics, partition)


@on_any("a partition was emptied", "opening")
def _(topics):
    partition, _ = fullest(topics)
    topics.records[("journal", partition)] = []


@on_any("the topic's first records were deleted", "topics")
def _(topics):
    partition, _ = fullest(topics)
    topics.begin[("journal", partition)] = 1


@on_any("a proposal was edited afterwards", "source")
def _(topics):
    partition, journal = fullest(topics)
    src = int(journal[middle(journal)].header("ce_src"))
    proposals = topics.records[("proposals", partition)]
    at = next(at for at, raw in enumerate(proposals) if raw.offset == src)
    proposals[at] = replace(proposals[at], value=b'{"edited":1,' + proposals[at].value[1:])


@on_any("a proposal is gone", "source")
def _(topics):
    partition, journal = fullest(topics)
    src = int(journal[middle(journal)].header("ce_src"))
    key = ("proposals", partition)
    topics.records[key] = [raw for raw in topics.records[key] if raw.offset != src]


def verdicts_of(topics, outcome):
    """The fullest partition's verdicts, and the place of one with this outcome."""
    partition, _ = fullest(topics)
    verdicts = topics.records[("verdicts", partition)]
    places = [at for at, raw in enumerate(verdicts) if json.loads(raw.value)["outcome"] == outcome]
    return verdicts, places[len(places) // 2]


def told(raw, **members):
    """The verdict with other members."""
    return replace(raw, value=json.dumps(json.loads(raw.value) | members).encode())


@on_any("a verdict is gone", "unanswered")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    del verdicts[at]


@on_any("a verdict says refused, and there is an event", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    verdicts[at] = told(verdicts[at], outcome="refused", code="no-change")


@on_any("a verdict says accepted of what was refused", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "refused")
    verdicts[at] = told(verdicts[at], outcome="accepted", seq=1, modelseq=1)


@on_any("a verdict names another place", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    verdicts[at] = told(verdicts[at], seq=json.loads(verdicts[at].value)["seq"] + 1)


@on_any("a second verdict contradicts the first", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    verdicts.append(told(replace(verdicts[at], offset=verdicts[-1].offset + 1), outcome="refused", code="no-change"))


@on_any("a verdict has another's key", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    verdicts[at] = replace(verdicts[at], key=b"somebody-else")


@on_any("a verdict is about a proposal that is not there", "verdict")
def _(topics):
    verdicts, at = verdicts_of(topics, "accepted")
    verdicts.append(told(replace(verdicts[at], offset=verdicts[-1].offset + 1), src=999999))


def event_of(forge, kind, key="default/iris", nth=0):
    """Partition and place of the nth event of a kind of a model."""
    for partition in range(PARTITIONS):
        found = [at for at, r in enumerate(forge.journal(partition)) if r.key.decode() == key and f".{kind}.v1" in r.header("ce_type")]
        if found:
            return partition, found[nth]
    raise LookupError(kind)


def redecided(name, kind, nth=0, **members):
    """A decision that the rules do not allow, in a chain without a flaw."""

    def bend(forge):
        partition, at = event_of(forge, kind, nth=nth)
        forge.redecide(partition, at, **members)
        return forge.topics, forge.ledger

    bends(name, "illegal", ON_FORGED)(bend)


redecided("a version was promoted that does not exist", "version.promoted", version=9)
redecided("a promotion says that the channel held another version", "version.promoted", nth=1, **{"from": 2})
redecided("a promotion hides what it displaced", "version.promoted", nth=1, displaced=[])
redecided("a promotion counts an approval that was not given", "version.promoted", nth=1, approvals=["a1"])
redecided("a version number was passed over", "version.registered", nth=1, version=3)
redecided("an evaluation speaks of other bytes", "version.evaluated", digest="sha256:" + "f" * 64)


@bends("a version was promoted that was refused", "illegal", ON_FORGED)
def _(forge):
    partition, at = event_of(forge, "proposal.refused", nth=1)
    record = forge.journal(partition)[at]
    refused = json.loads(halves(record.value)[1])
    for name in ("id", "source", "type"):
        record = with_header(record, f"ce_{name}", refused[name])
    data, _ = halves(record.value)
    promoted = b'{"version":7,"channel":"production","displaced":[],"approvals":[],"restored":false}'
    forge.journal(partition)[at] = replace(record, value=b'{"data":' + data + b',"decided":' + promoted + b"}")
    forge.rechain(partition)
    return forge.topics, forge.ledger


@bends("a refusal that matters left no record", "lost", ON_FORGED)
def _(forge):
    partition, at = event_of(forge, "proposal.refused")
    del forge.journal(partition)[at]
    forge.rechain(partition)
    return forge.topics, forge.ledger


@bends("somebody was answered, and there is no event", "answer", ON_FORGED)
def _(forge):
    forge.ledger.append({**forge.ledger[0], "id": "never-heard-of"})
    return forge.topics, forge.ledger


def answered(name, was, nth, **members):
    """An answer that says something else than the history."""

    def bend(forge):
        found = [answer for answer in forge.ledger if answer["outcome"] == was]
        found[nth].update(members)
        return forge.topics, forge.ledger

    bends(name, "answer", ON_FORGED)(bend)


answered("somebody was told another position", "accepted", 5, position="0:1000")
answered("a retry was told another position", "duplicate", 0, position="0:2")
answered("somebody was told another version", "accepted", 2, version=6)
answered("somebody was told another modelseq", "accepted", 2, modelseq=6)
answered("somebody was told refused, and it is an event", "accepted", 4, outcome="refused", code="no-change")
answered("somebody sent other data than was recorded", "accepted", 4, data="{}")
answered("a retry was told accepted", "duplicate", 0, outcome="accepted")
answered("somebody was told malformed, and was not", "refused", 0, outcome="malformed")
answered("Kafka acknowledged a proposal that is not there", "accepted", 3, partition=0, offset=1000)


def harmless(name):
    """What rule R is there for: a history that is as good as before."""

    def enter(bend):
        HARMLESS[name] = lambda topics: (bend(topics) or topics, None)
        return bend

    return enter


@harmless("a transaction was committed twice")
def _(topics):
    _, journal = fullest(topics)
    journal += [replace(record, offset=journal[-1].offset + 1 + n) for n, record in enumerate(journal[-2:])]


@harmless("an orphan in the middle of the log")
def _(topics):
    _, journal = fullest(topics)
    at = middle(journal)
    orphan = with_header(with_header(journal[at], "ce_seq", journal[-1].header("ce_seq") + "0"), "ce_prevhash", ZERO[:-1] + "1")
    orphan = with_header(orphan, "ce_hash", record_hash(orphan.key, orphan.headers, orphan.value))
    journal.insert(at, orphan)
