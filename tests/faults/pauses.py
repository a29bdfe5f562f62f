#!/usr/bin/env python3
"""SIGSTOP of an owner in the middle of a transaction, a successor, SIGCONT: nothing of the old owner is ever committed.

The proxy holds the owner's EndTxn, so that it is stopped with a transaction written and not committed; a second arbiter
takes over when the group has given it up; then the old one wakes, and its EndTxn goes on to the broker.
"""

import signal
import sys
import threading
import time

from frame import partition_of
from late import MODEL, Caller
from stage import Engine, Failure, Proxied, Stage, eventually, main

FENCED = (47, 90, 48)  # INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, INVALID_TXN_STATE


def pauses(options):
    """The rounds: the two arbiters take turns."""
    with Stage(options.annals, options.kafka) as stage:
        partition = partition_of(MODEL.encode(), stage.partitions)
        proxies = {name: Proxied(stage, kafka=stage.bootstrap) for name in ("one", "two")}
        engines = {name: Engine(stage, name, "--roles", "arbiter", kafka=proxies[name].links["kafka"]).ready() for name in proxies}
        door = Engine(stage, "door", "--roles", "door,projector").ready()
        caller = Caller(stage, door.url)
        caller.propose()
        took, answers = [], []
        for _ in range(options.rounds):
            took.append(round_of(stage, partition, proxies, engines, caller, answers))
        found = stage.judge(caller)
        if found["duplicates"] or found["orphans"]:
            raise Failure(f"records of a fenced owner were committed: {found}")
        if found["uncommitted"]["journal"] < options.rounds:
            raise Failure(f"no transaction was cut off, so this test shows nothing: {found['uncommitted']}")
        codes = {engine.name: engine.end() for engine in (*engines.values(), door)}
        if any(codes.values()):
            raise Failure(f"exit codes after SIGTERM: {codes}")
        return {"rounds": options.rounds, "takeover_s": took, "answers to the late EndTxn": answers, "events": found["events"]}


def round_of(stage, partition, proxies, engines, caller, answers):
    """Stops whoever owns the partition; answers how long its callers waited."""
    before = {name: len(proxy.do("held")["held"]) for name, proxy in proxies.items()}
    for proxy in proxies.values():
        proxy.do("hold", api_key=26, contains=f"{stage.prefix}.arbiter.{partition}")
    waiting = threading.Thread(target=caller.propose)
    waiting.start()

    def owner():
        return next((name for name, proxy in proxies.items() if len(proxy.do("held")["held"]) > before[name]), None)

    eventually("an EndTxn is held", owner)
    name = owner()
    engines[name].send(signal.SIGSTOP)
    for other, proxy in proxies.items():
        if other != name:
            proxy.do("heal")
    began = time.monotonic()
    waiting.join()
    took = time.monotonic() - began
    caller.propose()
    engines[name].send(signal.SIGCONT)
    for held in proxies[name].do("release")["released"]:
        answers.append(held["error"])
        if held["error"] not in FENCED:
            raise Failure(f"the EndTxn of the stopped owner was answered with {held}")
    proxies[name].do("heal")
    caller.propose()
    eventually(f"{name} is ready again", lambda: engines[name].status("/readyz") == 200)
    return round(took, 2)


if __name__ == "__main__":
    sys.exit(main(__doc__, pauses, rounds=2))
