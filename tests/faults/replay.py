"""Whether two instances answer every question about every model the same: one of them was killed, the other has replayed."""

import urllib.parse

OF_MODEL = ("", "/versions", "/channels", "/aliases", "/deployments", "/drifts", "/timeline")
SHOWN_MAX = 5


def pages(engine, path):
    """All pages of an answer; what is not a list is one page."""
    found, cursor = [], None
    while True:
        status, answer = engine.ask(path + (f"{'&' if '?' in path else '?'}after={urllib.parse.quote(cursor)}" if cursor else ""))
        cursor = answer.pop("next", None) if isinstance(answer, dict) else None
        found.append((status, answer))
        if not cursor:
            return found


def questions(engine):
    """What there is to ask: every model of both workspaces of the load, and each of its versions."""
    asked = ["/v1/timeline"]
    for workspace in ("default", "lab"):
        models = [model["name"] for _, page in pages(engine, f"/v1/models?workspace={workspace}") for model in page.get("items", [])]
        asked.append(f"/v1/models?workspace={workspace}")
        for model in models:
            asked += [f"/v1/models/{urllib.parse.quote(model)}{what}?workspace={workspace}" for what in OF_MODEL]
    return asked


def differing(one, two):
    """The questions that are answered differently, a few of them; too few questions are wrong, too."""
    asked = questions(two)
    if len(asked) < 2 * len(OF_MODEL):
        return [f"there are only {len(asked)} questions to ask"]
    wrong = [path for path in asked if pages(one, path) != pages(two, path)]
    return [{path: [pages(one, path), pages(two, path)]} for path in wrong[:SHOWN_MAX]]
