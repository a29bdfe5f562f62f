"""One model's life, as lifecycle.md has it under the `open` policy: what may happen next, and what then is decided.

`decide` answers with the decision as a plain dictionary or raises Refused; `evolve` takes a decision into the state.
"""

CHANNELS = ("dev", "staging", "production")
PREFIX = "dev.annals."
# refusals that outlive the verdicts: they are records too
RECORDED = {"approval.decided", "version.promoted", "version.retired"}
NAMES_VERSION = {
    "version.evaluated",
    "approval.requested",
    "version.promoted",
    "version.demoted",
    "alias.set",
    "deployment.requested",
    "version.retired",
}


class Refused(Exception):
    """What may not happen, with a word for it."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Ask:
    """A proposal as the oracle sees it: what, about which version, with which data, by whom."""

    def __init__(self, kind, version, data, actor, expected=None, must_exist=False):
        self.kind, self.version, self.data, self.actor = kind, version, data, actor
        self.expected, self.must_exist = expected, must_exist


def dotted(kind):
    """`dev.annals.version.promoted.v1` without its ends."""
    return kind.removeprefix(PREFIX).removesuffix(".v1")


def present(decided):
    """A decision without the members that are absent."""
    return {name: value for name, value in decided.items() if value is not None}


def check_name(what, text):
    """Names of channels, aliases and labels."""
    bad = not text or text in (".", "..") or len(text.encode()) > 255 or text != text.strip() or text[0] == "_"
    if bad or any(c in "/:" or ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        raise Refused("schema-violation", f"`{text}` cannot be a name of {what}")


def digits(text):
    """Whether it is a number as the engine gives them."""
    return text.isascii() and text.isdecimal()


def need(holds, code, message):
    """Refuses unless it holds."""
    if not holds:
        raise Refused(code, message)


class Model:
    """The folded state of a model."""

    def __init__(self):
        self.modelseq = 0
        self.versions = []  # version n is at n - 1
        self.runs = {}  # id -> digest
        self.channels, self.aliases = {}, {}
        self.approvals, self.deployments, self.drifts = {}, {}, {}
        self.retrains = set()

    def version(self, number):
        """A version by its number, or a refusal."""
        need(1 <= number <= len(self.versions), "unknown-version", f"there is no version {number}")
        return self.versions[number - 1]

    def resolve(self, named):
        """The number of what somebody calls a version."""
        if named.startswith("run:"):
            found = [n for n, v in enumerate(self.versions, 1) if v["run"] == named[4:]][-1:]
        elif digits(named):
            found = [int(named)] if 1 <= int(named) <= len(self.versions) else []
        else:
            found = [n for n, v in enumerate(self.versions, 1) if v["label"] == named]
        need(found, "unknown-version", f"there is no version `{named}`")
        return found[0]


def decide(model, ask):
    """The decision on a proposal; `model` is None where there is none yet."""
    modelseq = model.modelseq if model else 0
    stale = ask.expected is not None and ask.expected != modelseq
    need(not stale, "stale-expectation", f"the model is at {modelseq}, not at {ask.expected}")
    kind = dotted(ask.kind)
    decider = DECIDERS.get(kind)
    need(decider, "unknown-type", f"`{ask.kind}` may not be proposed")
    creates = kind in ("model.created", "run.trained", "version.registered")
    need(model or (creates and not ask.must_exist), "unknown-model", "there is no such model")
    if kind in NAMES_VERSION:
        number = model.resolve(ask.version or "")
        return present(decider(model, ask.data, number, ask))
    return present(decider(model, ask.data, ask))


def same_version(model, ask, number):
    """A subject that names a version must name this one."""
    named = ask.version and model.resolve(ask.version)
    need(named in (None, "", number), "subject-mismatch", f"the subject names version {named}, this is about {number}")


def created(model, data, _ask):
    need(model is None, "model-exists", "the model exists")
    return {"policy": data.get("policy", "open")}


def trained(model, data, _ask):
    run = data["run"]["id"]
    need(not model or run not in model.runs, "run-known", f"the run `{run}` is known")
    return {"run": run, "digest": data["artifact"].get("digest"), "created": model is None}


def registered(model, data, _ask):
    label, run, digest = data.get("label"), data.get("run"), data["artifact"].get("digest")
    if label is not None:
        need(not digits(label), "schema-violation", "a label is not all digits")
        check_name("label", label)
        taken = model and any(v["label"] == label for v in model.versions)
        need(not taken, "label-taken", f"the label `{label}` is taken")
    known = model is not None and run in model.runs
    made = model.runs[run] if known else None
    need(not made or not digest or made == digest, "digest-mismatch", f"the run made {made}")
    number = len(model.versions) + 1 if model else 1
    external = run is not None and not known
    return {"version": number, "label": label, "digest": digest or made, "run": run, "external": external, "created": model is None}


def evaluated(model, data, number, _ask):
    return {"version": number, "digest": model.version(number)["digest"], "verdict": data["verdict"]}


def approval_requested(model, data, number, ask):
    digest = model.version(number)["digest"]
    need(data["channel"] in CHANNELS, "unknown-channel", "no such channel")
    need(data.get("digest") in (None, digest), "digest-mismatch", "other bytes")
    need(data["approval"] not in model.approvals, "no-change", "it was requested before")
    requester = data["requester"]["id"] if data.get("requester") else ask.actor
    decision = {"approval": data["approval"], "version": number, "channel": data["channel"]}
    return decision | {"digest": digest, "requester": requester}


def approval_decided(model, data, ask):
    approval = model.approvals.get(data["approval"])
    need(approval and approval["decision"] is None, "illegal-transition", "no such approval is open")
    number = approval["version"]
    same_version(model, ask, number)
    version = model.version(number)
    need(data.get("digest") in (None, version["digest"]), "digest-mismatch", "other bytes")
    approver = data["approver"]["id"]
    one = {who.removeprefix("unverified:") for who in (approval["requester"], version["author"])}
    need(approver.removeprefix("unverified:") not in one, "self-approval", "four eyes are two pairs")
    decision = {"approval": data["approval"], "version": number, "channel": approval["channel"]}
    return decision | {"digest": version["digest"], "decision": data["decision"], "approver": approver}


def promoted(model, data, number, _ask):
    channel = data["channel"]
    need(channel in CHANNELS, "unknown-channel", "no such channel")
    held, version = model.channels.get(channel), model.version(number)
    need(held != number, "no-change", "the channel holds it already")
    need(held or not data.get("rollback"), "illegal-transition", "nothing to roll back")
    granted = [a for a, v in model.approvals.items() if (v["version"], v["channel"], v["decision"]) == (number, channel, "approved")]
    return {
        "version": number,
        "channel": channel,
        "digest": version["digest"],
        "from": held,
        "displaced": [{"version": held, "now": "kept"}] if held else [],
        "approvals": granted,
        "restored": version["retired"],
        "rollback_of": held if data.get("rollback") else None,
    }


def demoted(model, data, number, _ask):
    need(data["channel"] in CHANNELS, "unknown-channel", "no such channel")
    need(model.channels.get(data["channel"]) == number, "illegal-transition", "the channel does not hold it")
    return {"version": number, "channel": data["channel"]}


def alias_set(model, data, number, _ask):
    check_name("alias", data["alias"])
    held = model.aliases.get(data["alias"])
    need(held != number, "no-change", "the alias names it already")
    return {"alias": data["alias"], "version": number, "from": held}


def alias_removed(model, data, ask):
    held = model.aliases.get(data["alias"])
    need(held, "unknown-alias", "no such alias")
    same_version(model, ask, held)
    return {"alias": data["alias"], "from": held}


def deployment_requested(model, data, number, _ask):
    need(data["deployment"] not in model.deployments, "no-change", "it was requested before")
    channel = data.get("channel")
    if channel is not None:
        need(channel in CHANNELS, "unknown-channel", "no such channel")
        need(model.channels.get(channel) == number, "illegal-transition", "the channel does not hold it")
    target = "/".join(data["target"].get(part, "") for part in ("platform", "cluster", "namespace", "name"))
    return {"deployment": data["deployment"], "version": number, "digest": model.version(number)["digest"], "target": target}


def _deployment(model, data, ask, states):
    found = model.deployments.get(data["deployment"])
    need(found, "illegal-transition", "no such deployment was requested")
    same_version(model, ask, found["version"])
    need(found["state"] in states, "illegal-transition", f"it is {found['state']}")
    return found


def deployment_succeeded(model, data, ask):
    found = _deployment(model, data, ask, ("requested",))
    before = [d for d, v in model.deployments.items() if v["target"] == found["target"] and v["state"] == "active"]
    return {"deployment": data["deployment"], "version": found["version"], "replaces": before[0] if before else None}


def deployment_failed(model, data, ask):
    found = _deployment(model, data, ask, ("requested",))
    return {"deployment": data["deployment"], "version": found["version"]}


def deployment_removed(model, data, ask):
    found = _deployment(model, data, ask, ("requested", "active"))
    return {"deployment": data["deployment"], "version": found["version"]}


def measured(model, data, ask):
    named = model.resolve(ask.version) if ask.version else None
    if data.get("deployment") is None:
        return {"version": named}
    found = model.deployments.get(data["deployment"])
    need(found, "illegal-transition", "no such deployment was requested")
    same_version(model, ask, found["version"])
    return {"version": found["version"]}


def drift_detected(model, data, ask):
    need(data["drift"] not in model.drifts, "no-change", "it was reported before")
    return {"drift": data["drift"], "version": model.resolve(ask.version) if ask.version else None}


def drift_resolved(model, data, ask):
    found = model.drifts.get(data["drift"])
    need(found, "illegal-transition", "no such drift")
    need(not found["resolved"], "no-change", "it is resolved already")
    if found["version"]:
        same_version(model, ask, found["version"])
    return {"drift": data["drift"], "version": found["version"]}


def retrain_requested(model, data, _ask):
    cause = data["cause"]
    drift = cause.get("drift")
    need(drift is None or drift in model.drifts, "illegal-transition", "no such drift")
    dedup = data.get("dedup") or (f"{cause['kind']}:{drift}" if drift else cause["kind"])
    need(dedup not in model.retrains, "no-change", "one is open")
    return {"dedup": dedup, "drift": drift}


def retired(model, _data, number, _ask):
    need(not model.version(number)["retired"], "no-change", "it is retired already")
    need(number not in model.channels.values(), "version-held", "a channel holds it")
    live = [d for d in model.deployments.values() if d["version"] == number and d["state"] in ("requested", "active")]
    need(not live, "version-held", "a deployment uses it")
    return {"version": number}


DECIDERS = {
    "model.created": created,
    "run.trained": trained,
    "version.registered": registered,
    "version.evaluated": evaluated,
    "approval.requested": approval_requested,
    "approval.decided": approval_decided,
    "version.promoted": promoted,
    "version.demoted": demoted,
    "alias.set": alias_set,
    "alias.removed": alias_removed,
    "deployment.requested": deployment_requested,
    "deployment.succeeded": deployment_succeeded,
    "deployment.failed": deployment_failed,
    "deployment.removed": deployment_removed,
    "model.measured": measured,
    "drift.detected": drift_detected,
    "drift.resolved": drift_resolved,
    "retrain.requested": retrain_requested,
    "version.retired": retired,
}


def evolve(model, kind, d, actor):
    """Takes a decision into the state."""
    kind = dotted(kind)
    if kind == "run.trained":
        model.runs[d["run"]] = d.get("digest")
    elif kind == "version.registered":
        version = {"label": d.get("label"), "digest": d.get("digest"), "run": d.get("run"), "author": actor, "retired": False}
        model.versions.append(version)
        model.retrains.clear()
    elif kind == "approval.requested":
        model.approvals[d["approval"]] = {**d, "decision": None}
    elif kind == "approval.decided":
        model.approvals[d["approval"]]["decision"] = d["decision"]
    elif kind == "version.promoted":
        model.channels[d["channel"]] = d["version"]
        model.versions[d["version"] - 1]["retired"] = False
    elif kind == "version.demoted":
        model.channels.pop(d["channel"], None)
    elif kind == "alias.set":
        model.aliases[d["alias"]] = d["version"]
    elif kind == "alias.removed":
        model.aliases.pop(d["alias"], None)
    elif kind == "version.retired":
        model.versions[d["version"] - 1]["retired"] = True
    else:
        _evolve_running(model, kind, d)
    model.modelseq += 1


def _evolve_running(model, kind, d):
    """What runs, what drifted and what shall be trained."""
    if kind == "deployment.requested":
        model.deployments[d["deployment"]] = {**d, "state": "requested"}
    elif kind == "deployment.succeeded":
        if d.get("replaces"):
            model.deployments[d["replaces"]]["state"] = "superseded"
        model.deployments[d["deployment"]]["state"] = "active"
    elif kind in ("deployment.failed", "deployment.removed"):
        model.deployments[d["deployment"]]["state"] = kind.removeprefix("deployment.")
    elif kind == "drift.detected":
        model.drifts[d["drift"]] = {"version": d.get("version"), "resolved": False}
    elif kind == "drift.resolved":
        model.drifts[d["drift"]]["resolved"] = True
    elif kind == "retrain.requested":
        model.retrains.add(d["dedup"])
