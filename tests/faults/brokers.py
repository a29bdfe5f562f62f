#!/usr/bin/env python3
"""kill -9 of each broker of three in turn, under load: accepts go on within 30 s, and nothing that was answered is lost.

Each of them leads partitions, coordinates groups and transactions; one of them is the controller. The next is killed
when the one before is back and has caught up. Starts a cluster of its own; --kafka is not used.
"""

import sys
import tempfile
import time

from kills import counted
from stage import Engine, Failure, Load, Service, Stage, eventually, main

RESUMES_MAX_S = 30.0


def brokers(options):
    """One round for each broker, then the judges."""
    with tempfile.TemporaryDirectory(prefix="annals-brokers-") as folder, Service(folder, "kafka-cluster") as cluster:
        bootstrap = cluster.address
        with Stage(options.annals, bootstrap, replicas=3) as stage:
            engines = [Engine(stage, name).ready() for name in ("one", "two")]
            flags = ["--seed", str(options.seed), "--clients", "12", "--models", "24", "--partitions", "6", "--patience", "90", "--timeout", "10"]
            flags += ["--kafka", bootstrap, "--prefix", stage.prefix, "--kafka-clients", "1", "--kafka-rate", "10"]
            load = Load(stage, [engine.url for engine in engines], *flags)
            eventually("every partition accepts the load", lambda: load.accepted() > 100 and load.busy() == 6)
            took = {}
            for broker in options.brokers.split(","):
                led = len([1 for leader, _ in layout(bootstrap, stage) if leader == int(broker)])
                cluster.do("kill", cluster.folder, broker)
                killed = time.monotonic()
                eventually(f"every partition accepts without broker {broker}", lambda since=killed: len(load.silence(since)) == 6)
                took[f"broker {broker}, leader of {led}"] = round(max(load.silence(killed).values()), 2)
                back(cluster, broker)
                eventually(f"broker {broker} has caught up", lambda: all(in_sync == 3 for _, in_sync in layout(bootstrap, stage)))
            load.end()
            found = stage.judge(load)
            slow = {name: seconds for name, seconds in took.items() if seconds > RESUMES_MAX_S}
            if slow:
                raise Failure(f"accepts resumed too late, at most {RESUMES_MAX_S} s are allowed: {slow}")
            codes = {engine.name: engine.end() for engine in engines}
            if any(codes.values()):
                raise Failure(f"exit codes after SIGTERM: {codes}")
            return {"resumes_s": took, **counted(found)}


def back(cluster, broker):
    """Starts a broker again; the others refuse it until they have missed it for a while."""

    def started():
        try:
            cluster.do("start", cluster.folder, broker)
        except Failure:
            return False
        return True

    eventually(f"broker {broker} is back", started)


def layout(bootstrap, stage):
    """Leader and number of replicas in sync, of each partition of the engine's topics."""
    from confluent_kafka.admin import AdminClient

    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=30).topics
    own = [topic for name, topic in topics.items() if name.startswith(stage.prefix + ".")]
    return [(partition.leader, len(partition.isrs)) for topic in own for partition in topic.partitions.values()]


if __name__ == "__main__":
    sys.exit(main(__doc__, brokers, brokers="1,2,3"))
