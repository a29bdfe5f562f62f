"""What the tests share: one engine for most of them, and names that nobody else uses on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import annals
from engine import Engine


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANNALS_") and name != "ANNALS_BIN"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    shared = Engine(tmp_path_factory.mktemp("engine"))
    try:
        shared.start()
        yield shared
    finally:
        shared.stop()


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that the test may stop."""
    own = Engine(tmp_path)
    try:
        own.start()
        yield own
    finally:
        own.stop()


@pytest.fixture
def client(engine: Engine) -> Iterator[annals.Client]:
    with annals.Client(engine.url, actor="ada") as shared:
        yield shared


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model of this test's own."""
    return request.node.name.replace("[", "-").replace("]", "")  # type: ignore[no-any-return]


@pytest.fixture
def pickle(tmp_path: Path) -> Path:
    """An artifact."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"a model")
    return path
