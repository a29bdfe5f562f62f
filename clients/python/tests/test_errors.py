"""What goes wrong has a type, a code and a remedy; what may have landed is sent again with the same id only."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import annals
from annals import transport
from engine import Engine, LossyLine


def test_a_refusal_says_why_and_what_is_allowed(client: annals.Client, model: str) -> None:
    client.created(model)
    with pytest.raises(annals.Refused) as caught:
        client.promoted(model, 9, "production")
    assert (caught.value.status, caught.value.code) == (404, "unknown-version")
    assert "register it first" in caught.value.remedy and caught.value.state["modelseq"] == 1
    client.emit("registered", model, {"artifact": {"digest": annals.digest(b"a model")}})
    with pytest.raises(annals.Refused, match=r"allowed now: .*production") as caught:
        client.promoted(model, 1, "prodution")
    assert caught.value.code == "unknown-channel"
    assert list(caught.value.allowed) == ["dev", "staging", "production"]


def test_a_violation_names_the_field(client: annals.Client, model: str) -> None:
    with pytest.raises(annals.Refused, match="/window/n") as caught:
        client.measured(model, "accuracy", 0.5, window=annals.Window(n=-1))
    assert caught.value.code == "schema-violation"
    assert caught.value.violations[0][0] == "/window/n"


def test_who_was_overtaken_learns_where_the_model_is(client: annals.Client, model: str) -> None:
    client.created(model)
    client.measured(model, "accuracy", 0.9)
    with pytest.raises(annals.Conflict) as caught:
        client.measured(model, "accuracy", 0.8, expect=1)
    assert (caught.value.code, caught.value.modelseq) == ("stale-expectation", 2)


def test_an_id_stands_for_one_content(client: annals.Client, model: str) -> None:
    client.created(model)
    step = annals.step_id(model, "measured")
    first = client.measured(model, "accuracy", 0.9, id=step, must_exist=True)
    again = client.measured(model, "accuracy", 0.9, id=step)
    assert (first.outcome, again.outcome, again.position) == ("accepted", "duplicate", first.position)
    with pytest.raises(annals.Conflict) as caught:
        client.measured(model, "accuracy", 0.8, id=step)
    assert caught.value.code == "id-conflict"


def test_steps_have_ids_that_cannot_be_mistaken() -> None:
    assert annals.step_id("a", 7) == "a/7"
    assert annals.step_id("a/b", "c") != annals.step_id("a", "b/c")
    for parts in ((), ("a", "")):
        with pytest.raises(ValueError, match="parts"):
            annals.step_id(*parts)


@pytest.mark.parametrize("name", ["a/b", ""])
def test_a_name_that_would_name_another_thing_is_not_sent(client: annals.Client, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        client.created(name)
    with pytest.raises(ValueError, match="name"):
        client.created("m", workspace=name)


def test_what_json_does_not_have_is_not_sent(client: annals.Client, model: str) -> None:
    with pytest.raises(ValueError, match="/value is nan"):
        client.measured(model, "accuracy", float("nan"))
    with pytest.raises(TypeError, match="/owner is a object"):
        client.emit("created", model, {"owner": object()})
    assert not list(client.events(model=model))


def test_a_lost_answer_is_no_second_event(engine: Engine, client: annals.Client, model: str) -> None:
    line = LossyLine(engine.port, losses=2)
    try:
        with annals.Client(line.url) as far:
            assert far.created(model).outcome == "duplicate"
    finally:
        line.close()
    assert line.lost == 2
    assert [event.kind for event in client.events(model=model)] == ["model.created"]


def test_no_answer_at_all_is_not_settled(engine: Engine, client: annals.Client, model: str) -> None:
    line = LossyLine(engine.port, losses=None)
    try:
        with annals.Client(line.url) as far, pytest.raises(annals.Unsettled) as caught:
            far.created(model)
    finally:
        line.close()
    assert line.lost == transport.TRIES_MAX
    assert client.proposal(caught.value.id, source=caught.value.source).state == "accepted"
    assert len(list(client.events(model=model))) == 1


def test_an_engine_that_is_not_there_took_nothing() -> None:
    with socket.socket() as probe:  # bound and not listening: nobody answers there
        probe.bind(("127.0.0.1", 0))
        with annals.Client(f"http://127.0.0.1:{probe.getsockname()[1]}") as client:
            with pytest.raises(annals.Unavailable):
                client.created("m")
            with pytest.raises(annals.Unavailable):
                client.model("m")


def test_what_is_not_there_is_not_found(client: annals.Client, model: str) -> None:
    with pytest.raises(annals.NotFound) as caught:
        client.model(model)
    assert caught.value.code == "unknown-model"
    with pytest.raises(annals.NotFound):
        client.proposal("never")
    with pytest.raises(annals.Problem, match="bad-time"):
        client.model(model, as_of="yesterday")
    with pytest.raises(OSError, match=r"nothing\.pkl"):
        client.trained(model, "r", Path("nothing.pkl"))
