"""Requests that are tried again when that is safe: questions, and proposals with the id that they had."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx

from .answers import Receipt
from .errors import Unavailable, Unsettled, problem, refusal

TRIES_MAX = 5
PAUSE_S = 0.1
"""The pause behind the first try; each following one is twice as long."""
RETRY_AFTER_MAX_S = 5.0
"""The longest pause that the engine may ask for."""
NOTHING_TAKEN = ("busy", "unavailable", "stopping", "held-back", "starting")
"""The codes of a 503 which say that a proposal was not stored."""


def pause_s(attempt: int, response: httpx.Response | None = None) -> float:
    """Seconds to wait behind a try: longer each time, up to a fifth apart from other clients, and at least as asked for."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    least = min(float(asked), RETRY_AFTER_MAX_S) if asked.isdigit() else 0.0
    return max(least, PAUSE_S * 2.0**attempt) * random.uniform(1.0, 1.2)  # noqa: S311 - no secret


def body_of(response: httpx.Response) -> Mapping[str, Any]:
    """The problem of an answer; empty if a proxy in between wrote something else."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class Seen:
    """The newest position of each partition that this client wrote to, so that it reads what it wrote."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seqs: dict[int, int] = {}

    def add(self, position: str | None) -> None:
        """Notes a `partition:seq`."""
        if position:
            partition, seq = (int(number) for number in position.split(":"))
            with self._lock:
                self._seqs[partition] = max(seq, self._seqs.get(partition, 0))

    def header(self) -> dict[str, str]:
        """The header that lets a view wait until it has all of that."""
        with self._lock:
            text = ",".join(f"{partition}:{seq}" for partition, seq in sorted(self._seqs.items()))
        return {"Annals-Min-Position": text} if text else {}


class Transport:
    """One server, asked with retries."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self.http = http
        self.url = url.rstrip("/")
        self.seen = Seen()

    def get(self, path: str, query: Mapping[str, str | int | None]) -> httpx.Response:
        """Asks until there is an answer. Raises `Problem` (`NotFound`, …), or `Unavailable` after the last try."""
        asked = {name: str(value) for name, value in query.items() if value is not None}
        for attempt in range(TRIES_MAX):
            response = None
            try:
                response = self.http.get(self.url + path, params=asked, headers=self.seen.header())
            except httpx.TransportError as error:
                why = f"{self.url} does not answer: {error or type(error).__name__}"
            else:
                if response.is_success:
                    return response
                if response.status_code not in (502, 503, 504):
                    raise problem(response.status_code, body_of(response))
                why = str(problem(response.status_code, body_of(response)))
            if attempt + 1 < TRIES_MAX:
                time.sleep(pause_s(attempt, response))
        raise Unavailable(why)

    def propose(self, content: bytes, id: str, source: str, *, wait: bool) -> Receipt:
        """Sends a proposal until there is a verdict, each time the same bytes.

        Raises `Refused` (`Conflict`), `Unsettled` if it may have landed, `Unavailable` if it certainly has not.
        """
        headers = {"Content-Type": "application/cloudevents+json"} | ({} if wait else {"Prefer": "respond-async"})
        may_have_landed = False
        for attempt in range(TRIES_MAX):
            response = None
            try:
                response = self.http.post(f"{self.url}/v1/events", content=content, headers=headers)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                why = f"{self.url} does not answer: {error or type(error).__name__}"
            except httpx.TransportError as error:
                may_have_landed, why = True, f"no answer came back: {error or type(error).__name__}"
            else:
                status, body = response.status_code, body_of(response)
                if status in (200, 201) or (status == 202 and not wait):
                    receipt = Receipt.read(json.loads(response.content))
                    self.seen.add(receipt.position)
                    return receipt
                if 400 <= status < 500:
                    raise refusal(status, body, id, source)
                why = "it is still pending" if status == 202 else str(problem(status, body))
                may_have_landed |= status != 503 or body.get("code") not in NOTHING_TAKEN
            if attempt + 1 < TRIES_MAX:
                time.sleep(pause_s(attempt, response))
        raise Unsettled(id, source, why) if may_have_landed else Unavailable(why)
