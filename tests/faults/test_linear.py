#!/usr/bin/env python3
"""Shows that linear.py passes a good history and finds each kind of bad one, by its rule."""

import copy
import json
import sys

from linear import judge

KEY = "default/iris"


def write(name, start, end, number, outcome="accepted", **more):
    """An attempt of a write; `number` is its modelseq."""
    op = {"op": "write", "via": "http", "key": KEY, "source": "/t", "id": name, "start": start, "end": end, "outcome": outcome}
    op |= {"type": "dev.annals.version.registered.v1", "data": "{}"}
    return op | ({"modelseq": number, "position": f"0:{number}"} if number else {}) | more


def read(start, end, number, **more):
    """A read of the view that saw this modelseq."""
    return {"op": "read", "via": "http", "key": KEY, "start": start, "end": end, "status": 200, "modelseq": number, **more}


def good():
    """Two clients with overlaps, retries, conditions, stale refusals and reads."""
    promoted = {"type": "dev.annals.version.promoted.v1", "data": json.dumps({"channel": "dev"}), "version": 1}
    return [
        write("a", 0, 2, 1),
        write("b", 1, 4, None, "none"),  # no answer
        write("c", 3, 5, 2, if_match=1),
        write("b", 6, 7, 3, "duplicate"),  # it had come in after c
        write("d", 8, 9, None, "refused", code="stale-expectation", if_match=1, state_modelseq=3),
        read(9, 10, 3, min_position="0:3", versions=3, channels={}),
        write("e", 9, 12, 4, **promoted),
        read(10, 11, 4, versions=3, channels={"dev": 1}),  # concurrent with e
        read(13, 14, 2),  # the view lags, and no position was asked for
        write("f", 13, 20, None, "none"),
        write("g", 14, 15, None, "refused", code="no-change", state_modelseq=5),  # f came in already
    ]


def changed(at, **members):
    """The good history with other members in one line."""

    def change():
        ops = copy.deepcopy(good())
        ops[at] |= members
        return ops

    return change


BAD = {
    "two writes have one number": (1, lambda: [*good(), write("h", 30, 31, 4)]),
    "a retry hears another number": (1, lambda: [*good(), write("a", 30, 31, 6, "duplicate")]),
    "a retry hears another position": (1, lambda: [*good(), write("a", 30, 31, 1, "duplicate", position="0:9")]),
    "a later write has a smaller number": (2, lambda: [write("a", 0, 1, 2), write("b", 2, 3, 1)]),
    "far apart in number, still in the wrong order": (2, lambda: [write("a", 0, 1, 9), write("c", 0, 9, 5), write("b", 2, 3, 1)]),
    "If-Match was not kept": (3, changed(2, if_match=0)),
    "stale without a reason": (3, changed(4, if_match=3)),
    "a refusal was judged on an old state": (4, changed(4, state_modelseq=2)),
    "a read is older than its position": (5, changed(5, modelseq=2, versions=2)),
    "a read with a position finds no model": (5, changed(5, modelseq=None, status=404)),
    "a read is from the future": (6, lambda: [*good()[:3], read(1, 2, 2), *good()[3:]]),
    "a read saw a version too few": (6, changed(5, versions=2)),
    "a read saw another version in the channel": (6, changed(7, channels={"dev": 2})),
}


def main():
    """The good one, then the table."""
    passed = judge(good())
    assert passed["ok"], passed
    assert passed["operations"] == len(good()), passed
    failed = []
    for name, (rule, make) in BAD.items():
        result = judge(make())
        # others may follow from it, but the rule that was broken is the one that is named first
        ok = not result["ok"] and result["findings"][0]["rule"] == rule
        print(f"{'ok  ' if ok else 'FAIL'} {name:48} {[(f['rule'], f['message']) for f in result['findings']]}")
        failed += [] if ok else [name]
    assert not failed, failed
    return 0


if __name__ == "__main__":
    sys.exit(main())
