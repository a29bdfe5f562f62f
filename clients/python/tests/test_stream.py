"""Subscriptions: filters, cursors, an engine that restarts under them, and what they give up on."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import pytest

import annals
from engine import Engine


def test_a_subscription_gives_what_its_filter_wants(client: annals.Client, model: str, pickle: Path) -> None:
    client.registered(model, pickle)
    client.promoted(model, 1, "staging")
    client.promoted(model, 1, "production", reason="line\u2028end\x85 \u00e9")
    with client.subscribe(["registered", "promoted"], model=model, start="beginning") as events:
        first, second, third = islice(events, 3)
    assert (first.kind, second.decided["channel"], third.data["reason"]) == (
        "version.registered",
        "staging",
        "line\u2028end\x85 \u00e9",
    )
    with client.subscribe("promoted", model=model, channel="prod*", start="beginning") as events:
        assert next(events).id == third.id
    with client.subscribe(model=model, after=first.cursor) as events:
        assert [event.id for event in islice(events, 2)] == [second.id, third.id]
    assert next(client.events(model=model, channel="production")).data == third.data


def test_it_goes_on_behind_a_restart(own_engine: Engine) -> None:
    got: list[annals.Event] = []
    with annals.Client(own_engine.url) as client, client.subscribe(start="beginning", model="m") as events:
        client.created("m")
        got.append(next(events))
        own_engine.stop()
        reader = threading.Thread(target=lambda: got.extend(islice(events, 2)))
        reader.start()
        own_engine.start()
        client.measured("m", "accuracy", 0.9)
        client.measured("m", "accuracy", 0.8)
        reader.join(30)
        assert not reader.is_alive()
    assert [event.modelseq for event in got] == [1, 2, 3]


def test_now_is_where_it_connects(client: annals.Client, model: str) -> None:
    client.created(model)
    with client.subscribe(model=model) as events:
        got: list[annals.Event] = []
        reader = threading.Thread(target=lambda: got.append(next(events)))
        reader.start()
        connected = threading.Event()
        while events.cursor is None and reader.is_alive():  # the first message has a cursor only
            connected.wait(0.01)
        client.measured(model, "accuracy", 0.9)
        reader.join(30)
    assert [event.kind for event in got] == ["model.measured"]


def test_a_cursor_of_another_journal_is_gone(client: annals.Client, own_engine: Engine) -> None:
    with client.subscribe(start="beginning") as events:
        cursor = next(events).cursor
    with annals.Client(own_engine.url) as other, other.subscribe(after=cursor) as events, pytest.raises(annals.CursorGone):
        next(events)


def test_a_filter_that_matches_nothing_is_a_problem(client: annals.Client) -> None:
    with client.subscribe("nonsense") as events, pytest.raises(annals.Problem, match="unknown-type"):
        next(events)
    with pytest.raises(annals.Problem, match="unknown-type"):
        next(client.events("nonsense"))


def test_it_gives_up_only_when_told_to(own_engine: Engine) -> None:
    with annals.Client(own_engine.url) as client, client.subscribe(start="beginning", give_up_after_s=1.0) as events:
        next(events)
        own_engine.stop()
        with pytest.raises(annals.Unavailable, match="no stream for"):
            list(events)
