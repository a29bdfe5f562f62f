#!/usr/bin/env python3
"""Topics that were truncated, made anew, emptied or written to by somebody else, and a directory of another cluster.

Each time the engine halts the partition or refuses to start, says why and what to do (/readyz, `annals doctor`, its
log), and writes nothing any more; what lies elsewhere goes on.
"""

import json
import shutil
import sys

from frame import partition_of
from stage import Engine, Failure, Stage, eventually, main
from topics import Topics

HIT, WHOLE = 1, 2  # the partition that is hit, and one that is not
PARTITIONS = 3


def model_in(partition, number=0):
    """A model whose events lie in a partition."""
    keys = (f"default/model-{n}" for n in range(10_000))
    return [key for _, key in zip(range(1_000), keys) if partition_of(key.encode(), PARTITIONS) == partition][number]


def event(key, number):
    """A proposal as JSON: the first creates the model, the others measure it."""
    kind, data = ("model.measured", {"metric": "accuracy", "value": number}) if number else ("model.created", {"owner": "ada"})
    return {"specversion": "1.0", "id": f"{key}-{number}", "source": "/disasters", "type": f"dev.annals.{kind}.v1", "subject": key, "data": data}


def propose(engine, key, number):
    """One event over HTTP; answers the status."""
    body = json.dumps(event(key, number)).encode()
    return engine.ask("/v1/events", body, content_type="application/cloudevents+json")[0]


def lived(stage, name="one"):
    """An engine under which each partition got five events; it runs."""
    engine = Engine(stage, name).ready()
    for partition in range(PARTITIONS):
        for number in range(5):
            status = propose(engine, model_in(partition), number)
            if status != 201:
                raise Failure(f"event {number} of partition {partition} was answered with {status}")
    return engine


def halted(stage, engine, said, todo, partition=HIT):
    """The partition is halted for this reason, everybody says so, and nothing is written; the others go on."""
    topics = Topics(stage)

    def reason():
        found = [text for text in engine.ask("/readyz")[1].get("reasons", []) if text.startswith(f"partition {partition} is halted")]
        return found[0] if found else None

    eventually(f"partition {partition} is halted", reason)
    missing = [word for word in (*said, *todo) if word not in reason()]
    if missing:
        raise Failure(f"/readyz does not say {missing}: {reason()}")
    if f"partition={partition}" not in engine.said() or "partition halted" not in engine.said():
        raise Failure(f"the log does not say that partition {partition} is halted: {engine.said()[-2000:]}")
    doctor = stage.tried("doctor", "--url", engine.url)
    if doctor.returncode != 1 or f"partition {partition} has halted" not in doctor.stdout or "what to do: " not in doctor.stdout:
        raise Failure(f"annals doctor ended with {doctor.returncode} and does not say it: {doctor.stdout} {doctor.stderr}")
    before = {word: topics.end(word, partition) for word in ("journal", "verdicts")}
    key = model_in(partition)
    status = propose(engine, key, 100)
    if status != 503:
        raise Failure(f"a proposal for the halted partition was answered with {status}")
    one = event(key, 101)
    headers = [("content-type", b"application/json"), *((f"ce_{name}", one[name].encode()) for name in one if name != "data")]
    topics.send("proposals", partition, key.encode(), json.dumps(one["data"]).encode(), headers)
    return reason(), before


def goes_on(stage, engine, before, partition=HIT, whole=WHOLE):
    """Another partition accepts, and nothing has come into the halted one."""
    status = propose(engine, model_in(whole), 100)
    if status != 201:
        raise Failure(f"a proposal for the whole partition {whole} was answered with {status}")
    still(stage, before, partition)


def still(stage, before, partition=HIT):
    """Nothing has come since."""
    after = {word: Topics(stage).end(word, partition) for word in before}
    if after != before:
        raise Failure(f"something was written after the halt: {before}, {after}")


def refused(engine, said):
    """It does not start, and says why."""
    code, text = engine.ended()
    missing = [word for word in said if word not in text]
    if code == 0 or missing:
        raise Failure(f"{engine.name} ended with {code}, and does not say {missing}: {text}")
    return text.strip().splitlines()[-1]


def halts_or_refuses(stage, name):
    """A journal that has lost records: the partition halts, or nothing starts at all; and nothing is written."""
    ends = {(word, p): Topics(stage).end(word, p) for word in ("journal", "verdicts") for p in range(PARTITIONS)}
    engine = Engine(stage, name)

    def decided():
        if engine.process.poll() is not None:
            return True
        if engine.url is None and "annals listens on" in engine.said():
            engine.listening()
        return engine.url is not None and any("is halted" in text for text in engine.ask("/readyz")[1].get("reasons", []))

    eventually("it halts or refuses to start", decided)
    if engine.process.poll() is None:
        reason, before = halted(stage, engine, [], ["restore"])
        goes_on(stage, engine, before)
        return reason
    said = refused(engine, ["partition 1", "restore"])
    if ends != {(word, p): Topics(stage).end(word, p) for word, p in ends}:
        raise Failure("something was written although it refused to start")
    return said


def journal_truncated_while_down(stage):
    """A whole partition of the journal is emptied; the engine has snapshots of it."""
    lived(stage).end()
    Topics(stage).truncate("journal", HIT)
    return halts_or_refuses(stage, "one")


def journal_truncated_without_snapshots(stage):
    """The same, seen by an instance that never saw the records."""
    lived(stage).end()
    Topics(stage).truncate("journal", HIT)
    return halts_or_refuses(stage, "two")


def journal_loses_its_beginning(stage):
    """Only the oldest records are gone: what is left follows from nothing, with snapshots or without."""
    lived(stage).end()
    Topics(stage).truncate("journal", HIT, before=6)
    return halts_or_refuses(stage, "one")


def journal_made_anew(stage):
    """Deleted and created by hand: there is no opening record, and `topics create` makes none beside the verdicts."""
    lived(stage).end()
    topics = Topics(stage)
    topics.delete("journal")
    topics.create("journal")
    said = refused(Engine(stage, "one"), ["no opening record", "restore"])
    done = stage.tried("topics", "create", "--kafka", stage.bootstrap, "--kafka-prefix", stage.prefix, *SIZE)
    if done.returncode == 0 or "restore" not in done.stderr:
        raise Failure(f"topics create opened an emptied journal: {done.stdout} {done.stderr}")
    still(stage, {"journal": 0}, 0)
    return [said, done.stderr.strip().splitlines()[-1]]


def journal_deleted_under_the_engine(stage):
    """The same under a running engine."""
    engine = lived(stage)
    topics = Topics(stage)
    topics.delete("journal")
    topics.create("journal")
    reason, before = halted(stage, engine, [], ["restore"])
    still(stage, before)
    return reason


def proposals_made_anew(stage):
    """The journal has answered proposals that no longer are; new ones would get old offsets."""
    lived(stage).end()
    topics = Topics(stage)
    topics.delete("proposals")
    topics.create("proposals")
    engine = Engine(stage, "one").listening()
    reason, before = halted(stage, engine, ["emptied or made anew"], ["annals partition resume"])
    still(stage, before)
    return reason


def proposals_deleted_before_their_answer(stage):
    """Proposals came while no arbiter ran, and were deleted."""
    lived(stage).end()
    topics, key = Topics(stage), model_in(HIT)
    for number in range(10, 13):
        one = event(key, number)
        headers = [("content-type", b"application/json"), *((f"ce_{name}", one[name].encode()) for name in one if name != "data")]
        topics.send("proposals", HIT, key.encode(), json.dumps(one["data"]).encode(), headers)
    topics.truncate("proposals", HIT)
    engine = Engine(stage, "one").listening()
    reason, before = halted(stage, engine, ["were deleted before"], ["annals partition resume"])
    goes_on(stage, engine, before)
    return reason


def directory_of_another_cluster(stage):
    """Snapshots and views of other topics lie in --data: snapshots are passed over, views are not shown."""
    with Stage(stage.annals, stage.bootstrap, PARTITIONS) as other:
        lived(other).end()
        shutil.copytree(other.folder / "one", stage.folder / "one")
    for file in (stage.folder / "one").glob("views.db*"):
        file.rename(stage.folder / file.name)
    if not list((stage.folder / "one" / "snapshots").glob("*.snapshot")):
        raise Failure("there are no snapshots, so this test shows nothing")
    engine = lived(stage)
    if "a snapshot of another journal is not used" not in engine.said():
        raise Failure(f"nothing is said about the snapshots: {engine.said()}")
    stage.judge()
    engine.end()
    for file in (stage.folder / "one").glob("views.db*"):
        file.unlink()
    for file in stage.folder.glob("views.db*"):
        shutil.copy(file, stage.folder / "one" / file.name)
    engine = Engine(stage, "one").listening()
    reasons = []

    def told():
        reasons[:] = [text for text in engine.ask("/readyz")[1].get("reasons", []) if "view" in text]
        return reasons and "not open yet" not in reasons[0]

    eventually("the views of another journal are refused", told)
    if "belongs to the journal" not in reasons[0] or "made anew" not in reasons[0]:
        raise Failure(f"the reason is not that they are another journal's: {reasons}")
    if propose(engine, model_in(HIT), 50) != 201:
        raise Failure("proposals are not accepted, although only the views are of another journal")
    if engine.ask("/v1/models")[0] < 500:
        raise Failure("the views of another journal are shown")
    engine.end()
    return reasons[0]


def journal_never_opened(stage):
    """All topics are there, made by hand: nothing may begin a journal but `annals topics create`, and that does."""
    topics = Topics(stage)
    for word in ("proposals", "journal", "verdicts"):
        topics.delete(word)
        topics.create(word)
    said = refused(Engine(stage, "one"), ["no opening record", "annals topics create"])
    still(stage, {"journal": 0}, HIT)
    stage.run("topics", "create", "--kafka", stage.bootstrap, "--kafka-prefix", stage.prefix, *SIZE)
    lived(stage, "two").end()
    stage.judge()
    return said


def foreign_record(stage):
    """Somebody writes a record that is well-formed and in the chain: no rule was asked, so it is not history."""
    engine = lived(stage)
    seq = Topics(stage).forge(HIT)
    said, todo = [f"seq {seq}", "somebody else wrote to the journal"], ["annals partition resume"]
    reason, before = halted(stage, engine, said, todo)
    goes_on(stage, engine, before)
    engine.end()
    engine = Engine(stage, "two").listening()  # which never saw it come
    _, before = halted(stage, engine, said, todo)
    still(stage, before)
    return reason


SIZE = ["--partitions", str(PARTITIONS), "--replication-factor", "1", "--min-insync-replicas", "1"]
DISASTERS = [
    journal_truncated_while_down,
    journal_truncated_without_snapshots,
    journal_loses_its_beginning,
    journal_made_anew,
    journal_deleted_under_the_engine,
    proposals_made_anew,
    proposals_deleted_before_their_answer,
    directory_of_another_cluster,
    journal_never_opened,
    foreign_record,
]


def disasters(options):
    """Each on topics of its own; all are tried, then those that failed are told."""
    said, failed = {}, {}
    for disaster in DISASTERS:
        if options.only and options.only not in disaster.__name__:
            continue
        try:
            with Stage(options.annals, options.kafka, PARTITIONS) as stage:
                said[disaster.__name__] = disaster(stage)
        except Failure as failure:
            failed[disaster.__name__] = str(failure)
    if failed:
        raise Failure(json.dumps(failed, indent=1, ensure_ascii=False))
    return said


if __name__ == "__main__":
    sys.exit(main(__doc__, disasters, only=""))
