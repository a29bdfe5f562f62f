"""One method for each kind of event, by the stage of a model's life; their words and limits are those of `annals schemas`.

Every method proposes one event and waits for the verdict. It returns a `Receipt`, whose outcome is `accepted`, or `duplicate`
if the same id and content came before. It raises `Refused` (with a code, a remedy and what is allowed instead), `Conflict`,
`Unsettled` or `Unavailable`; and before anything is sent `ValueError` or `TypeError` for what no event can hold. What every
event may say besides (`reason`, `id`, `actor`, …) is described at `About`.
"""

from .deploy import Deploy
from .design import Design
from .govern import Govern
from .maintain import Maintain
from .monitor import Monitor
from .release import Release
from .train import Train


class Stages(Design, Train, Release, Deploy, Monitor, Maintain, Govern):
    """Every kind of event."""


__all__ = ["Stages"]
