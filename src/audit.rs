//! What an auditor takes away and checks without us: the journal as one file, and its verification.
//!
//! What it shows, and what not: the chain has no secret. A record that was edited, dropped, swapped,
//! inserted or repeated is found, and an export that was cut off. Somebody who rewrites *everything*
//! from one record on, hashes included, or takes the newest records away cleanly (from the directory,
//! or from an export with its last line made anew), leaves another journal that is whole in itself;
//! only comparing with a head that was noted elsewhere tells the two apart. Heads that are signed and
//! kept out of the operator's reach come with the notary; until then, note the heads that
//! `audit verify` prints.

pub mod bundle;
pub mod chain;
pub mod import;
pub mod shelf;
pub mod verify;
