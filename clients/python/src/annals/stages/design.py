"""Design: a model gets its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ..answers import Receipt
from ..proposal import About, Proposes

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Design(Proposes):
    """Events of the stage *design*."""

    def created(
        self,
        model: str,
        *,
        owner: str | None = None,
        purpose: str | None = None,
        risk_tier: str | None = None,
        policy: Literal["open"] | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        **about: Unpack[About],
    ) -> Receipt:
        """A model got its name. `owner`: who answers for it. `risk_tier`: in the owner's own scheme.

        `trained` and `registered` create an unknown model by themselves. Refused with `model-exists`.
        """
        data = {"owner": owner, "purpose": purpose, "risk_tier": risk_tier, "policy": policy}
        return self._propose("created", model, None, {**data, "description": description, "tags": tags}, about)
