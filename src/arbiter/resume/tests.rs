//! Decisions on a journal in memory: taken where there is something to decide, refused elsewhere.
