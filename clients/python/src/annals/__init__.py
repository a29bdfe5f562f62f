"""Annals in Python: report what happens to a model, and ask what happened.

import annals

client = annals.Client("http://127.0.0.1:8400", actor="pipeline")
with client.run("iris", "run-7") as run:
    ...
    run.log_metric("accuracy", 0.97, split="test")
    run.artifact("model.pkl")
version = run.register(label="7.0")
client.promoted("iris", version, "production", reason="accuracy 0.97")
"""

from .answers import (
    Alias,
    Deployment,
    Drift,
    Event,
    Found,
    Hit,
    Holding,
    Line,
    Lineage,
    Model,
    Note,
    Point,
    ProposalState,
    Receipt,
    TargetState,
    Version,
    Wanted,
)
from .client import Client
from .collect import code_here, environment_here
from .digests import digest
from .errors import (
    AnnalsError,
    Conflict,
    CursorGone,
    Incomplete,
    NotFound,
    Problem,
    Refused,
    Unavailable,
    Unsettled,
)
from .payload import (
    Artifact,
    Check,
    Code,
    Dataset,
    Environment,
    Evidence,
    Metric,
    Observed,
    Person,
    Report,
    RunRef,
    Target,
    Window,
)
from .proposal import About, step_id
from .rules import Command, Git, Kubernetes, Lookup, Pipeline, Propose, Webhook, When
from .run import Run
from .stream import Subscription

__all__ = [
    "About",
    "Alias",
    "AnnalsError",
    "Artifact",
    "Check",
    "Client",
    "Code",
    "Command",
    "Conflict",
    "CursorGone",
    "Dataset",
    "Deployment",
    "Drift",
    "Environment",
    "Event",
    "Evidence",
    "Found",
    "Git",
    "Hit",
    "Holding",
    "Incomplete",
    "Kubernetes",
    "Line",
    "Lineage",
    "Lookup",
    "Metric",
    "Model",
    "NotFound",
    "Note",
    "Observed",
    "Person",
    "Pipeline",
    "Point",
    "Problem",
    "ProposalState",
    "Propose",
    "Receipt",
    "Refused",
    "Report",
    "Run",
    "RunRef",
    "Subscription",
    "Target",
    "TargetState",
    "Unavailable",
    "Unsettled",
    "Version",
    "Wanted",
    "Webhook",
    "When",
    "Window",
    "code_here",
    "digest",
    "environment_here",
    "step_id",
]
