#!/usr/bin/env python3
"""Shows that the checker passes a good history and notices each way to bend it, with the right reason.

  test_check.py              a forged history, and the golden files
  test_check.py --from DUMP  the same with a dump of a real history, bent in the ways that fit any
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import mutations
import raw
from check import check
from forge import good
from frame import murmur2, record_hash

GOLDEN = Path(__file__).resolve().parent.parent.parent / "events" / "golden"


def golden():
    """Frames and records that are fixed files hash to what is written there; murmur2 is Java's."""
    found = 0
    for path in sorted(GOLDEN.glob("*.json")):
        written = json.loads(path.read_text(encoding="utf-8"))
        for item in written if isinstance(written, list) else [written]:
            if "hash" not in item:  # not a record of the journal
                continue
            headers = [(name, content.encode()) for name, content in item["headers"].items()]
            hashed = record_hash(item["key"].encode(), headers, item["value"].encode())
            assert hashed == item["hash"], f"{path.name}: {item.get('about')} hashes to {hashed}"
            found += 1
    assert found > 20, f"only {found} golden records"
    # the vectors of Apache Kafka's own test
    for text, expected in (("21", -973932308), ("foobar", -790332482), ("abc", 479470107), ("a-little-bit-long-string", -985981536)):
        assert murmur2(text.encode()) == expected % 2**32, text
    return found


def forged():
    """Each mutation of the table on a fresh good history."""
    forge = good()
    passed = check(forge.topics, forge.ledger)
    assert passed["ok"], passed
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        raw.dump(forge.topics, path)
        assert check(raw.load(path), forge.ledger) == passed, "a dump is what was read"
    report(passed, {name: (lambda bend=bend: bend(good())) for name, bend in mutations.ON_FORGED.items()}, mutations.REASONS)
    harmless(lambda: good().topics)


def real(path):
    """The mutations that fit any history, on a dump."""
    passed = check(raw.load(path))
    assert passed["ok"], passed
    report(passed, {name: (lambda bend=bend: bend(raw.load(path))) for name, bend in mutations.ON_ANY.items()}, mutations.REASONS)
    harmless(lambda: raw.load(path))


def harmless(read):
    """What rule R is made for is not held against anybody."""
    for name, bend in mutations.HARMLESS.items():
        result = check(*bend(read()))
        assert result["ok"] and result["duplicates"] + result["orphans"] > 0, (name, result)
        print(f"ok   {name}: passed, with {result['duplicates']} duplicates and {result['orphans']} orphans")


def report(passed, cases, reasons):
    """Runs the cases and prints one line for each."""
    print(f"good: {passed['events']} events of {passed['models']} models, {passed['verdicts']} verdicts, nothing wrong")
    failed = []
    for name, bend in cases.items():
        topics, ledger = bend()
        result = check(topics, ledger)
        reason = reasons[name]
        ok = not result["ok"] and any(f["check"] == reason for f in result["findings"])
        first = next((f for f in result["findings"] if f["check"] == reason), None)
        print(f"{'ok  ' if ok else 'FAIL'} {name:58} {first['check'] + ': ' + first['message'][:90] if first else result['wrong']}")
        failed += [] if ok else [name]
    assert not failed, f"not noticed, or for another reason: {failed}"


def main():
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", metavar="DUMP")
    options = parser.parse_args()
    if options.source:
        real(options.source)
    else:
        print(f"golden: {golden()} records hash to what is written")
        forged()
    return 0


if __name__ == "__main__":
    sys.exit(main())
