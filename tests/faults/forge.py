"""Writes a small good history by the documents, and bends it: what the checker's own tests are made of."""

import json
from dataclasses import replace

import oracle
from chain import OPENED
from frame import ZERO, content_digest, halves, partition_of, record_hash, rfc3339
from raw import TOPICS, Raw, Topics

NOON = 1_772_366_400_000
PARTITIONS = 3
SOURCE = "/pipelines/forge"


def with_header(record, name, content):
    """The record with one header set."""
    rest = [(n, c) for n, c in record.headers if n != name]
    return replace(record, headers=(*rest, (name, content.encode())))


def chained(records):
    """The records with true chain headers: what a forger can do as well as the engine."""
    last, done = ZERO, []
    for record in records:
        linked = with_header(record, "ce_prevhash", last)
        last = record_hash(linked.key, linked.headers, linked.value)
        done.append(with_header(linked, "ce_hash", last))
    return done


class Forge:
    """Three topics, a ledger of what clients were told, and the state of every model."""

    def __init__(self):
        self.topics = Topics(partitions=dict.fromkeys(TOPICS, PARTITIONS), uncommitted=dict.fromkeys(TOPICS, 0))
        self.models, self.seen, self.ledger, self.clock = {}, {}, [], NOON
        for partition in range(PARTITIONS):
            for topic in TOPICS:
                self.topics.begin[(topic, partition)] = 0
                self.topics.records[(topic, partition)] = []
            fields = {"id": f"opened-{partition}", "source": "/annals", "type": OPENED, "subject": f"_control/{partition}"}
            fields |= {"actor": "annals", "contentdigest": "0" * 32, "modelseq": "0"}
            self.append(partition, f"_control/{partition}", fields, b"{}", {"generation": 1, "partitions": PARTITIONS}, None)

    def append(self, partition, key, fields, data, decided, src):
        """One record behind the others of its partition."""
        journal = self.topics.records[("journal", partition)]
        fields = {"specversion": "1.0", "rules": "1", **fields, "seq": str(len(journal)), "recordedtime": rfc3339(self.clock)}
        if src is not None:
            fields["src"] = str(src)
        headers = (("content-type", b"application/json"), *((f"ce_{n}", v.encode()) for n, v in fields.items()))
        value = b'{"data":' + data + b',"decided":' + json.dumps(decided, separators=(",", ":")).encode() + b"}"
        record = Raw("journal", partition, len(journal) * 2, self.clock, key.encode(), headers, value)
        before = journal[-1].header("ce_hash") if journal else ZERO
        record = with_header(record, "ce_prevhash", before)
        journal.append(with_header(record, "ce_hash", record_hash(record.key, record.headers, record.value)))
        return len(journal) - 1

    def propose(self, key, kind, data, version=None, name=None, **attributes):
        """A proposal, and whatever the documents say comes of it; the id is `name`, or one of its own."""
        self.clock += 10
        kind, text = f"dev.annals.{kind}.v1", json.dumps(data)
        partition = partition_of(key.encode(), PARTITIONS)
        proposals = self.topics.records[("proposals", partition)]
        fields = {"specversion": "1.0", "id": name or f"{key}#{self.clock}", "source": SOURCE, "type": kind}
        fields |= {"subject": f"{key}/{version}" if version else key, **attributes}
        headers = (("content-type", b"application/json"), *((f"ce_{n}", v.encode()) for n, v in fields.items()))
        src = len(proposals)
        proposals.append(Raw("proposals", partition, src, self.clock, key.encode(), headers, text.encode()))
        outcome = self.outcome(partition, key, fields, text, src)
        body = {"src": src, "id": fields["id"], "source": SOURCE, **outcome}
        verdicts = self.topics.records[("verdicts", partition)]
        told = (("content-type", b"application/json"), ("ce_source", SOURCE.encode()))
        verdicts.append(Raw("verdicts", partition, len(verdicts) * 2, self.clock, fields["id"].encode(), told, json.dumps(body).encode()))
        answer = {"op": "write", "id": fields["id"], "source": SOURCE, "data": text, "via": "http", "sound": True}
        answer["outcome"] = outcome["outcome"]
        if "seq" in outcome:
            answer |= {"position": f"{partition}:{outcome['seq']}", "modelseq": outcome["modelseq"], "version": outcome.get("version")}
        self.ledger.append(answer)
        return outcome

    def outcome(self, partition, key, fields, text, src):
        """Decides, and appends what is to be appended."""
        expected = fields.get("expectedseq")
        digest = content_digest(fields["type"], fields["subject"], expected, text.encode())
        seen = self.seen.get(fields["id"])
        if seen is not None:
            same = seen[0] == digest
            return {"outcome": "duplicate", **seen[1]} if same else {"outcome": "refused", "code": "id-conflict"}
        model, actor = self.models.get(key), f"unverified:{fields['actor']}" if "actor" in fields else "unverified"
        version = fields["subject"].removeprefix(key).removeprefix("/") or None
        ask = oracle.Ask(fields["type"], version, json.loads(text), actor, int(expected) if expected else None)
        kept = {name: value for name, value in fields.items() if name not in ("specversion", "expectedseq")}
        kept |= {"actor": actor, "contentdigest": digest}
        modelseq = model.modelseq if model else 0
        try:
            decided = oracle.decide(model, ask)
        except oracle.Refused as refused:
            if oracle.dotted(fields["type"]) in oracle.RECORDED:
                told = {n: fields[n] for n in ("id", "source", "type")} | {"code": refused.code, "message": str(refused)}
                kept |= {"id": f"refused-{partition}-{src}", "source": "/annals", "type": "dev.annals.proposal.refused.v1"}
                self.append(partition, key, kept | {"modelseq": str(modelseq)}, text.encode(), told, src)
            return {"outcome": "refused", "code": refused.code}
        oracle.evolve(self.models.setdefault(key, oracle.Model()), fields["type"], decided, actor)
        number = decided.get("version") or decided.get("from")
        kept |= {"modelseq": str(modelseq + 1), "subject": f"{key}/{number}" if number else key}
        seq = self.append(partition, key, kept, text.encode(), decided, src)
        place = {"seq": seq, "modelseq": modelseq + 1} | ({"version": number} if number else {})
        self.seen[fields["id"]] = (digest, place)
        return {"outcome": "accepted", **place}

    def journal(self, partition):
        """The records of a partition, to be bent."""
        return self.topics.records[("journal", partition)]

    def rechain(self, partition):
        """Mends hashes, chain and `seq` behind a change, as a forger with write access would."""
        records = [with_header(r, "ce_seq", str(seq)) for seq, r in enumerate(self.journal(partition))]
        self.topics.records[("journal", partition)] = chained(records)

    def redecide(self, partition, at, **members):
        """Changes members of a decision, and mends the chain."""
        record = self.journal(partition)[at]
        data, decided = halves(record.value)
        changed = json.dumps(json.loads(decided) | members, separators=(",", ":")).encode()
        value = b'{"data":' + data + b',"decided":' + changed + b"}"
        self.journal(partition)[at] = replace(record, value=value)
        self.rechain(partition)


def digest(n):
    """An artifact's digest."""
    return f"sha256:{n:064x}"


def good():
    """Lives of four models with refusals, retries, an id that is used again, approvals, rollbacks and a deployment."""
    forge = Forge()
    for n, key in enumerate(("default/iris", "default/wine", "lab/größe", "default/digits")):
        forge.propose(key, "model.created", {"owner": "ada"}, name=f"{key}-created")
        forge.propose(key, "model.created", {"owner": "ada"}, name=f"{key}-created")  # a retry
        forge.propose(key, "model.created", {"owner": "bob"}, name=f"{key}-created")  # the id with other content
        forge.propose(key, "run.trained", {"run": {"id": "r1"}, "artifact": {"digest": digest(n)}}, correlationid="c-1", time="2026-03-01T11:00:00Z")
        forge.propose(key, "version.registered", {"artifact": {"digest": digest(n)}, "run": "r1", "label": "1.0"}, actor="ann")
        forge.propose(key, "version.registered", {"artifact": {"digest": digest(n + 8)}, "label": "1.0"})  # the label is taken
        forge.propose(key, "version.registered", {"artifact": {"digest": digest(n + 8)}}, expectedseq="3")
        forge.propose(key, "version.registered", {"artifact": {"digest": digest(n + 9)}}, expectedseq="3")  # it has moved on
        forge.propose(key, "version.evaluated", {"suite": "holdout", "verdict": "passed", "results": []}, version="1.0")
        forge.propose(key, "approval.requested", {"approval": "a1", "channel": "production"}, version="1", actor="bob")
        forge.propose(key, "approval.decided", {"approval": "a1", "decision": "approved", "approver": {"id": "ann"}})  # her own
        forge.propose(key, "approval.decided", {"approval": "a1", "decision": "approved", "approver": {"id": "cat"}})
        forge.propose(key, "version.promoted", {"channel": "production"}, version="run:r1")
        forge.propose(key, "version.promoted", {"channel": "production"}, version="2")
        forge.propose(key, "version.promoted", {"channel": "production", "rollback": True}, version="1")
        forge.propose(key, "version.promoted", {"channel": "production"}, version="7")  # unknown: refused, and recorded
        forge.propose(key, "alias.set", {"alias": "champion"}, version="2")
        forge.propose(key, "deployment.requested", {"deployment": "d1", "target": {"platform": "local", "name": "x"}}, version="1")
        forge.propose(key, "deployment.succeeded", {"deployment": "d1"})
        forge.propose(key, "model.measured", {"metric": "accuracy", "value": 0.1 + n, "deployment": "d1"})
        forge.propose(key, "drift.detected", {"drift": "w1", "kind": "data", "metric": "psi", "observed": 1e-7})
        forge.propose(key, "retrain.requested", {"cause": {"kind": "drift", "drift": "w1"}})
        forge.propose(key, "version.retired", {"reason": "old"}, version="1")  # held: refused, and recorded
        forge.propose(key, "alias.removed", {"alias": "champion", "reason": "none"})
        forge.propose(key, "version.retired", {"reason": "old"}, version="2")
    return forge
