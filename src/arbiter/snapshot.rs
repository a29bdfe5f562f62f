//! Snapshots of a partition's ledger, so that a start need not replay the whole journal.
//!
//! A snapshot is never trusted by itself: it must be of this journal, its checksum must hold, and
//! the journal must still hold, at its offset, the record whose hash it names. On any doubt the
//! older one is taken, else everything is replayed.

mod background;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use annals_events::ledger::Ledger;
use annals_events::record::Hash;
use serde::{Deserialize, Serialize};

use crate::journal::Journal;
pub use background::Background;

/// How many snapshots of a partition are kept.
const KEPT: usize = 2;
const MAGIC: &[u8] = b"annals.snapshot.v3\n";

/// A ledger, and where in which journal it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`Journal::id`].
    pub journal: String,
    /// Offset of the last record that the ledger has folded; `None` before the first.
    pub offset: Option<u64>,
    /// The state behind it.
    pub ledger: Ledger,
}

/// A place that keeps snapshots.
pub trait Snapshots: Send + Sync {
    /// Keeps a snapshot, whole or not at all.
    ///
    /// # Errors
    /// Any; nothing is lost by it but time at the next start.
    fn save(&self, snapshot: Snapshot) -> io::Result<()>;

    /// The kept snapshots of a partition whose checksum holds, newest first.
    fn kept(&self, partition: u32) -> Vec<Snapshot>;

    /// As [`Snapshots::kept`], but an older one is read only when it is asked for: reading takes time.
    fn newest_first(&self, partition: u32) -> Box<dyn Iterator<Item = Snapshot> + '_> {
        Box::new(self.kept(partition).into_iter())
    }
}

impl Snapshot {
    /// The state before the first record.
    #[must_use]
    pub fn beginning(partition: u32) -> Self {
        Self { journal: String::new(), offset: None, ledger: Ledger::new(partition) }
    }

    /// Bytes: a magic line, postcard, and the SHA-256 of all before it.
    ///
    /// # Errors
    /// If the state cannot be encoded, which is a bug.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = postcard::to_extend(self, MAGIC.to_vec()).map_err(io::Error::other)?;
        let checksum = Hash::of(&bytes);
        bytes.extend_from_slice(&checksum.0);
        Ok(bytes)
    }

    /// Reads what [`Snapshot::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<32>()?;
        if Hash::of(body).0 != *checksum {
            return None;
        }
        postcard::from_bytes(body.strip_prefix(MAGIC)?).ok()
    }
}

/// The newest snapshot that the journal confirms; `None` means: replay everything.
///
/// # Errors
/// If a whole snapshot of this very journal says that there was a record which is not there, or is
/// another one: then the journal was cut or changed, and a person must look.
pub fn load(journal: &dyn Journal, snapshots: &dyn Snapshots, partition: u32) -> Result<Option<Snapshot>, String> {
    confirmed(journal, snapshots.newest_first(partition), partition)
}

/// As [`load`], but the newest up to this place. A contradiction is for the arbiter to tell.
#[must_use]
pub fn load_up_to(journal: &dyn Journal, snapshots: &dyn Snapshots, partition: u32, seq_max: u64) -> Option<Snapshot> {
    let earlier = snapshots.newest_first(partition).filter(|snapshot| snapshot.ledger.last_seq() <= Some(seq_max));
    confirmed(journal, earlier, partition).ok().flatten()
}

fn confirmed(journal: &dyn Journal, newest_first: impl Iterator<Item = Snapshot>, partition: u32) -> Result<Option<Snapshot>, String> {
    for snapshot in newest_first {
        let Some(offset) = snapshot.offset.filter(|_| is_of(journal, &snapshot, partition)) else {
            tracing::warn!(partition, "a snapshot of another journal is not used");
            continue;
        };
        // what cannot be read is no contradiction: the fold will say what is wrong
        let (Ok(end), Ok(chunk)) = (journal.end(partition), journal.records(partition, offset, 1)) else { return Ok(None) };
        let found = chunk.items.first().filter(|found| found.offset == offset).map(|found| found.record.hash());
        let what = match found {
            Some(hash) if hash == snapshot.ledger.last_hash() => return Ok(Some(snapshot)),
            Some(_) => "another record",
            None if end <= offset => "no record",
            None => return Ok(None),
        };
        let seq = snapshot.ledger.last_seq().unwrap_or(0);
        return Err(format!(
            "a snapshot was taken at seq {seq}, where the journal has {what} now: it was cut or changed; restore it from a backup \
             (after restoring one on purpose, remove the directory snapshots/ and the files views.db*)"
        ));
    }
    Ok(None)
}

fn is_of(journal: &dyn Journal, snapshot: &Snapshot, partition: u32) -> bool {
    snapshot.journal == journal.id() && snapshot.ledger.partition == partition && snapshot.ledger.partitions == journal.partitions()
}

/// Snapshots as files in a directory: `p<partition>-<seq>.snapshot`.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Uses a directory, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Files of a partition, newest first.
    fn files(&self, partition: u32) -> Vec<PathBuf> {
        let prefix = format!("p{partition:04}-");
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let named =
            |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&prefix) && n.ends_with(".snapshot"));
        let mut files: Vec<_> = entries.flatten().map(|e| e.path()).filter(named).collect();
        files.sort_unstable();
        files.reverse();
        files
    }
}

impl Snapshots for Directory {
    fn save(&self, snapshot: Snapshot) -> io::Result<()> {
        let partition = snapshot.ledger.partition;
        let name = format!("p{partition:04}-{:020}.snapshot", snapshot.ledger.last_seq().unwrap_or(0));
        let (target, temporary) = (self.path.join(&name), self.path.join(format!("{name}.tmp")));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&snapshot.encode()?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &target)?;
        std::fs::File::open(&self.path)?.sync_all()?;
        for old in self.files(partition).into_iter().skip(KEPT) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }

    fn kept(&self, partition: u32) -> Vec<Snapshot> {
        self.newest_first(partition).collect()
    }

    fn newest_first(&self, partition: u32) -> Box<dyn Iterator<Item = Snapshot> + '_> {
        Box::new(self.files(partition).into_iter().filter_map(|path| Snapshot::decode(&std::fs::read(path).ok()?)))
    }
}
