-- What can be asked, in the schema that is first in the search path. Every table here can be
-- dropped and rebuilt from the journal. As in SQLite, but texts are ordered by their bytes.
-- Rows with `since` and `until` are history: valid from the event `since` to the event before
-- `until` of their partition, and valid now where `until` is null.

-- which views there are, and of which journal; who writes one locks its row first
CREATE TABLE views (
    view TEXT PRIMARY KEY,
    journal TEXT NOT NULL
);

-- how far each view has come; written in the transaction that writes its rows
CREATE TABLE positions (
    view TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL,
    "offset" BIGINT NOT NULL,
    recorded BIGINT NOT NULL,
    PRIMARY KEY (view, partition)
);

CREATE TABLE registry_models (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    model TEXT COLLATE "C" NOT NULL,
    workspace TEXT COLLATE "C" NOT NULL,
    health TEXT COLLATE "C" NOT NULL,
    latest_version BIGINT,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_models_key ON registry_models (key, model, until);

-- one row an event: which sequence the model was at, also where its document did not change
CREATE TABLE registry_steps (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    modelseq BIGINT NOT NULL,
    recorded BIGINT NOT NULL
);
CREATE INDEX registry_steps_key ON registry_steps (key, seq);

CREATE TABLE registry_versions (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    version BIGINT NOT NULL,
    label TEXT COLLATE "C",
    run TEXT COLLATE "C",
    digest TEXT COLLATE "C",
    status TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_versions_key ON registry_versions (key, version, until);

CREATE TABLE registry_channels (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    channel TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    digest TEXT COLLATE "C",
    recorded BIGINT NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_channels_key ON registry_channels (key, channel, until);
CREATE INDEX registry_channels_channel ON registry_channels (channel, key, until);

CREATE TABLE registry_aliases (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    alias TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_aliases_key ON registry_aliases (key, alias, until);

CREATE TABLE registry_deployments (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    deployment TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_deployments_key ON registry_deployments (key, deployment, until);

CREATE TABLE registry_drifts (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    drift TEXT COLLATE "C" NOT NULL,
    version BIGINT,
    state TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX registry_drifts_key ON registry_drifts (key, drift, until);

CREATE TABLE timeline (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    version BIGINT,
    modelseq BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    recorded BIGINT NOT NULL,
    occurred TEXT COLLATE "C",
    actor TEXT COLLATE "C" NOT NULL,
    refused TEXT COLLATE "C",
    summary TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C",
    event TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
CREATE INDEX timeline_key ON timeline (key, seq);
CREATE INDEX timeline_partition ON timeline (partition, recorded, seq);
CREATE INDEX timeline_event ON timeline (event);
CREATE INDEX timeline_recorded ON timeline (recorded, partition, seq);

CREATE TABLE lineage_nodes (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX lineage_nodes_node ON lineage_nodes (node, seq);

CREATE TABLE lineage_edges (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    relation TEXT COLLATE "C" NOT NULL
);
CREATE INDEX lineage_edges_source ON lineage_edges (source, target);
CREATE INDEX lineage_edges_target ON lineage_edges (target, source);
