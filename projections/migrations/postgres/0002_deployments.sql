-- Targets: what is wanted beside what was found. As the tables of 0001, these can be dropped and rebuilt.

CREATE TABLE deployments (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    target TEXT COLLATE "C" NOT NULL,
    workspace TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C",
    state TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
-- a target may be longer than what an index holds, and a model has few
CREATE INDEX deployments_key ON deployments (key, until);
CREATE INDEX deployments_workspace ON deployments (workspace, until);

-- one row a deployment: what was asked for under its id, and where
CREATE TABLE deployments_requested (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    deployment TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX deployments_requested_key ON deployments_requested (key, deployment, until);
