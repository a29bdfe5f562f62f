#!/usr/bin/env python3
"""Three arbiters that all believe to own every partition: they fence one another, and the stream is still the oracle's.

The group is only a hint. With `--own-every-partition` there is none, so each instance claims each partition again and
again; what keeps them apart is the fence of the claim, and what makes them agree is rule R.
"""

import re
import sys
import time

from kills import counted
from stage import Engine, Failure, Load, Stage, eventually, main

INSTANCES = ("one", "two", "three")
LOST = re.compile(r"^annals_claims_lost_total\{[^}]*\} (\d+)", re.MULTILINE)


def unfenced(options):
    """A load on all three doors, looked at in rounds: each must accept something new in every partition."""
    with Stage(options.annals, options.kafka) as stage:
        engines = [Engine(stage, name, "--own-every-partition").listening() for name in INSTANCES]
        for engine in engines:
            eventually(f"{engine.name} answers", lambda engine=engine: engine.status("/healthz") == 200)
        flags = ["--seed", str(options.seed), "--clients", "12", "--models", "24", "--partitions", "6", "--patience", "60", "--timeout", "8"]
        load = Load(stage, [engine.url for engine in engines], *flags)
        waits = []
        for number in range(options.rounds):
            since = time.monotonic()
            if number:
                eventually("every partition goes on", lambda since=since: len(load.silence(since)) == 6)
                waits.append(round(max(load.silence(since).values()), 2))
            else:
                eventually("the load is accepted", lambda: load.busy() == 6)
            time.sleep(options.seconds)  # how long a round lasts, not a wait for something
        load.end()
        lost = sum(claims_lost(engine) for engine in engines)
        # they would go on to fence one another, also without work
        codes = {engine.name: engine.end() for engine in engines}
        last = Engine(stage, "last").ready()
        found = stage.judge(load)
        if lost < options.rounds * 6:
            raise Failure(f"claims were lost {lost} times only: they did not fence one another, so this test shows nothing")
        if any(codes.values()) or last.end():
            raise Failure(f"exit codes after SIGTERM: {codes}")
        return {"claims_lost": lost, "slowest_partition_s": waits, **counted(found)}


def claims_lost(engine):
    """How often an arbiter of this instance was fenced, or gave up."""
    found = LOST.findall(engine.text("/metrics"))
    if not found:
        raise Failure("there is no annals_claims_lost_total on /metrics")
    return sum(map(int, found))


if __name__ == "__main__":
    sys.exit(main(__doc__, unfenced, rounds=4, seconds=3.0))
