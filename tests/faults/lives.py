"""Seeded lives of models: what somebody proposes next, mostly what is allowed and sometimes not."""

import random

CHANNELS = ("dev", "staging", "production")
DECISION = {"decision": "approved", "meaning": "release", "reason": "reviewed"}
ILLEGAL = 0.12
MALFORMED = 0.01


class Known:
    """What one client knows of a model: it may be old, for others change the model too."""

    def __init__(self):
        self.modelseq = self.versions = 0
        self.position = None
        self.runs, self.deployments, self.drifts, self.approvals = [], [], [], []

    def learn(self, modelseq, position=None, version=None):
        """Takes in an answer."""
        self.modelseq = max(self.modelseq, modelseq or 0)
        self.position = position or self.position
        self.versions = max(self.versions, version or 0)


class Lives:
    """Proposals of one client; all of them follow from the seed and from what it was answered."""

    def __init__(self, seed, client, keys):
        self.random = random.Random(f"{seed}/{client}")
        self.name, self.count = f"{seed}-{client}", 0
        self.known = {key: Known() for key in keys}
        self.keys = list(keys)

    def unique(self):
        """An identifier that nobody else makes."""
        self.count += 1
        return f"{self.name}-{self.count}"

    def next(self):
        """Key, type, version, data, and whether it is well-formed."""
        key = self.random.choice(self.keys)
        known = self.known[key]
        if self.random.random() < MALFORMED:
            return key, "version.promoted", "1", {"channel": 7}, False
        if self.random.random() < ILLEGAL:
            return (key, *self.illegal(known), True)
        if known.versions == 0:
            kind = self.random.choice(("model.created", "run.trained", "version.registered"))
        else:
            kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return (key, kind, *getattr(self, kind.replace(".", "_"))(known), True)

    def digest(self):
        """An artifact's digest."""
        return f"sha256:{self.random.getrandbits(256):064x}"

    def version(self, known):
        """A version that is likely to be there."""
        return str(self.random.randint(1, max(known.versions, 1)))

    def one(self, things):
        """One of the things that this client made, or one that nobody made."""
        return self.random.choice(things) if things else "nobody-made-this"

    def illegal(self, known):
        """What cannot be, or rarely."""
        return self.random.choice(
            (
                ("version.promoted", "9999", {"channel": "production"}),
                ("version.promoted", self.version(known), {"channel": "moon"}),
                ("version.retired", "9999", {"reason": "it never was"}),
                ("approval.decided", None, {"approval": "none", **DECISION, "approver": {"id": "eve"}}),
                ("deployment.succeeded", None, {"deployment": "none"}),
                ("alias.removed", None, {"alias": "none", "reason": "it never was"}),
                ("model.created", None, {"owner": "eve"}),
            )
        )

    def model_created(self, _known):
        return None, {"owner": "ada", "purpose": f"fault test {self.unique()}", "tags": {"größe": "ä🌸"}}

    def run_trained(self, known):
        known.runs.append(self.unique())
        metrics = [{"name": "accuracy", "value": self.random.random()}]
        return None, {"run": {"id": known.runs[-1]}, "artifact": {"digest": self.digest()}, "metrics": metrics}

    def version_registered(self, known):
        data = {"artifact": {"digest": self.digest()}}
        if self.random.random() < 0.3:
            data["label"] = f"v-{self.unique()}" if self.random.random() < 0.8 else "taken"
        elif known.runs and self.random.random() < 0.5:
            data = {"artifact": {"uri": "file:///model.pkl"}, "run": self.one(known.runs)}
        return None, data

    def version_evaluated(self, known):
        result = {"metric": "accuracy", "value": self.random.random(), "threshold": 1e-3}
        return self.version(known), {"suite": "holdout", "results": [result], "verdict": "passed"}

    def version_promoted(self, known):
        data = {"channel": self.random.choice(CHANNELS), "reason": f"promotion {self.unique()}"}
        if self.random.random() < 0.2:
            data["rollback"] = True
        return self.version(known), data

    def version_demoted(self, known):
        return self.version(known), {"channel": self.random.choice(CHANNELS), "reason": "not wanted"}

    def alias_set(self, known):
        return self.version(known), {"alias": self.random.choice(("champion", "challenger"))}

    def alias_removed(self, _known):
        return None, {"alias": self.random.choice(("champion", "challenger")), "reason": "not wanted"}

    def approval_requested(self, known):
        known.approvals.append(self.unique())
        return self.version(known), {"approval": known.approvals[-1], "channel": self.random.choice(CHANNELS), "requester": {"id": "bob"}}

    def approval_decided(self, known):
        decided = {"decision": self.random.choice(("approved", "rejected"))}
        return None, {"approval": self.one(known.approvals), **DECISION, **decided, "approver": {"id": self.random.choice(("cat", "bob"))}}

    def deployment_requested(self, known):
        known.deployments.append(self.unique())
        target = {"platform": "local", "cluster": "c", "namespace": "n", "name": self.random.choice(("a", "b"))}
        return self.version(known), {"deployment": known.deployments[-1], "target": target}

    def deployment_succeeded(self, known):
        return None, {"deployment": self.one(known.deployments)}

    def deployment_failed(self, known):
        return None, {"deployment": self.one(known.deployments), "error": "it did not come up"}

    def deployment_removed(self, known):
        return None, {"deployment": self.one(known.deployments), "reason": "not wanted"}

    def model_measured(self, known):
        data = {"metric": "accuracy", "value": self.random.random()}
        return None, data | ({"deployment": self.one(known.deployments)} if self.random.random() < 0.3 else {})

    def drift_detected(self, known):
        known.drifts.append(self.unique())
        return None, {"drift": known.drifts[-1], "kind": "data", "metric": "psi", "observed": 3.0e-7}

    def drift_resolved(self, known):
        return None, {"drift": self.one(known.drifts), "reason": "the sensor was mended"}

    def retrain_requested(self, known):
        if known.drifts:
            return None, {"cause": {"kind": "drift", "drift": self.one(known.drifts)}, "pipeline": "train.py"}
        return None, {"cause": {"kind": "schedule"}, "pipeline": "train.py"}

    def version_retired(self, known):
        return self.version(known), {"reason": "old"}


WEIGHTS = {
    "run.trained": 2,
    "version.registered": 4,
    "version.evaluated": 2,
    "version.promoted": 6,
    "version.demoted": 1,
    "alias.set": 2,
    "alias.removed": 1,
    "approval.requested": 1,
    "approval.decided": 1,
    "deployment.requested": 2,
    "deployment.succeeded": 2,
    "deployment.failed": 1,
    "deployment.removed": 1,
    "model.measured": 3,
    "drift.detected": 1,
    "drift.resolved": 1,
    "retrain.requested": 1,
    "version.retired": 1,
}
