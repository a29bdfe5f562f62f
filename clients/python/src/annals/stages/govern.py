"""Govern: what a workspace wants done when something happens. These events are about the workspace, not about a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..proposal import About, Proposes
from ..rules import Action, RuleState, When, as_do, as_when

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Govern(Proposes):
    """Rules of a workspace. `state`: whether the rule is in force from now on."""

    def trigger_changed(
        self,
        trigger: str,
        state: RuleState,
        *,
        when: When | None = None,
        do: Action | None = None,
        cooldown_s: int | None = None,
        dedup: str | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A rule that acts: `trigger_changed("ask", "active", when=When("drifted"), do=Propose("retrain-requested", {…}))`.

        `trigger`: its name, unique in the workspace. `when` and `do` together, or neither, which leaves them as they are.
        `cooldown_s`: seconds in which it does not act again on the same model. `dedup`: not while an action with the same text
        is under way; the places of a `Command` are filled in. It is in force a moment later, for events from then on.

        Refused with `schema-violation` (also for a new one without `when` and `do`), `unknown-type`, `unknown-trigger`,
        `no-change` (it is so and says so already).
        """
        rule = {"when": as_when(when), "do": as_do(do), "cooldown_s": cooldown_s, "dedup": dedup}
        data = {"trigger": trigger, "state": state, **rule}
        return self._propose("trigger-changed", None, None, data, about)

    def subscription_changed(
        self,
        subscription: str,
        state: RuleState,
        *,
        url: str | None = None,
        when: When | None = None,
        signing: Literal["ed25519", "hmac"] | None = None,
        format: Literal["cloudevents", "cdevents"] | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A party that is told over HTTP. `subscription`: its name, unique in the workspace. `url`: where it listens.

        `url` and `when` together, or neither, which leaves them as they are. `signing`: `ed25519` unless given. `format`:
        `cloudevents` unless given. A new one has no key yet, and nothing is delivered before `annals webhook rotate NAME` has
        made one; `annals webhook add` does both.

        Refused with `schema-violation` (also for a new one without `url` and `when`), `unknown-type`, `unknown-subscription`,
        `no-change` (it is so and says so already).
        """
        said = {"url": url, "when": as_when(when), "signing": signing, "format": format}
        data = {"subscription": subscription, "state": state, **said}
        return self._propose("subscription-changed", None, None, data, about)
