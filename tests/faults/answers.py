"""What clients were told, held against the history: the ledger of a load, one JSON line for each attempt.

A line has `op` ("write", or "read", which is for linear.py), `id`, `source`, `data` (the text that was sent), `via` ("http" or
"kafka"), `outcome` (accepted, duplicate, refused, malformed, pending, unavailable, none: no answer) and, where they were told,
`position`, `modelseq`, `version`, `code`; for Kafka the acknowledged `offset` and `partition`.
"""

import json
from collections import defaultdict

TOLD_PLACE = ("accepted", "duplicate")


def read_ledger(path):
    """The attempts, in the order in which they were written."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


class Answers:
    """Compares the ledger with accepted streams and proposals."""

    def __init__(self, histories, proposals, findings):
        self.findings = findings
        self.events = defaultdict(list)
        self.proposals = {(raw.partition, raw.offset): raw for raw in proposals}
        self.refusals = defaultdict(int)
        for history in histories:
            for event in history.stream.accepted:
                self.events[event.identity()].append(event)
            for verdicts in history.verdicts.values():
                body = verdicts[0].body
                if body.get("outcome") == "refused":
                    self.refusals[(body["source"], body["id"])] += 1

    def judge(self, attempts):
        """Every attempt, then every id over all of its attempts; answers the counts."""
        counts = {"attempts": 0, "ids": 0, "accepted": 0, "duplicate": 0, "refused": 0, "malformed": 0, "unsettled": 0}
        by_id = defaultdict(list)
        for line, attempt in enumerate(attempts, 1):
            if attempt.get("op", "write") != "write":
                continue
            counts["attempts"] += 1
            outcome = attempt["outcome"]
            counts[outcome if outcome in counts else "unsettled"] += 1
            by_id[(attempt["source"], attempt["id"])].append((line, attempt))
            self.judge_attempt(f"ledger line {line} id `{attempt['id']}`", attempt)
        counts["ids"] = len(by_id)
        for identity, lines in by_id.items():
            self.judge_id(identity, lines)
        return counts

    def judge_attempt(self, where, attempt):
        """One answer."""
        events = self.events[(attempt["source"], attempt["id"])]
        if attempt["outcome"] in TOLD_PLACE:
            if not events:
                self.findings.add("answer", where, f"was told {attempt['outcome']} at {attempt['position']}, and is no event: lost")
                return
            found = {f"{e.raw.partition}:{e.seq}": e for e in events}.get(attempt["position"])
            if found is None:
                self.findings.add("answer", where, f"was told {attempt['position']}, and is {events[0].name()}")
                return
            version = found.decided.get("version", found.decided.get("from"))
            told = {n: attempt.get(n) for n in ("modelseq", "version") if attempt.get(n) is not None}
            wrong = {n: v for n, v in told.items() if v != {"modelseq": found.modelseq, "version": version}[n]}
            if wrong:
                self.findings.add("answer", where, f"was told {wrong}, the event has modelseq {found.modelseq}, version {version}")
            if "data" in attempt and found.data != attempt["data"].encode():
                self.findings.add("answer", where, f"the event's data is not what was sent: {found.name()}")
        if attempt["outcome"] == "malformed" and attempt.get("sound"):
            self.findings.add("answer", where, f"was told malformed ({attempt.get('code')}), and was sound")
        if attempt.get("offset") is not None:
            raw = self.proposals.get((attempt["partition"], attempt["offset"]))
            if raw is None or (raw.header("ce_id"), raw.value.decode("utf-8", "replace")) != (attempt["id"], attempt["data"]):
                self.findings.add("answer", where, f"was acknowledged at {attempt['partition']}@{attempt['offset']}, and is not there")

    def judge_id(self, identity, lines):
        """One id: at most one event; a refusal that was told must be one that was given."""
        events = self.events[identity]
        first = f"ledger line {lines[0][0]} id `{identity[1]}`"
        if len(events) > 1:
            self.findings.add("twice", first, f"is an event {len(events)} times: {', '.join(e.name() for e in events)}")
        outcomes = [attempt["outcome"] for _, attempt in lines]
        refused = outcomes.count("refused")
        if refused > self.refusals[identity]:
            self.findings.add("answer", first, f"was told refused {refused} times, the verdicts say so {self.refusals[identity]} times")
        if events and all(outcome in ("refused", "malformed") for outcome in outcomes):
            self.findings.add("answer", first, f"was only ever told {sorted(set(outcomes))}, and is {events[0].name()}")
        fresh = [(line, attempt) for line, attempt in lines if attempt["outcome"] == "accepted"]
        for (line, one), (later, two) in zip(fresh, fresh[1:]):
            # attempts that overlap may both hear of the one event; one that began after the answer must hear of a duplicate
            if two.get("start", 1) >= one.get("end", 0):
                self.findings.add("answer", first, f"was told accepted in line {line}, and again, not duplicate, in line {later}")
