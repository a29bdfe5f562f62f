"""What a training script would otherwise collect by hand: the commit, the environment. Nothing is guessed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from .digests import digest
from .payload import Code, Environment

GIT_DEADLINE_S = 10.0
_FRAMEWORKS = {"sklearn": "scikit-learn", "torch": "torch", "tensorflow": "tensorflow", "xgboost": "xgboost", "jax": "jax"}


def code_here(path: str | os.PathLike[str] | None = None) -> Code | None:
    """Which commit runs: of the checkout that `path` lies in; unless given, that of the script that was started.

    None if that is no git checkout, has no commit yet, or git is not installed. `dirty` counts untracked files too, since
    they could have been imported. The repository's address loses any password; a checkout without one is `local`.
    """
    folder = _started_in() if path is None else Path(path)
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    if not commit or changes is None:
        return None
    return Code(_address(_git(folder, "config", "--get", "remote.origin.url") or ""), commit, bool(changes))


def environment_here(lockfile: str | os.PathLike[str] | None = None) -> Environment:
    """Interpreter, hardware, the digest of `lockfile`, and the framework if exactly one that we know is imported."""
    loaded = [name for module, name in _FRAMEWORKS.items() if module in sys.modules]
    return Environment(
        lockfile_digest=None if lockfile is None else digest(lockfile),
        framework=f"{loaded[0]} {metadata.version(loaded[0])}" if len(loaded) == 1 else None,
        python=platform.python_version(),
        hardware=f"{platform.machine()}, {os.cpu_count()} processors",
    )


def _started_in() -> Path:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(script).resolve().parent if script else Path.cwd()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_DEADLINE_S,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _address(remote: str) -> str:
    """The address as others may use it: a journal is kept for ever, and must hold no password."""
    short = re.fullmatch(r"[\w.-]+@([\w.-]+):(.+)", remote)  # git's short form of an ssh address
    parts = urlsplit(f"ssh://{short[1]}/{short[2]}" if short else remote)
    if not parts.hostname:
        return "local"
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    return parts._replace(netloc=host, query="", fragment="").geturl()
