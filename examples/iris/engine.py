"""The example's `annals`: starts the server, runs the command line, and prints each command it ran."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

READY_DEADLINE_S = 20
COMMAND_DEADLINE_S = 60
STOP_DEADLINE_S = 10
REFUSED = 1


class Failure(Exception):
    """The example cannot go on; the message says at which step and why."""


def say(text=""):
    """One line for the reader, at once."""
    print(text, flush=True)


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop(process):
    """Ends a process that we started: politely, then not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clean_environment():
    """The environment without ANNALS_* variables: the example must not reach somebody's real engine."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ANNALS_")}


def is_ready(url):
    """Whether the server says that it is."""
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def topics(annals, command, *arguments):
    """Makes or deletes topics on Kafka."""
    say(f"$ {shlex.join(['annals', 'topics', command, *arguments])}")
    done = subprocess.run(
        [annals, "topics", command, *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        env=clean_environment(),
        check=False,
    )
    if done.returncode != 0:
        raise Failure(f"`annals topics {command}` ended with {done.returncode}: {done.stdout}{done.stderr}")


@contextmanager
def serving(annals, data, extra=(), surroundings=None):
    """An engine of our own on a free port, ready; it ends with the block. `surroundings` are more variables for it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [annals, "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}", *extra]
    say(f"$ {shlex.join(['annals', *command[1:]])} &")
    log = data.parent / "server.log"
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=clean_environment() | (surroundings or {}))
    try:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                state = "still starts" if process.poll() is None else f"ended with {process.returncode}"
                raise Failure(f"`annals serve` was not ready after {READY_DEADLINE_S} s ({state}):\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield Annals(annals, url)
        if process.poll() is not None:
            raise Failure(f"`annals serve` ended by itself with {process.returncode}:\n{log.read_text()[-2000:]}")
    finally:
        stop(process)


class Annals:
    """The command line, pointed at one server."""

    def __init__(self, program, url):
        self.program, self.url = program, url
        self.position = None  # of the last accepted event

    def run(self, *arguments, expect=0, stdin=None, quiet=True):
        """Runs one command and returns its standard output, and unless `quiet` its standard error before it.

        Any other exit code than expected is a failure.
        """
        done = subprocess.run(
            [self.program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE_S,
            env={**clean_environment(), "ANNALS_URL": self.url},
            check=False,
        )
        if done.returncode != expect:
            shown = shlex.join(["annals", *arguments]) + (f"\nwith the data {stdin}" if stdin else "")
            raise Failure(f"{shown}\nended with {done.returncode}, not {expect}\n{done.stdout}{done.stderr}")
        return done.stdout if quiet else done.stderr + done.stdout

    def emit(self, kind, data, *, version=None, actor="ada", refused=False):
        """Proposes an event on `iris` as `actor` and returns the verdict; says what was done in one line."""
        about = ["--model", "iris", *(["--version", str(version)] if version else [])]
        say(f"$ annals emit {kind} {shlex.join(about)} --actor {actor} --data {brief(data)}")
        expect = REFUSED if refused else 0
        command = ["emit", kind, *about, "--actor", actor, "--data", "-", "--json"]
        verdict = json.loads(self.run(*command, expect=expect, stdin=json.dumps(data)))
        self.position = verdict.get("position") or self.position
        return verdict

    def wait_for_views(self, *paths):
        """Returns once the views behind these reads have passed the last accepted event."""
        for path in paths:
            request = urllib.request.Request(self.url + path, headers={"Annals-Min-Position": self.position})
            try:
                with urllib.request.urlopen(request, timeout=COMMAND_DEADLINE_S) as answer:
                    answer.read()
            except urllib.error.URLError as error:
                raise Failure(f"GET {path} did not reach position {self.position}: {error}") from error

    def show(self, *arguments):
        """Runs a command and shows it and what it prints, be it data or only a word to the reader."""
        say(f"$ {shlex.join(['annals', *arguments])}")
        say(self.run(*arguments, quiet=False).rstrip() + "\n")

    def ask(self, *arguments):
        """A reading command's answer as JSON, not shown."""
        return json.loads(self.run(*arguments, "--json"))


def example(name, keep, tell):
    """Runs `tell(work)` in a temporary folder, and answers the exit code; `tell` says what it was, for the last line."""
    end_on_signals()
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="annals-iris-"))
    try:
        what = tell(work)
        say(f"{what} in {time.monotonic() - began:.1f} s")
    except Failure as failure:
        print(f"\n{name} failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if keep:
            print(f"kept: {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def brief(data):
    """The data on one line, cut: it was sent whole."""
    text = json.dumps(data)
    return f"'{text}'" if len(text) <= 100 else f"'{text[:97]}...'"


def end_on_signals():
    """A terminated example still ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
