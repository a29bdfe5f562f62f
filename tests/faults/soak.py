#!/usr/bin/env python3
"""The same load for a long time: answers stay fast, memory and file descriptors do not grow.

First the window of remembered ids is filled, which is to grow; then 500 events a second over HTTP. Memory is compared
between the first and the last fifth of the time. The limit on the time of an answer is for an idle machine and, as
every figure, for a release build (--annals target/release/annals) and a broker started with ANNALS_TEST_FIGURES=1.
"""

import http.client
import json
import os
import sys
import threading
import time

from stage import Engine, Failure, Stage, eventually, main

PARTITIONS = 2
REMEMBERED = 262_144  # ids of each partition
CALLERS = 10
SOURCE = b"/soak"


class Caller(threading.Thread):
    """Proposes at a steady pace; what an answer is late is not hidden by waiting for it."""

    def __init__(self, number, url, pace, until):
        super().__init__(daemon=True)
        self.number, self.pace, self.until, self.times, self.failed = number, pace, until, [], []
        self.door = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def run(self):
        """Until the time is over."""
        headers, due, count = {"Content-Type": "application/cloudevents+json"}, time.monotonic() + self.number * self.pace / CALLERS, 0
        while due < self.until and time.monotonic() < self.until:
            time.sleep(max(0.0, due - time.monotonic()))
            event = {"specversion": "1.0", "id": f"s-{self.number}-{count}", "source": "/soak", "type": "dev.annals.model.measured.v1"}
            event |= {"subject": f"default/soak-{(self.number * 7 + count) % 64}", "data": {"metric": "accuracy", "value": count}}
            self.door.request("POST", "/v1/events", json.dumps(event), headers)
            answer = self.door.getresponse()
            answer.read()
            if answer.status != 201:
                self.failed.append(answer.status)
            self.times.append((time.monotonic(), time.monotonic() - due))
            count, due = count + 1, due + self.pace


class Watch(threading.Thread):
    """Memory and file descriptors of a process, once a second."""

    def __init__(self, pid, until):
        super().__init__(daemon=True)
        self.pid, self.until, self.seen = pid, until, []

    def run(self):
        """Until the time is over."""
        while time.monotonic() < self.until:
            with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as lines:
                memory = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
            self.seen.append((memory, len(os.listdir(f"/proc/{self.pid}/fd"))))
            time.sleep(1)


def fill(stage, engine, each):
    """Proposes straight to Kafka until every window is full, and waits until it is judged."""
    from confluent_kafka import Producer

    own = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
    producer = Producer({"bootstrap.servers": stage.bootstrap, **own})
    data = b'{"metric": "accuracy", "value": 1}'
    for model in range(64):
        producer.produce(f"{stage.prefix}.proposals", b'{"owner": "ada"}', f"default/soak-{model}", headers=headers("model.created", model, f"c-{model}"))
    for count in range(each * PARTITIONS):
        model = count % 64
        while True:
            try:
                producer.produce(f"{stage.prefix}.proposals", data, f"default/soak-{model}", headers=headers("model.measured", model, f"f-{count}"))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(300)

    def judged():
        partitions = engine.ask("/v1/partitions")[1]["partitions"]
        return sum(p["seq"] or 0 for p in partitions) >= each * PARTITIONS + 64

    eventually("the windows are full", judged, 900)
    views = lambda: all(view["lag_events"] == 0 for view in engine.ask("/v1/views")[1]["views"])  # noqa: E731
    eventually("the views have it", views, 900)


def headers(kind, model, name):
    """Those of a proposal in binary mode."""
    fields = {"id": name, "type": f"dev.annals.{kind}.v1", "subject": f"default/soak-{model}", "specversion": "1.0"}
    return [("content-type", b"application/json"), ("ce_source", SOURCE), *((f"ce_{n}", text.encode()) for n, text in fields.items())]


def soak(options):
    """Fills, then measures."""
    with Stage(options.annals, options.kafka, PARTITIONS) as stage:
        engine = Engine(stage, "one").ready()
        fill(stage, engine, options.fill)
        until = time.monotonic() + options.seconds
        callers = [Caller(n, engine.url, CALLERS / options.rate, until) for n in range(CALLERS)]
        watch = Watch(engine.process.pid, until)
        for thread in (*callers, watch):
            thread.start()
        for thread in (*callers, watch):
            thread.join()
        measured = figures(callers, watch, options)
        stage.judge()
        if engine.end():
            raise Failure("it did not end well")
        wrong = [name for name, limit in LIMITS.items() if measured[name] > (getattr(options, name, None) or limit)]
        if wrong:
            raise Failure(f"{', '.join(wrong)}: more than allowed ({LIMITS}): {measured}")
        return measured


LIMITS = {"p99_ms": 60.0, "memory_drift_percent": 5.0, "descriptors_drift": 2, "not_accepted": 0, "missing_percent": 2.0}


def figures(callers, watch, options):
    """What is compared with the limits, and what helps to understand it."""
    asked = sorted((at, 1_000 * took) for caller in callers for at, took in caller.times)
    times = sorted(took for _, took in asked)
    tenths = [sorted(took for _, took in asked[n * len(asked) // 10 : (n + 1) * len(asked) // 10]) for n in range(10)]
    part = max(len(watch.seen) // 5, 1)
    first, last = watch.seen[:part], watch.seen[-part:]
    mean = lambda seen, at: sum(one[at] for one in seen) / len(seen)  # noqa: E731
    return {
        "events": len(times),
        "p50_ms": round(times[len(times) // 2], 2),
        "p99_ms": round(times[int(len(times) * 0.99)], 2),
        "p99_ms_by_tenth": [round(tenth[int(len(tenth) * 0.99)], 1) for tenth in tenths],
        "max_ms": round(times[-1], 2),
        "not_accepted": sum(len(caller.failed) for caller in callers),
        "missing_percent": round(100 * max(0, 1 - len(times) / (options.rate * options.seconds)), 2),
        "memory_mib": [round(mean(first, 0) / 1024, 1), round(mean(last, 0) / 1024, 1)],
        "memory_drift_percent": round(100 * (mean(last, 0) / mean(first, 0) - 1), 2),
        "descriptors": [first[0][1], last[-1][1]],
        "descriptors_drift": last[-1][1] - max(one[1] for one in first),
    }


if __name__ == "__main__":
    sys.exit(main(__doc__, soak, seconds=600.0, rate=500.0, fill=REMEMBERED, p99_ms=LIMITS["p99_ms"]))
