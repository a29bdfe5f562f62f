-- What is looked for: a document for each model and each version, and the words that it is found by. As the tables of 0001,
-- these can be dropped and rebuilt; they hold what is now, and no history.

CREATE TABLE search_documents (
    partition BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    -- 0 is the model's own
    version BIGINT NOT NULL,
    id BIGINT NOT NULL,
    created BIGINT NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    doc TEXT COLLATE "C" NOT NULL
);
CREATE INDEX search_documents_key ON search_documents (key, version);
-- a page of an answer is chosen by this index alone
CREATE INDEX search_documents_id ON search_documents (id, created, subject);
CREATE INDEX search_documents_since ON search_documents (partition, since, id);

-- `rowid` is the document's id, as SQLite calls it. Words are made by us, so that every engine has the same: no parser looks at them
CREATE TABLE search_words (
    rowid BIGINT NOT NULL,
    words TEXT COLLATE "C" NOT NULL
);
CREATE INDEX search_words_rowid ON search_words (rowid);
CREATE INDEX search_words_words ON search_words USING gin (array_to_tsvector(string_to_array(words, ' ')));
