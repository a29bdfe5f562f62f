"""Digests, the commit and the environment, as they are; and the package as others install it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import annals
from annals.payload import described, plain

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *settings, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "f").write_bytes(content)
    assert annals.digest(tmp_path / "f") == annals.digest(content) == "sha256:" + hashlib.sha256(content).hexdigest()
    with pytest.raises(OSError, match="directory"):
        annals.digest(tmp_path)


def test_the_commit_is_the_checkouts(tmp_path: Path) -> None:
    assert annals.code_here(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert annals.code_here(tmp_path) is None  # no commit yet
    (tmp_path / "train.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    assert annals.code_here(tmp_path) == annals.Code("local", git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "other.py").write_text("2\n")
    code = annals.code_here(tmp_path)
    assert code is not None and code.dirty


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://ada:secret@example.org:8443/a/b.git", "https://example.org:8443/a/b.git"),
        ("git@example.org:a/b.git", "ssh://example.org/a/b.git"),
        ("/srv/git/b.git", "local"),
    ],
)
def test_an_address_holds_no_password(tmp_path: Path, remote: str, address: str) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path, "remote", "add", "origin", remote)
    code = annals.code_here(tmp_path)
    assert code is not None and code.repository == address


def test_the_environment_names_its_lockfile(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1\n")
    found = annals.environment_here(lock)
    assert found.lockfile_digest == annals.digest(lock)
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_numbers_of_numpy_are_numbers() -> None:
    assert plain({"a": np.float64(0.5), "b": np.int64(3), "c": np.array([1.0, 2.0]), "d": np.bool_(True)}) == {
        "a": 0.5,
        "b": 3,
        "c": [1.0, 2.0],
        "d": True,
    }
    assert described(float("nan")) == "nan"
    assert plain(annals.Environment(python="3.12", other={"cuda": "12"})) == {"python": "3.12", "cuda": "12"}


def test_the_wheel_is_whole_and_typed(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("annals_client-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"annals/py.typed", "annals/stages/train.py"} <= set(names)
    said = [sys.executable, "-B", "-c", "import annals; print(annals.__file__)"]
    done = subprocess.run(said, cwd=tmp_path, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True, check=True)
    assert wheel.name in done.stdout
