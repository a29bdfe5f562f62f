#!/usr/bin/env python3
"""Judges a history from its raw topics, and shares no code with the engine that wrote it.

Prints one JSON summary; exit 0 if the history is what the documents demand, 1 if not, with what is wrong and where.

  check.py --bootstrap HOST:PORT --prefix PREFIX [--ledger FILE] [--unsettled] [--dump FILE]
  check.py --from DUMP [--ledger FILE] [--unsettled]
"""

import argparse
import json
import sys

import raw
from answers import Answers, read_ledger
from chain import Findings, check_places, follow
from judge import PartitionJudge

SHOWN_MAX = 5  # of each kind: one cause may have many consequences


def check(topics, attempts=None, quiesced=True):
    """The summary of a history; `findings` is empty if nothing is wrong."""
    findings = Findings()
    partitions = topics.partitions.get("journal", 0)
    if not partitions or any(topics.partitions.get(topic) != partitions for topic in raw.TOPICS):
        findings.add("topics", "topics", f"their numbers of partitions are not equal: {topics.partitions}")
    for (topic, partition), offset in sorted(topics.begin.items()):
        if offset > 0:
            findings.add("topics", f"{topic} {partition}", f"begins at offset {offset}: what was before cannot be judged")
    histories = []
    for partition in range(partitions):
        stream = follow(partition, topics.of("journal", partition), findings)
        check_places(stream, partitions, findings)
        judge = PartitionJudge(stream, partitions, findings)
        histories.append(judge.judge(topics.of("proposals", partition), topics.of("verdicts", partition), quiesced))
    answers = None
    if attempts is not None:
        proposals = [record for p in range(partitions) for record in topics.of("proposals", p)]
        answers = Answers(histories, proposals, findings).judge(attempts)
    return summary(topics, histories, answers, findings)


def summary(topics, histories, answers, findings):
    """What was seen, in numbers, and what is wrong, in words."""
    outcomes = {}
    for history in histories:
        for name, count in history.counts.items():
            outcomes[name] = outcomes.get(name, 0) + count
    checks, shown = {}, []
    for finding in findings.list:
        checks[finding["check"]] = checks.get(finding["check"], 0) + 1
        shown += [finding] if checks[finding["check"]] <= SHOWN_MAX else []
    streams = [history.stream for history in histories]
    return {
        "ok": not findings.list,
        "partitions": len(histories),
        "events": sum(len(stream.accepted) for stream in streams),
        "models": len({e.key for stream in streams for e in stream.accepted if e.modelseq}),
        "duplicates": sum(stream.duplicates for stream in streams),
        "orphans": sum(len(stream.orphans) for stream in streams),
        "uncommitted": topics.uncommitted,
        "proposals": outcomes,
        "verdicts": sum(len(found) for history in histories for found in history.verdicts.values()),
        "answers": answers,
        "wrong": checks,
        "findings": shown,
    }


def main():
    """Reads, judges, says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="the cluster")
    parser.add_argument("--prefix", default="annals", help="of the topics' names")
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a setting of librdkafka")
    parser.add_argument("--from", dest="source", metavar="DUMP", help="judge a dump instead of a cluster")
    parser.add_argument("--dump", metavar="FILE", help="also keep what was read")
    parser.add_argument("--ledger", metavar="FILE", help="what clients were told")
    parser.add_argument("--unsettled", action="store_true", help="the engine still runs: proposals at the end may be unanswered")
    options = parser.parse_args()
    if (options.source is None) == (options.bootstrap is None):
        parser.error("name a cluster with --bootstrap, or a dump with --from")
    if options.source:
        topics = raw.load(options.source)
    else:
        properties = dict(item.split("=", 1) for item in options.property)
        topics = raw.read(options.bootstrap, options.prefix, properties)
    if options.dump:
        raw.dump(topics, options.dump)
    attempts = read_ledger(options.ledger) if options.ledger else None
    result = check(topics, attempts, not options.unsettled)
    print(json.dumps(result, indent=1, ensure_ascii=False))
    for finding in result["findings"]:
        print(f"{finding['check']}: {finding['where']}: {finding['message']}", file=sys.stderr)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
