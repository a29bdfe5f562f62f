-- What is under way outside: no view, since the journal does not have it. It is backed up; losing it
-- costs that webhooks are delivered again, and that subscribers' cursors and secrets are new.

-- who writes: `world` is the dispatcher with its actors, `door` is everybody else. `epoch` grows with
-- each new leader of a line, and what an older one wants to write is refused
CREATE TABLE lines (
    line TEXT PRIMARY KEY,
    journal TEXT NOT NULL,
    born BIGINT,
    epoch BIGINT NOT NULL DEFAULT 0
);

-- how far the dispatcher has come; written in the transaction that writes the tasks
CREATE TABLE positions (
    view TEXT NOT NULL,
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    recorded BIGINT NOT NULL,
    PRIMARY KEY (view, partition)
);

-- the rules as the journal has them up to those positions
CREATE TABLE rules (
    rule TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    state TEXT NOT NULL,
    spec TEXT NOT NULL,
    since BIGINT NOT NULL
);

-- what is to be done for one event by one rule; `head` is 1 for the oldest open one of its lane
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rule TEXT NOT NULL,
    lane TEXT NOT NULL,
    partition BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    event_source TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    recorded BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    note TEXT,
    progress TEXT,
    outcome TEXT,
    updated BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    head BIGINT NOT NULL
);
CREATE UNIQUE INDEX tasks_event ON tasks (rule, partition, seq);
-- what may be due
CREATE INDEX tasks_due ON tasks (rule, next_at, id) WHERE head = 1;
-- a lane has one head, whatever happens: two would break its order
CREATE UNIQUE INDEX tasks_head ON tasks (rule, lane) WHERE head = 1;
-- who is next in a lane
CREATE INDEX tasks_open ON tasks (rule, lane, id) WHERE state IN ('pending', 'running');
CREATE INDEX tasks_state ON tasks (rule, state, id);
CREATE INDEX tasks_key ON tasks (key, id);

CREATE TABLE secrets (
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    bytes TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (owner, id)
);

CREATE TABLE cursors (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    cursor TEXT NOT NULL,
    updated BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (workspace, name)
);
