#!/usr/bin/env python3
"""Judges whether each model behaved as one register that only moves forward, from what clients saw over HTTP.

The engine numbers the events of a model (`modelseq`), so the order is given and only has to be believed or not, in
one pass. A write took effect at one moment between its first attempt and its first settled answer; an attempt
without an answer may take effect at any later time.

  1  every write has a number of its own, and every attempt of one id hears the same number and position
  2  a write that ended before another began has the smaller number
  3  a write under `If-Match: n` has the number n + 1; a refusal that names the state it was judged on is a read of it
  4  such a read is not older than any write that had ended before, nor newer than any that had not begun
  5  a read of the view that carried a position is not older than the write at that position (read your writes)
  6  no read is from the future, and what it saw is what the writes up to its number make of the model

  linear.py --ledger FILE [--at-least N]
"""

import argparse
import json
import sys
from collections import defaultdict

from answers import read_ledger

FOREVER = float("inf")
SETTLED = ("accepted", "duplicate")


class Write:
    """All attempts of one id."""

    def __init__(self, identity):
        self.identity, self.start, self.end = identity, FOREVER, FOREVER
        self.modelseq = self.position = self.kind = self.data = self.version = None

    def __str__(self):
        return f"`{self.identity[1]}` (number {self.modelseq})"


class History:
    """One model: its writes by number, and what was read of it."""

    def __init__(self, key):
        self.key, self.wrong = key, []
        self.writes, self.reads = {}, []

    def say(self, rule, line, message):
        """Notes a violation."""
        self.wrong.append({"rule": rule, "model": self.key, "line": line, "message": message})

    def attempt(self, line, op):
        """Takes in one attempt of a write."""
        identity = (op["source"], op["id"])
        write = self.writes.setdefault(identity, Write(identity))
        write.start = min(write.start, op["start"])
        if op["outcome"] in SETTLED:
            write.end = min(write.end, op["end"])
            if write.modelseq not in (None, op["modelseq"]) or write.position not in (None, op["position"]):
                self.say(1, line, f"{write} at {write.position} is told to be number {op['modelseq']} at {op['position']}")
            write.modelseq, write.position = op["modelseq"], op["position"]
            write.kind, write.data, write.version = op.get("type"), op.get("data"), op.get("version")
            if op.get("if_match") is not None and op["modelseq"] != op["if_match"] + 1:
                self.say(3, line, f"{write} was accepted on the condition that the model is at {op['if_match']}")
        elif op["outcome"] == "refused" and op.get("state_modelseq") is not None:
            self.reads.append({"line": line, "start": op["start"], "end": op["end"], "modelseq": op["state_modelseq"], "strong": True})
            if op.get("code") == "stale-expectation" and op["state_modelseq"] == op.get("if_match"):
                self.say(3, line, f"`{op['id']}` was refused as stale, and the model was at {op['if_match']}")

    def judge(self):
        """All rules."""
        order = self.order()
        latest, ended = -FOREVER, []
        for write in order:
            if write.end < latest:
                self.say(2, None, f"{write} had ended before a write with a smaller number began")
            latest = max(latest, write.start)
            ended.append((write.end, write.modelseq))
        ended.sort()
        reads = sorted(self.reads, key=lambda read: read["start"])
        newest, at = 0, 0
        known = {write.modelseq: write for write in order}
        by_position = {write.position: write for write in order}
        for read in reads:
            while at < len(ended) and ended[at][0] < read["start"]:
                newest = max(newest, ended[at][1])
                at += 1
            self.judge_read(read, newest, known, by_position)

    def order(self):
        """The writes whose number is known, by number; no number twice."""
        known = sorted((w for w in self.writes.values() if w.modelseq is not None), key=lambda w: w.modelseq)
        for one, two in zip(known, known[1:]):
            if one.modelseq == two.modelseq:
                self.say(1, None, f"{one} and {two} have one number")
        return known

    def judge_read(self, read, newest, known, by_position):
        """Rules 4 to 6 on one observation."""
        number, line = read["modelseq"], read["line"]
        if read.get("strong") and number < newest:
            self.say(4, line, f"was judged on number {number}, when number {newest} had been answered")
        write = known.get(number)
        if write is not None and write.start > read["end"]:
            self.say(6, line, f"saw {write}, which had not begun")
        for position in filter(None, (read.get("min_position") or "").split(",")):
            write = by_position.get(position)
            if write is not None and number < write.modelseq:
                self.say(5, line, f"asked for {position}, which is {write}, and saw number {number}")
        if "versions" in read and all(n in known for n in range(1, number + 1)):
            made = value([known[n] for n in range(1, number + 1)])
            seen = (read["versions"], read["channels"])
            if made != seen:
                self.say(6, line, f"saw {seen} at number {number}, where the writes make {made}")


def value(writes):
    """What a row of writes makes of a model: how many versions, and what its channels hold."""
    versions, channels = 0, {}
    for write in writes:
        if write.kind.endswith("version.registered.v1"):
            versions += 1
        elif write.kind.endswith("version.promoted.v1"):
            channels[json.loads(write.data)["channel"]] = write.version
        elif write.kind.endswith("version.demoted.v1"):
            channels.pop(json.loads(write.data)["channel"], None)
    return versions, channels


def judge(ledger):
    """The summary of a ledger: counts, and what is wrong."""
    histories = {}
    counts = defaultdict(int)
    for line, op in enumerate(ledger, 1):
        if op.get("via") != "http":
            continue
        history = histories.setdefault(op["key"], History(op["key"]))
        if op["op"] == "read":
            counts["reads"] += 1
            if op.get("modelseq") is not None:
                history.reads.append({**op, "line": line, "strong": False})
                counts["reads_with_position"] += bool(op.get("min_position"))
            elif op.get("min_position") and op.get("status") == 404:
                history.say(5, line, f"asked for {op['min_position']}, and there was no such model")
        else:
            counts["attempts"] += 1
            history.attempt(line, op)
    for history in histories.values():
        history.judge()
    operations = counts["attempts"] + counts["reads"]
    wrong = [finding for history in histories.values() for finding in history.wrong]
    return {"ok": not wrong, "models": len(histories), "operations": operations, **counts, "wrong": len(wrong), "findings": wrong[:20]}


def main():
    """Reads, judges, says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", required=True, metavar="FILE")
    parser.add_argument("--at-least", type=int, default=1, metavar="N", help="fewer operations prove nothing: fail")
    options = parser.parse_args()
    result = judge(read_ledger(options.ledger))
    if result["operations"] < options.at_least:
        result |= {"ok": False, "few": f"{result['operations']} operations, {options.at_least} were asked for"}
    print(json.dumps(result, indent=1, ensure_ascii=False))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
