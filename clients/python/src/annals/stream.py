"""Subscriptions: events as they are accepted, at least once, across restarts of the engine."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

import httpx

from .answers import Event
from .errors import AnnalsError, Unavailable, problem
from .transport import Transport, body_of

if TYPE_CHECKING:
    from typing_extensions import Self

SILENCE_MAX_S = 45.0
"""A stream that says nothing for so long is dead: the engine shows every 15 s that it is alive."""
PAUSE_MAX_S = 30.0
RETRIED = (502, 503, 504)
MESSAGE_BYTES_MAX = 8 << 20
Kinds: TypeAlias = str | Sequence[str]
"""Event types, short or full: `"promoted"`, `["drifted", "drift-resolved"]`."""


def kinds(given: Kinds | None) -> str | None:
    """As the query has them."""
    return given if given is None or isinstance(given, str) else ",".join(given)


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a stream, as bytes: text may hold characters that Python, but not the protocol, takes for a line's end.

    Raises `AnnalsError` for a line that has no end.
    """
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in whole)
        if len(rest) > MESSAGE_BYTES_MAX:
            raise AnnalsError(f"the server sent a line of more than {MESSAGE_BYTES_MAX} bytes")
    if rest:
        yield rest


class Subscription:
    """Iterates over events for ever, and reconnects by itself behind the last one that it gave.

    Store `event.cursor` when you are done with an event, and begin with `after=` it: what was not stored comes again.
    Also a context manager. Not for several threads at once.
    """

    def __init__(
        self,
        transport: Transport,
        query: Mapping[str, str | None],
        cursor: str | None,
        give_up_after_s: float | None,
    ) -> None:
        self._transport = transport
        self._query = {name: value for name, value in query.items() if value is not None}
        self.cursor = cursor
        """Where the stream goes on when it connects again; set already before the first event."""
        self._give_up_after_s = give_up_after_s
        self._pause_s = 1.0
        self._events = self._forever()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription and its connection."""
        self._events.close()

    def _forever(self) -> Generator[Event, None, None]:
        alone_since = time.monotonic()
        attempt = 0
        while True:
            try:
                with self._connect() as response:
                    for event in self._messages(response):
                        if event is not None:
                            yield event
                        attempt, alone_since = 0, time.monotonic()
                why = f"{self._transport.url} ended the stream"
            except (httpx.TransportError, Unavailable) as error:
                why = str(error) or type(error).__name__
            alone_s = time.monotonic() - alone_since
            if self._give_up_after_s is not None and alone_s >= self._give_up_after_s:
                raise Unavailable(f"no stream for {alone_s:.0f} s: {why}")
            time.sleep(min(self._pause_s * 2.0**attempt, PAUSE_MAX_S) * random.uniform(0.5, 1.0))  # noqa: S311
            attempt = min(attempt + 1, 16)

    @contextmanager
    def _connect(self) -> Iterator[httpx.Response]:
        """One connection. Raises `Problem` for what no other try would change, `Unavailable` for what it may."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        url = f"{self._transport.url}/v1/events/stream"
        limits = httpx.Timeout(10.0, read=SILENCE_MAX_S)
        with self._transport.http.stream("GET", url, params=self._query, headers=headers, timeout=limits) as response:
            if not response.is_success:
                response.read()
                said = problem(response.status_code, body_of(response))
                raise Unavailable(str(said)) if said.status in RETRIED else said
            yield response

    def _messages(self, response: httpx.Response) -> Iterator[Event | None]:
        """The events of one connection; None for anything else that shows that it is alive (a cursor, a heartbeat)."""
        cursor, name, data = self.cursor, "", b""
        for line in lines(response.iter_bytes()):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if not line:
                event = self._message(name, data, cursor)
                self.cursor = cursor
                yield event
                name, data = "", b""
            elif field == b"id":
                cursor = value.decode()
            elif field == b"event":
                name = value.decode()
            elif field == b"data":
                data = data + b"\n" + value if data else value
            elif field == b"retry" and value.isdigit():
                self._pause_s = int(value) / 1000.0
            elif not field:
                yield None

    @staticmethod
    def _message(name: str, data: bytes, cursor: str | None) -> Event | None:
        if not data:
            return None
        body = json.loads(data)
        if name == "problem":
            said = problem(int(body.get("status", 500)), body)
            raise Unavailable(str(said)) if said.status in RETRIED else said
        return Event.read(body, cursor)
