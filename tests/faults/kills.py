#!/usr/bin/env python3
"""kill -9 of arbiters and doors at random points under load: nothing that was answered is lost, and it soon goes on.

Two arbiters and two doors on one cluster; in each round one of them is killed and started again.
"""

import random
import sys
import time

from stage import Engine, Failure, Load, Stage, eventually, free_port, main

ARBITER, DOOR = ("--roles", "arbiter"), ("--roles", "door,projector")
RECOVERY_MAX_S, RECOVERY_ANY_MAX_S = 8.0, 15.0


def kills(options):
    """The rounds, then the judges."""
    chance = random.Random(options.seed)
    with Stage(options.annals, options.kafka) as stage:
        ports = {name: free_port() for name in ("arbiter-1", "arbiter-2", "door-1", "door-2")}
        engines = {name: start(stage, name, port) for name, port in ports.items()}
        for engine in engines.values():
            engine.ready()
        urls = [f"http://127.0.0.1:{ports[name]}" for name in ("door-1", "door-2")]
        flags = ["--seed", str(options.seed), "--clients", "12", "--models", "24", "--partitions", "6", "--patience", "30", "--timeout", "8"]
        flags += ["--kafka", options.kafka, "--prefix", stage.prefix, "--kafka-clients", "1", "--kafka-rate", "20"]
        load = Load(stage, urls, *flags)
        eventually("every partition accepts the load", lambda: load.accepted() > 100 and load.busy() == 6)
        moments = []
        for _ in range(options.rounds):
            time.sleep(chance.uniform(0.2, 2.0))  # a random point, not a wait for something
            name = chance.choice(sorted(engines))
            engines[name].kill()
            moments.append((name, time.monotonic()))
            engines[name] = start(stage, name, ports[name]).ready()
            moment = moments[-1][1]
            eventually(f"every partition accepts after the kill of {name}", lambda moment=moment: len(load.silence(moment)) == 6)
        eventually(f"there are {options.operations} operations to judge", lambda: load.attempts() >= options.operations, 300)
        load.end()
        found = stage.judge(load, at_least=options.operations)
        gaps = recoveries(load, moments)
        # of a few kills the slowest one says more of the machine's other work than of the engine
        share, limit = (0.99, RECOVERY_MAX_S) if len(gaps) >= 100 else (1, RECOVERY_ANY_MAX_S)
        worst = sorted(gap for _, gap in gaps)[int(len(gaps) * share) - 1]
        if worst > limit:
            raise Failure(f"kill to next accept took {worst:.1f} s, at most {limit} s is allowed: {gaps}")
        codes = {engine.name: engine.end() for engine in engines.values()}
        if any(codes.values()):
            raise Failure(f"exit codes after SIGTERM: {codes}")
        spread = spread_of([gap for _, gap in gaps])
        return {"rounds": options.rounds, "recovery_s": spread, **counted(found)}


def start(stage, name, port):
    """An engine of this name, at its port."""
    return Engine(stage, name, *(ARBITER if name.startswith("arbiter") else DOOR), port=port)


def recoveries(load, moments):
    """For each kill how long the slowest partition took to accept again."""
    return [(name, max(silent.values())) for name, moment in moments if (silent := load.silence(moment))]


def spread_of(gaps):
    """The distribution of some seconds."""
    row = sorted(gaps)
    at = lambda share: round(row[min(int(len(row) * share), len(row) - 1)], 2)  # noqa: E731
    return {"min": at(0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}


def counted(found):
    """The part of a judgement that is printed."""
    return {name: found[name] for name in ("events", "models", "duplicates", "orphans", "uncommitted", "answers", "operations") if name in found}


if __name__ == "__main__":
    sys.exit(main(__doc__, kills, rounds=5, operations=5_000))
