//! The embedded journal: one SQLite file, one fsync per group of batches.
