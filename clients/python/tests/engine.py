"""The real engine on a free port, and a line to it that loses answers."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0


def program() -> str:
    """The built `annals`. A missing one is a failure, not a skip."""
    path = os.environ.get("ANNALS_BIN", "")
    if not path or not os.access(path, os.X_OK):
        raise RuntimeError("ANNALS_BIN names no program: clients/python/run sets it, after `cargo build`")
    return path


def environment() -> dict[str, str]:
    """Ours without `ANNALS_*`: nobody's real engine is to be reached."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANNALS_")}


class Engine:
    """`annals serve` on a folder, with further flags; may be stopped and started again on its port."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.flags = flags
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        log = self.folder / "server.log"
        with log.open("ab") as sink:
            command = [program(), "serve", "--data", str(self.folder / "data"), "--listen", f"127.0.0.1:{self.port}", *self.flags]
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=environment())
        deadline = time.monotonic() + READY_DEADLINE_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the engine is not ready:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=2) as answer:  # noqa: S310 - our own URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Ends it, also if it does not want to."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class LossyLine:
    """A line to an engine on which the requests arrive, and the first answers (all, if `losses` is None) do not."""

    def __init__(self, port: int, losses: int | None) -> None:
        self.left = losses
        self.lost = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(STOP_DEADLINE_S)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", self._port)) as far:
                up = threading.Thread(target=_copy, args=(near, far), daemon=True)
                up.start()
                answer = far.recv(65536)  # the engine has decided
                if self.left is None or self.left > 0:
                    self.left = None if self.left is None else self.left - 1
                    self.lost += 1
                    near.shutdown(socket.SHUT_RDWR)
                else:
                    near.sendall(answer)
                    _copy(far, near)
                up.join(STOP_DEADLINE_S)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
