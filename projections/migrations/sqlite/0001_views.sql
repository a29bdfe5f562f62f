-- What can be asked. Every table here can be dropped and rebuilt from the journal.
-- Rows with `since` and `until` are history: valid from the event `since` to the event before
-- `until` of their partition, and valid now where `until` is null.

CREATE TABLE annals_views (
    journal TEXT NOT NULL
);

-- how far each view has come; written in the transaction that writes its rows
CREATE TABLE positions (
    view TEXT NOT NULL,
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    recorded BIGINT NOT NULL,
    PRIMARY KEY (view, partition)
);

CREATE TABLE registry_models (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    model TEXT NOT NULL,
    workspace TEXT NOT NULL,
    health TEXT NOT NULL,
    latest_version BIGINT,
    doc TEXT NOT NULL
);
CREATE INDEX registry_models_key ON registry_models (key, model, until);

-- one row an event: which sequence the model was at, also where its document did not change
CREATE TABLE registry_steps (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    seq BIGINT NOT NULL,
    modelseq BIGINT NOT NULL,
    recorded BIGINT NOT NULL
);
CREATE INDEX registry_steps_key ON registry_steps (key, seq);

CREATE TABLE registry_versions (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    version BIGINT NOT NULL,
    label TEXT,
    run TEXT,
    digest TEXT,
    status TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX registry_versions_key ON registry_versions (key, version, until);

CREATE TABLE registry_channels (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    channel TEXT NOT NULL,
    version BIGINT NOT NULL,
    digest TEXT,
    recorded BIGINT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX registry_channels_key ON registry_channels (key, channel, until);
CREATE INDEX registry_channels_channel ON registry_channels (channel, key, until);

CREATE TABLE registry_aliases (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX registry_aliases_key ON registry_aliases (key, alias, until);

CREATE TABLE registry_deployments (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    deployment TEXT NOT NULL,
    version BIGINT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX registry_deployments_key ON registry_deployments (key, deployment, until);

CREATE TABLE registry_drifts (
    partition BIGINT NOT NULL,
    key TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    drift TEXT NOT NULL,
    version BIGINT,
    state TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX registry_drifts_key ON registry_drifts (key, drift, until);

CREATE TABLE timeline (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    key TEXT NOT NULL,
    version BIGINT,
    modelseq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    recorded BIGINT NOT NULL,
    occurred TEXT,
    actor TEXT NOT NULL,
    refused TEXT,
    summary TEXT NOT NULL,
    reason TEXT,
    event TEXT NOT NULL,
    source TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX timeline_key ON timeline (key, seq);
CREATE INDEX timeline_partition ON timeline (partition, recorded, seq);
CREATE INDEX timeline_event ON timeline (event);
CREATE INDEX timeline_recorded ON timeline (recorded, partition, seq);

CREATE TABLE lineage_nodes (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX lineage_nodes_node ON lineage_nodes (node, seq);

CREATE TABLE lineage_edges (
    partition BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    relation TEXT NOT NULL
);
CREATE INDEX lineage_edges_source ON lineage_edges (source, target);
CREATE INDEX lineage_edges_target ON lineage_edges (target, source);
