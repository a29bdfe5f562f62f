#!/usr/bin/env python3
"""A late EndTxn: held by the proxy, its connection cut, and released into the arbiter's next transaction.

The client library sends an EndTxn again by itself when a connection is cut, and tells of a good commit; so the first
one, which is still under way, can commit half of the next transaction although no call ever failed (test_proxy.py).
Here it is released when the next transaction has its events written and its verdicts not, or the other way round.
"""

import http.client
import json
import sys
import threading
import time

from frame import partition_of
from stage import Engine, Failure, Proxied, Stage, eventually, main

HEALS_MAX_S = 5.0
MODEL = "default/late"


class Caller:
    """Proposes to a door, and notes every answer in a ledger."""

    def __init__(self, stage, url):
        self.ledger, self.url, self.count = stage.folder / "ledger", url, 0

    def propose(self):
        """One event; answers its line."""
        self.count += 1
        data = json.dumps({"metric": "accuracy", "value": self.count} if self.count > 1 else {"owner": "ada"})
        kind = "model.measured" if self.count > 1 else "model.created"
        op = {"op": "write", "via": "http", "key": MODEL, "id": f"late-{self.count}", "source": "/late", "data": data}
        op |= {"type": f"dev.annals.{kind}.v1", "subject": MODEL, "sound": True}
        event = {"specversion": "1.0", **{name: op[name] for name in ("id", "source", "type", "subject")}}
        body = json.dumps(event)[:-1] + f', "data": {data}}}'
        start, status = time.monotonic(), 202
        while status == 202:
            door = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
            door.request("POST", "/v1/events", body, {"Content-Type": "application/cloudevents+json"})
            answer = door.getresponse()
            status, said = answer.status, json.loads(answer.read())
            named = {201: "accepted", 200: "duplicate", 202: "pending"}
            line = {**op, "start": start, "end": time.monotonic(), "status": status, "outcome": named.get(status, "none")}
            line |= {name: said.get(name) for name in ("position", "modelseq", "version")}
            with self.ledger.open("a", encoding="utf-8") as ledger:
                ledger.write(json.dumps(line) + "\n")
        if status not in named:
            raise Failure(f"{op['id']} was answered with {status}: {said}")
        return line


def late(stage, held_topic):
    """One late EndTxn; `held_topic` is what the next transaction has not written yet when it comes."""
    partition = partition_of(MODEL.encode(), stage.partitions)
    proxy = Proxied(stage, kafka=stage.bootstrap)
    arbiter = Engine(stage, "arbiter", "--roles", "arbiter", kafka=proxy.links["kafka"]).ready()
    door = Engine(stage, "door", "--roles", "door,projector").ready()
    caller = Caller(stage, door.url)
    caller.propose()
    proxy.do("hold", api_key=26, contains=f"{stage.prefix}.arbiter.{partition}", cut=True)
    caller.propose()
    eventually("an EndTxn is held", lambda: proxy.do("held")["held"])
    proxy.do("hold", api_key=0, contains=f"{stage.prefix}.{held_topic}")
    waiting = threading.Thread(target=caller.propose)
    waiting.start()
    eventually("the next transaction is half written", lambda: len(proxy.do("held")["held"]) == 2)
    first = proxy.do("release", id=0)["released"][0]
    rest = proxy.do("release")["released"][0]
    proxy.do("heal")
    began = time.monotonic()
    waiting.join()
    caller.propose()
    healed = time.monotonic() - began
    if first["error"] != 0:
        raise Failure(f"the late EndTxn was not taken, so this test shows nothing: {first} {rest}")
    found = stage.judge(caller)
    if healed > HEALS_MAX_S:
        raise Failure(f"it took {healed:.1f} s to heal, at most {HEALS_MAX_S} s are allowed")
    codes = {engine.name: engine.end() for engine in (arbiter, door)}
    if any(codes.values()):
        raise Failure(f"exit codes after SIGTERM: {codes}")
    return {"heals_s": round(healed, 2), "duplicates": found["duplicates"], "orphans": found["orphans"], "events": found["events"]}


def both(options):
    """The events are there and the verdicts are not, and the other way round."""
    measured = {}
    for held_topic in options.held.split(","):
        with Stage(options.annals, options.kafka) as stage:
            measured[f"{held_topic} held"] = late(stage, held_topic)
    return measured


if __name__ == "__main__":
    sys.exit(main(__doc__, both, held="verdicts,journal"))
