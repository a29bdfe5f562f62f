"""The history against what was asked: every proposal judged again by the oracle, every verdict compared.

The proposals of a partition, in their order, decide everything: which become events, with which decision, and what
each verdict must say. So the expected stream is computed from the proposals alone and compared with the real one.
"""

import json
from dataclasses import dataclass, field

import oracle
from chain import CONTROL
from frame import content_digest, partition_of

SOURCE = "/annals"
REFUSED = "dev.annals.proposal.refused.v1"
# attributes that are instructions to the engine, or stand in the record under a name of its own
NOT_COPIED = {"specversion", "id", "source", "type", "subject", "time", "actor", "expectedseq", "modelexists"}
NOT_COPIED |= {"datacontenttype", "dataschema"}


@dataclass
class Proposal:
    """What was asked, as far as it can be read."""

    raw: object
    attributes: dict
    data: bytes

    def identity(self):
        """The idempotency key."""
        return self.attributes.get("source", ""), self.attributes.get("id", "")

    def name(self):
        """Who it is, for a person."""
        return f"{self.raw.place()} {self.attributes.get('type')} id `{self.attributes.get('id')}`"


@dataclass
class Verdict:
    """One answer on the verdicts topic."""

    raw: object
    body: dict


@dataclass
class History:
    """What is known of one partition after it was judged."""

    stream: object
    verdicts: dict = field(default_factory=dict)  # src -> [Verdict]
    counts: dict = field(default_factory=lambda: {"accepted": 0, "refused": 0, "duplicate": 0, "malformed": 0, "pending": 0})


def read_proposal(raw):
    """Binary and structured mode; what cannot be read is None, and is expected to be malformed."""
    structured = (raw.header("content-type") or "").strip().lower().startswith("application/cloudevents+json")
    try:
        if structured:
            return _structured(raw)
        attributes = {name[3:]: content.decode() for name, content in raw.headers if name.startswith("ce_")}
        names = [name for name, _ in raw.headers if name.startswith("ce_")]
        readable = len(names) == len(set(names)) and isinstance(json.loads(raw.value), dict)
        return Proposal(raw, attributes, raw.value) if readable else None
    except ValueError:
        return None


def _structured(raw):
    """The data's bytes as they stand in the event: found by decoding member by member."""
    text = raw.value.decode()
    decoder, at, members, data = json.JSONDecoder(), text.index("{") + 1, {}, None
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        if text[at] == "}":
            break
        name, at = decoder.raw_decode(text, at)
        at = text.index(":", at) + 1
        at += len(text[at:]) - len(text[at:].lstrip())
        value, end = decoder.raw_decode(text, at)
        if name == "data":
            data = text[at:end].encode()
        elif value is not None:
            members[name] = value if isinstance(value, str) else json.dumps(value)
        at = end
    return Proposal(raw, members, data) if data is not None else None


class PartitionJudge:
    """Walks one partition's proposals beside its events."""

    def __init__(self, stream, partitions, findings):
        self.history, self.partitions, self.findings = History(stream), partitions, findings
        self.models, self.seen, self.broken = {}, {}, set()
        self.before = stream.accepted[0].recorded if stream.accepted else 0
        self.by_src = {}
        for event in stream.accepted:
            if event.src is None or event.key.startswith(CONTROL):
                continue
            if event.src in self.by_src:
                findings.add("twice", event.name(), f"comes from the same proposal as seq {self.by_src[event.src].seq}")
            self.by_src.setdefault(event.src, event)

    def judge(self, proposals, verdicts, quiesced):
        """The whole partition."""
        for raw in verdicts:
            self.read_verdict(raw)
        self.check_order()
        last = max(self.by_src, default=-1)
        offsets = {raw.offset for raw in proposals}
        for src in sorted(self.by_src.keys() - offsets):
            self.findings.add("source", self.by_src[src].name(), f"there is no proposal at offset {src}")
            self.broken.add(self.by_src[src].key)  # what follows from it cannot be judged
        for raw in proposals:
            event = self.by_src.get(raw.offset)
            outcome = self.expected(raw)
            if event is None and raw.offset > last and outcome["outcome"] == "accepted" and raw.offset not in self.history.verdicts:
                outcome = {"outcome": "pending"}
                if quiesced:
                    self.findings.add("unanswered", raw.place(), "a legal proposal became no event and has no verdict")
            self.compare(raw, outcome, event, quiesced)
            self.history.counts[outcome["outcome"]] += 1
        for src in sorted(self.history.verdicts.keys() - offsets):
            where = self.history.verdicts[src][0].raw.place()
            self.findings.add("verdict", where, f"is about offset {src}, where no proposal is")
        return self.history

    def check_order(self):
        """Proposals become events in their own order."""
        last = None
        for event in self.history.stream.accepted:
            if event.src is None or event.key.startswith(CONTROL):
                continue
            if last is not None and event.src < last:
                self.findings.add("source", event.name(), f"its proposal {event.src} lies before {last}, which was taken already")
            last = event.src

    def read_verdict(self, raw):
        """Form, key and partition; the same proposal may be answered again, with the same words."""
        try:
            body = json.loads(raw.value)
            src, identity = int(body["src"]), (body["source"], body["id"])
        except (ValueError, KeyError, TypeError):
            self.findings.add("verdict", raw.place(), "is not a verdict")
            return
        if (raw.key or b"").decode("utf-8", "replace") != identity[1] or (raw.header("ce_source") or "") != identity[0]:
            self.findings.add("verdict", raw.place(), f"key and ce_source are not those of {identity}")
        others = self.history.verdicts.setdefault(src, [])
        if others and others[0].body != body:
            where = others[0].raw.place()
            self.findings.add("verdict", raw.place(), f"contradicts {where} on proposal {src}: {others[0].body} and {body}")
        others.append(Verdict(raw, body))

    def expected(self, raw):
        """What must become of a proposal, by the documents."""
        proposal = read_proposal(raw)
        verdicts = self.history.verdicts.get(raw.offset, [])
        told = verdicts[0].body.get("outcome") if verdicts else None
        if proposal is None or told == "malformed":
            # schemas are not checked here: who says malformed is believed, and must not have made an event
            return {"outcome": "malformed"}
        a = proposal.attributes
        key, _, version = _subject(a.get("subject", ""))
        if raw.key is None or raw.key.decode("utf-8", "replace") != key:
            return {"outcome": "malformed"}
        right = partition_of(raw.key, self.partitions)
        if right != raw.partition:
            return {"outcome": "refused", "code": "wrong-partition"}
        expected = a.get("expectedseq")
        digest = content_digest(a.get("type", ""), a.get("subject", ""), str(int(expected)) if expected else None, proposal.data)
        first = self.seen.get(proposal.identity())
        if first is not None:
            same = first[0] == digest
            return {"outcome": "duplicate", "place": first[1]} if same else {"outcome": "refused", "code": "id-conflict"}
        return self.decided(proposal, key, version, expected, digest)

    def decided(self, proposal, key, version, expected, digest):
        """What the oracle decides of a proposal that was never seen."""
        a, model = proposal.attributes, self.models.get(key)
        actor = f"unverified:{a['actor']}" if "actor" in a else "unverified"
        whole = int(expected) if expected else None
        ask = oracle.Ask(a.get("type", ""), version, json.loads(proposal.data), actor, whole, a.get("modelexists") == "true")
        result = {"key": key, "digest": digest, "actor": actor, "proposal": proposal, "modelseq": model.modelseq if model else 0}
        try:
            decided = oracle.decide(model, ask)
        except oracle.Refused as refused:
            return result | {"outcome": "refused", "code": refused.code}
        except (KeyError, TypeError, AttributeError):
            return {"outcome": "malformed"}
        return result | {"outcome": "accepted", "decided": decided, "modelseq": result["modelseq"] + 1}

    def compare(self, raw, outcome, event, quiesced):
        """Expected against found: the event, then the verdicts."""
        if raw.key is not None and raw.key.decode("utf-8", "replace") in self.broken:
            return  # what follows from a wrong state is no news
        if event is not None:
            self.compare_event(raw, outcome, event)
        elif outcome["outcome"] == "accepted":
            self.findings.add("lost", raw.place(), f"`{raw.header('ce_id')}` is legal, was passed by, and is no event")
        elif _is_recorded(outcome) and (quiesced or raw.offset in self.history.verdicts):
            self.findings.add("lost", raw.place(), f"the refusal of `{raw.header('ce_id')}` matters, and is no event")
        verdicts = self.history.verdicts.get(raw.offset, [])
        if not verdicts and (event is not None or quiesced) and outcome["outcome"] != "pending":
            self.findings.add("unanswered", raw.place(), f"has no verdict, should be {outcome['outcome']}")
        for verdict in verdicts[:1]:
            self.compare_verdict(verdict, outcome, event)

    def compare_verdict(self, verdict, outcome, event):
        """A verdict says what became of the proposal, and where."""
        body, where = verdict.body, verdict.raw.place()
        if body.get("outcome") != outcome["outcome"]:
            self.findings.add("verdict", where, f"says {body.get('outcome')}, should be {outcome['outcome']} ({outcome.get('code', '')})")
            return
        if body["outcome"] in ("accepted", "duplicate"):
            place = outcome.get("place") or (event and (event.seq, event.modelseq, event.decided.get("version")))
            told = (body.get("seq"), body.get("modelseq"), body.get("version"))
            if place and told[:2] != place[:2]:
                self.findings.add("verdict", where, f"says seq {told[0]} and modelseq {told[1]}, it is at {place[0]} and {place[1]}")
        strict = ("id-conflict", "stale-expectation", "wrong-partition")
        if outcome.get("code") in strict and body.get("code") != outcome["code"]:
            self.findings.add("verdict", where, f"refuses for {body.get('code')}, should be {outcome['code']}")

    def compare_event(self, raw, outcome, event):
        """The event is the proposal's, byte for byte, and holds the decision that the documents demand."""
        refusal = event.headers["ce_type"] == REFUSED
        proposal = outcome.get("proposal") or read_proposal(raw)
        if proposal is None:
            self.findings.add("illegal", event.name(), f"comes from {raw.place()}, which is no CloudEvent")
            return
        self.compare_copy(proposal, event, refusal)
        wanted = "refused" if refusal else "accepted"
        if outcome["outcome"] != wanted or (refusal and not _is_recorded(outcome)):
            why = outcome.get("code") or outcome["outcome"]
            self.findings.add("illegal", event.name(), f"should be {outcome['outcome']} ({why}) by the rules: decided {event.decided}")
            self.broken.add(event.key)
        time = max(self.before, raw.timestamp)
        if event.recorded != time:
            self.findings.add("time", event.name(), f"was recorded at {event.recorded}, should be {time}")
        self.before = event.recorded
        if event.key in self.broken:  # just now
            return
        if event.modelseq != outcome["modelseq"]:
            self.findings.add("modelseq", event.name(), f"has modelseq {event.modelseq}, should have {outcome['modelseq']}")
        if refusal:
            return
        if event.decided != outcome["decided"]:
            self.findings.add("illegal", event.name(), f"decided {event.decided}, should be {outcome['decided']}")
        if event.headers["ce_contentdigest"] != outcome["digest"]:
            self.findings.add("source", event.name(), "its content digest is not the proposal's")
        oracle.evolve(self.models.setdefault(event.key, oracle.Model()), event.headers["ce_type"], outcome["decided"], outcome["actor"])
        self.seen[event.identity()] = (outcome["digest"], (event.seq, event.modelseq))

    def compare_copy(self, proposal, event, refusal):
        """Identity, data and every attribute that the producer gave."""
        a, found = proposal.attributes, event.headers
        wrong = []
        if refusal:
            told = (event.decided.get("source"), event.decided.get("id"), event.decided.get("type"))
            if told != (a.get("source"), a.get("id"), a.get("type")) or found["ce_source"] != SOURCE:
                wrong.append(f"names {told}")
        else:
            wrong += [f"ce_{n} is {found[f'ce_{n}']}" for n in ("id", "source", "type") if found[f"ce_{n}"] != a.get(n)]
        if event.data != proposal.data:
            wrong.append("the data is not the proposal's, byte for byte")
        if found.get("ce_time") != a.get("time"):
            wrong.append(f"ce_time is {found.get('ce_time')}")
        wrong += [f"ce_{n} is {found.get(f'ce_{n}')}" for n in a.keys() - NOT_COPIED if found.get(f"ce_{n}") != a[n]]
        version = event.decided.get("version") or (event.decided.get("from") if found["ce_type"].endswith("alias.removed.v1") else None)
        subject = f"{event.key}/{version}" if version else (a.get("subject") if refusal else event.key)
        if found["ce_subject"] != subject or (proposal.raw.key or b"") != event.key.encode():
            wrong.append(f"ce_subject is {found['ce_subject']}, the key {event.key}")
        if wrong:
            self.findings.add("source", event.name(), f"is not its proposal {proposal.raw.place()}: {'; '.join(wrong)}")


def _subject(subject):
    """`workspace/model` and what follows it."""
    parts = subject.split("/", 2)
    return "/".join(parts[:2]), None, parts[2] if len(parts) > 2 else None


def _is_recorded(outcome):
    """Whether a refusal outlives the verdicts."""
    proposal = outcome.get("proposal")
    return outcome["outcome"] == "refused" and proposal is not None and oracle.dotted(proposal.attributes.get("type", "")) in oracle.RECORDED
