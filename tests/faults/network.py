#!/usr/bin/env python3
"""Latency, resets, half-open and one-way cuts between each program and the broker, under load: it heals by itself.

While a fault lasts, callers may wait or be told to come again; when it is over every partition accepts again, and what
was answered before, meanwhile and after is one history.
"""

import random
import sys
import time

from kills import counted
from stage import Engine, Load, Proxied, Stage, eventually, main

FAULTS = {
    "latency": {"do": "latency", "ms": 300, "jitter_ms": 200},
    "reset": {"do": "reset"},
    "refused": {"do": "close"},
    "cut up": {"do": "stall", "way": "up"},
    "cut down": {"do": "stall", "way": "down"},
    "half-open up": {"do": "swallow", "way": "up"},
    "half-open down": {"do": "swallow", "way": "down"},
}
HEALS_MAX_S = 30.0


def network(options):
    """Every fault on every pair, in an order of the seed."""
    chance = random.Random(options.seed)
    with Stage(options.annals, options.kafka) as stage:
        names = ("arbiter-1", "arbiter-2", "door-1")
        proxies = {name: Proxied(stage, kafka=stage.bootstrap) for name in names}
        engines = []
        for name, proxy in proxies.items():
            roles = "arbiter" if name.startswith("arbiter") else "door,projector"
            engines.append(Engine(stage, name, "--roles", roles, kafka=proxy.links["kafka"]).ready())
        flags = ["--seed", str(options.seed), "--clients", "12", "--models", "24", "--partitions", "6", "--patience", "60", "--timeout", "8"]
        load = Load(stage, [engines[-1].url], *flags)
        eventually("every partition accepts the load", lambda: load.accepted() > 100 and load.busy() == 6)
        cases = [(name, fault) for name in names for fault in FAULTS]
        chance.shuffle(cases)
        took = {}
        for name, fault in cases[: options.cases]:
            command = dict(FAULTS[fault])
            proxies[name].do(command.pop("do"), **command)
            time.sleep(chance.uniform(1, options.seconds))  # how long the fault lasts, not a wait for something
            proxies[name].do("heal")
            healed = time.monotonic()
            eventually(f"every partition accepts after `{fault}` of {name}", lambda since=healed: len(load.silence(since)) == 6)
            took[f"{fault}, {name}"] = round(max(load.silence(healed).values()), 2)
        load.end()
        found = stage.judge(load)
        slow = {case: seconds for case, seconds in took.items() if seconds > HEALS_MAX_S}
        if slow:
            raise SystemExit(f"FAILED: it took too long to heal, at most {HEALS_MAX_S} s are allowed: {slow}")
        return {"healed_s": took, **counted(found)}


if __name__ == "__main__":
    sys.exit(main(__doc__, network, cases=len(FAULTS) * 3, seconds=8.0))
