-- Targets: what is wanted beside what was found. As the tables of 0001, these can be dropped and rebuilt.

CREATE TABLE deployments (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    target TEXT NOT NULL,
    workspace TEXT NOT NULL,
    channel TEXT,
    state TEXT NOT NULL,
    doc TEXT NOT NULL
);
-- a target may be longer than what an index holds, and a model has few
CREATE INDEX deployments_key ON deployments (key, until);
CREATE INDEX deployments_workspace ON deployments (workspace, until);

-- one row a deployment: what was asked for under its id, and where
CREATE TABLE deployments_requested (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    deployment TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX deployments_requested_key ON deployments_requested (key, deployment, until);
