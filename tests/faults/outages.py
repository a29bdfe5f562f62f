#!/usr/bin/env python3
"""PostgreSQL or the schema registry killed for a while under load: the doors go on and say so, and nothing is missing after.

Both are servers of the test's own. While PostgreSQL is away reads are refused, when it is back the views catch up by
themselves and are equal to a replay; while the registry is away events go on with the schemas that are compiled in.
"""

import sys
import tempfile
import time

from kills import counted
from replay import differing
from stage import Engine, Failure, Load, Service, Stage, eventually, main


def outages(options):
    """The registry, then the database, then the judges."""
    with tempfile.TemporaryDirectory(prefix="annals-outages-") as folder:
        with Service(folder, "schema-registry") as registry, Service(folder, "postgres") as database:
            with Stage(options.annals, options.kafka) as stage:
                return under_load(stage, registry, database, options)


def under_load(stage, registry, database, options):
    """Two instances on one database."""
    flags = ["--schema-registry", registry.address, "--database", database.address]
    engines = [Engine(stage, name, *flags).ready() for name in ("one", "two")]
    load = Load(stage, [engine.url for engine in engines], "--seed", str(options.seed), "--clients", "8", "--models", "24", "--partitions", "6")
    eventually("every partition accepts the load", lambda: load.accepted() > 100 and load.busy() == 6)
    told = {
        "schema registry": away(registry, engines, load, options.seconds, lambda ready: ready["notes"] if ready["ready"] else None),
        "database": away(database, engines, load, options.seconds, lambda ready: ready["reasons"] or ready.get("notes")),
    }
    load.end()
    found = stage.judge(load)
    eventually("the views have everything", lambda: all(caught_up(engine) for engine in engines))
    replayed = Engine(stage, "replayed", "--roles", "door,projector").ready()
    eventually("the replay has everything", lambda: caught_up(replayed))
    for engine in engines:
        wrong = differing(engine, replayed)
        if wrong:
            raise Failure(f"{engine.name} and a replay differ: {wrong}")
    codes = {engine.name: engine.end() for engine in (*engines, replayed)}
    if any(codes.values()):
        raise Failure(f"exit codes after SIGTERM: {codes}")
    return {"told": told, **counted(found)}


def away(service, engines, load, seconds, told):
    """Kills a server for a while; answers what the doors said meanwhile."""
    service.do("kill", service.folder)
    began = time.monotonic()
    said = {}

    def says(engine):
        status, ready = engine.ask("/readyz")
        said[engine.name] = told({"reasons": [], "notes": [], **ready}) if status else None
        return said[engine.name]

    for engine in engines:
        eventually(f"{engine.name} says that {service.script.name} is away", lambda engine=engine: says(engine))
    time.sleep(max(0, seconds - (time.monotonic() - began)))  # how long it is away, not a wait for something
    since = time.monotonic()
    eventually(f"every partition accepts without {service.script.name}", lambda: len(load.silence(since)) == 6)
    service.do("up", service.folder)
    for engine in engines:
        eventually(f"{engine.name} has it back", lambda engine=engine: engine.status("/readyz") == 200 and not engine.ask("/readyz")[1].get("notes"))
    return said[engines[0].name]


def caught_up(engine):
    """Whether its views have what the journal has."""
    status, answer = engine.ask("/v1/views")
    return status == 200 and all(view["lag_events"] == 0 and view["state"] == "following" for view in answer["views"])


if __name__ == "__main__":
    sys.exit(main(__doc__, outages, seconds=10.0))
