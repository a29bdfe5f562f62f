#!/usr/bin/env python3
"""kill -9 of projectors at random points under load: no event is applied twice or passed over, rows are those of a replay.

One instance keeps its views in its directory, two share a PostgreSQL of the test's own. Rows and position commit in one
transaction, so it must not matter whether the kill comes before it, in it or behind it.
"""

import random
import sys
import tempfile
import time

from kills import counted
from outages import caught_up
from replay import differing, questions
from stage import Engine, Failure, Load, Service, Stage, eventually, main

ROLES = ("--roles", "door,projector")


def projector(options):
    """The rounds, then the comparison."""
    with tempfile.TemporaryDirectory(prefix="annals-projector-") as folder, Service(folder, "postgres") as database:
        with Stage(options.annals, options.kafka) as stage:
            return killed(stage, database, options)


def killed(stage, database, options):
    """A door that stays takes the load; the others are killed in turn."""
    chance = random.Random(options.seed)
    stays = Engine(stage, "stays", "--roles", "door,arbiter,projector").ready()
    flags = {"directory": (), "database-1": ("--database", database.address), "database-2": ("--database", database.address)}
    engines = {name: Engine(stage, name, *ROLES, *flags[name]).ready() for name in flags}
    load = Load(stage, [stays.url], "--seed", str(options.seed), "--clients", "8", "--models", "16", "--partitions", "6")
    eventually("the load is accepted", lambda: load.accepted() > 100)
    for number in range(options.rounds):
        for name in sorted(flags):
            time.sleep(chance.uniform(0.1, 0.7))  # a random point, not a wait for something
            engines[name].kill()
            engines[name] = Engine(stage, name, *ROLES, *flags[name]).listening()
            before = load.accepted()
            eventually(f"round {number}: the load goes on", lambda before=before: load.accepted() > before)
    load.end()
    found = stage.judge(load)
    for engine in engines.values():
        eventually(f"the views of {engine.name} have everything", lambda engine=engine: caught_up(engine))
    replayed = Engine(stage, "replayed", *ROLES).ready()
    eventually("the replay has everything", lambda: caught_up(replayed))
    for name, engine in engines.items():
        wrong = differing(engine, replayed)
        if wrong:
            raise Failure(f"{name} and a replay differ: {wrong}")
    asked = len(questions(replayed))
    codes = {engine.name: engine.end() for engine in (*engines.values(), replayed, stays)}
    if any(codes.values()):
        raise Failure(f"exit codes after SIGTERM: {codes}")
    return {"kills": options.rounds * len(flags), "questions": asked, **counted(found)}


if __name__ == "__main__":
    sys.exit(main(__doc__, projector, rounds=4))
