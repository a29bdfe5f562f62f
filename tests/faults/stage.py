"""Real programs on a real cluster, with topics of their own: what every fault test starts from and is judged by."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = HERE.parent / "services"
DEADLINE_S = 120


class Failure(Exception):
    """A test that did not end as it must."""


def eventually(what, holds, deadline_s=DEADLINE_S):
    """Polls until it holds; answers after how many seconds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > deadline_s:
            raise Failure(f"{what}: not within {deadline_s} s")
        time.sleep(0.02)
    return time.monotonic() - began


def free_port():
    """A port that nobody has now: a program that comes back needs its old one."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


class Engine:
    """One running `annals serve`; what it says is kept in a file."""

    def __init__(self, stage, name, *flags, kafka=None, port=0):
        self.name, self.stage = name, stage
        data = stage.folder / name
        data.mkdir(exist_ok=True)
        self.log = stage.folder / f"{name}.log"
        command = [stage.annals, "serve", "--data", data, "--listen", f"127.0.0.1:{port}"]
        command += ["--kafka", kafka or stage.bootstrap, "--kafka-prefix", stage.prefix] if stage.bootstrap else []
        command += flags
        with self.log.open("ab") as log:
            self.begins = log.tell()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        self.url = None
        stage.engines.append(self)

    def said(self):
        """What this start has said so far."""
        with self.log.open("rb") as log:
            log.seek(self.begins)
            return log.read().decode("utf-8", "replace")

    def listening(self):
        """Waits for its address."""

        def known():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended with {self.process.returncode}: {self.said()[-2000:]}")
            found = re.search(r"annals listens on (http://127\.0\.0\.1:\d+)", self.said())
            self.url = found and found[1]
            return found is not None

        eventually(f"{self.name} listens", known)
        return self

    def ready(self):
        """Waits until it is ready."""
        self.listening()
        eventually(f"{self.name} is ready", lambda: self.status("/readyz") == 200)
        return self

    def status(self, path):
        """The status of a request; 0 without an answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def text(self, path):
        """What a request answers."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def ask(self, path, body=None, **headers):
        """Status and JSON of a request, also of one that is refused; 0 and nothing without an answer."""
        request = urllib.request.Request(self.url + path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, {}

    def ended(self):
        """Waits until it has ended by itself; answers its exit code and what it said."""
        try:
            return self.process.wait(DEADLINE_S), self.said()
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} runs on, and should have refused to start: {self.said()[-2000:]}") from None

    def send(self, number):
        """A signal, such as SIGSTOP."""
        self.process.send_signal(number)

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"{self.name} did not end within 60 s of SIGTERM: {self.said()[-2000:]}") from None


class Load:
    """A running load.py and its ledger."""

    def __init__(self, stage, urls, *flags, name="ledger"):
        self.ledger = stage.folder / name
        command = [sys.executable, "-B", HERE / "load.py", "--ledger", self.ledger, *flags]
        for url in urls:
            command += ["--url", url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.at, self.accepts, self.over_http = 0, [], 0
        stage.loads.append(self)

    def read_on(self):
        """Reads what was written to the ledger since the last time; a line that is being written is left for the next."""
        if not self.ledger.exists():
            return
        with self.ledger.open("rb") as ledger:
            ledger.seek(self.at)
            new = ledger.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.at += len(whole)
        for text in whole.splitlines():
            self.over_http += b'"via": "http"' in text
            if b'"outcome": "accepted"' in text:
                line = json.loads(text)
                self.accepts.append((line["start"], line["end"], line["position"].split(":")[0]))

    def accepted(self):
        """How many attempts were told accepted so far."""
        self.read_on()
        return len(self.accepts)

    def attempts(self):
        """How many requests over HTTP were made so far, reads too."""
        self.read_on()
        return self.over_http

    def busy(self):
        """How many partitions have accepted something."""
        self.read_on()
        return len({partition for *_, partition in self.accepts})

    def silence(self, moment):
        """From a moment on: how long until each partition that was busy before accepted something new, in seconds."""
        self.read_on()
        busy = {partition for _, end, partition in self.accepts if end < moment}
        later = {}
        for _, end, partition in self.accepts:
            if end >= moment:  # also one that began before
                later[partition] = min(later.get(partition, end), end)
        return {partition: later[partition] - moment for partition in busy if partition in later}

    def end(self):
        """Lets it finish what it began, and waits."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        if self.process.returncode != 0:
            raise Failure(f"the load ended with {self.process.returncode}")
        return json.loads(out)


class Stage:
    """Topics, programs and a folder that go away together; without a Kafka the engine is embedded."""

    def __init__(self, annals, bootstrap, partitions=6, replicas=1):
        self.annals, self.bootstrap, self.prefix = str(annals), bootstrap, f"t-{uuid.uuid4()}"
        self.keep = bool(os.environ.get("ANNALS_TEST_KEEP"))
        self.folder = Path(tempfile.mkdtemp(prefix="annals-faults-"))
        self.engines, self.loads = [], []
        self.partitions, self.replicas = partitions, replicas

    def __enter__(self):
        size = ["--partitions", str(self.partitions), "--replication-factor", str(self.replicas)]
        size += ["--min-insync-replicas", str(max(self.replicas - 1, 1))]
        if self.bootstrap:
            self.run("topics", "create", "--kafka", self.bootstrap, "--kafka-prefix", self.prefix, *size)
        return self

    def __exit__(self, kind, error, trace):
        for load in self.loads:
            load.process.kill()
        for engine in self.engines:
            engine.process.kill()
            engine.process.wait()
        if kind is None and not self.keep:
            subprocess.run(["rm", "-rf", self.folder], check=False)
            if self.bootstrap:
                self.tried("topics", "delete", "--kafka", self.bootstrap, "--kafka-prefix", self.prefix, "--yes")
        else:
            print(f"kept: {self.folder}, topics {self.prefix}.*", file=sys.stderr)

    def run(self, *arguments):
        """A command of the program under test."""
        done = self.tried(*arguments)
        if done.returncode != 0:
            raise Failure(f"annals {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def tried(self, *arguments):
        """The same, whatever comes of it."""
        return subprocess.run([self.annals, *arguments], capture_output=True, text=True, timeout=DEADLINE_S)

    def judge(self, load=None, at_least=1, settle_s=60):
        """check.py on the topics once all proposals are answered, and linear.py on the ledger; what they counted."""
        checking = ["check.py", "--bootstrap", self.bootstrap, "--prefix", self.prefix]
        checking += ["--ledger", str(load.ledger)] if load else []
        began = time.monotonic()
        while True:
            # the engine still works on what was proposed last; only what stays unanswered is wrong
            found = self.judged(checking)
            waiting = found["wrong"].keys() <= {"unanswered", "lost"}
            if found["ok"] or not waiting or time.monotonic() - began > settle_s:
                break
            time.sleep(1)
        if not found["ok"]:
            raise Failure(f"the history is not what it must be: {found['wrong']} {json.dumps(found['findings'][:5], ensure_ascii=False)}")
        if load:
            seen = self.judged(["linear.py", "--ledger", str(load.ledger), "--at-least", str(at_least)])
            if not seen["ok"]:
                raise Failure(f"the answers are not those of one register: {json.dumps(seen, ensure_ascii=False)[:3000]}")
            found["operations"] = seen["operations"]
        return found

    def judged(self, command):
        """One of the judges."""
        done = subprocess.run([sys.executable, "-B", HERE / command[0], *command[1:]], capture_output=True, text=True, timeout=600)
        if not done.stdout:
            raise Failure(f"{command[0]} said nothing: {done.stderr}")
        return json.loads(done.stdout)


class Service:
    """A server of tests/services that belongs to one test, with its data in the test's folder."""

    def __init__(self, stage_folder, name):
        self.script, self.folder = SERVICES / name, Path(stage_folder) / name
        self.folder.parent.chmod(0o711)  # PostgreSQL is somebody else, and must pass through
        self.address = self.do("up", self.folder)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.do("down", self.folder)

    def do(self, *arguments):
        """A command of its script; answers the last line."""
        # a file, since the servers would keep a pipe open
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run([self.script, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=300)
            out.seek(0)
            said = out.read().strip()
        if done.returncode != 0:
            raise Failure(f"{self.script.name} {arguments[0]} ended with {done.returncode}: {said}")
        return said.splitlines()[-1] if said else ""


class Proxied:
    """A running proxy.py before some addresses, and its control port."""

    def __init__(self, stage, **links):
        command = [sys.executable, "-B", HERE / "proxy.py"]
        for name, where in links.items():
            command += ["--link", f"{name.replace('raw_', 'raw+')}=0:{where}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stage.loads.append(self)  # ends with it
        ready = json.loads(self.process.stdout.readline())
        self.links = {name: f"127.0.0.1:{port}" for name, port in ready["links"].items()}
        self.lock, self.control = threading.Lock(), ("127.0.0.1", ready["control"])

    def do(self, what, **members):
        """One command, and its answer."""
        with self.lock, socket.create_connection(self.control) as line:
            line.sendall(json.dumps({"do": what, **members}).encode() + b"\n")
            answer = json.loads(line.makefile().readline())
        if "error" in answer:
            raise Failure(f"the proxy cannot {what}: {answer['error']}")
        return answer


def main(doc, test, **defaults):
    """Runs one test as a program: prints what it measured as JSON, exit 1 with the reason if it failed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annals", required=True, help="the program under test")
    parser.add_argument("--kafka", default=os.environ.get("ANNALS_TEST_KAFKA"), metavar="HOST:PORT", help="or ANNALS_TEST_KAFKA")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the load and of the faults")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    if not options.kafka:
        parser.error("there is no Kafka to test with: set ANNALS_TEST_KAFKA, or use tests/run, which starts one")
    print(f"{Path(sys.argv[0]).name} --seed {options.seed}", file=sys.stderr)
    try:
        print(json.dumps(test(options), ensure_ascii=False))
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    return 0
