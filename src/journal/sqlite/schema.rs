//! The tables of `journal.db`, and how they are made.
//!
//! Each partition has tables of its own: with one table for all, every append would land in the
//! middle of the tree and split its pages; at the end of its own tree it touches one page. The key
//! is SQLite's row number, since a frame of about 1 kB would overflow in a table without one.

use annals_events::ledger;
use annals_events::time::Timestamp;
use rusqlite::{Connection, params};

/// "Annl": what `PRAGMA application_id` says of a journal of ours.
pub const APPLICATION: i32 = 0x416e_6e6c;
/// What `PRAGMA user_version` says; a build refuses a newer one.
pub const FORMAT: i32 = 1;

/// The statements of one partition.
pub struct Sql {
    pub insert_record: String,
    pub insert_verdict: String,
    pub records: String,
    pub end: String,
    pub verdicts: String,
    pub verdicts_end: String,
    pub verdict: String,
    pub last_at: String,
    pub prune: String,
}

impl Sql {
    /// The statements of a partition.
    pub fn of(p: u32) -> Self {
        Self {
            insert_record: format!("INSERT INTO records_{p} (seq, key, recorded, frame, hash) VALUES (?1, ?2, ?3, ?4, ?5)"),
            insert_verdict: format!("INSERT INTO proposals_{p} (src, at, name, verdict, submission) VALUES (?1, ?2, ?3, ?4, ?5)"),
            records: format!("SELECT seq, frame, hash FROM records_{p} WHERE seq >= ?1 ORDER BY seq LIMIT ?2"),
            end: format!("SELECT max(seq) FROM records_{p}"),
            verdicts: format!("SELECT src, verdict FROM proposals_{p} WHERE src >= ?1 ORDER BY src LIMIT ?2"),
            verdicts_end: format!("SELECT max(src) FROM proposals_{p}"),
            verdict: format!("SELECT at, verdict FROM proposals_{p} WHERE name = ?1 ORDER BY src DESC"),
            last_at: format!("SELECT at FROM proposals_{p} ORDER BY src DESC LIMIT 1"),
            // never the newest: the next proposal's offset follows from it
            prune: format!(
                "DELETE FROM proposals_{p} WHERE src IN (SELECT src FROM proposals_{p} WHERE src < (SELECT max(src) FROM proposals_{p}) \
                 ORDER BY src LIMIT ?2) AND at < ?1"
            ),
        }
    }
}

/// Makes the tables and, if it is to be `open`, writes `seq` 0 of every partition, in one transaction.
pub fn create(connection: &mut Connection, id: &str, partitions: u32, at: Timestamp, open: bool) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")?;
    let mut put = transaction.prepare("INSERT INTO meta (name, value) VALUES (?1, ?2)")?;
    put.execute(params!["id", id])?;
    put.execute(params!["partitions", partitions])?;
    put.execute(params!["created", at.to_string()])?;
    put.execute(params!["barrier", 0])?;
    drop(put);
    for p in 0..partitions {
        transaction.execute_batch(&format!(
            "CREATE TABLE records_{p} (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, recorded INTEGER NOT NULL, frame BLOB NOT NULL, hash BLOB NOT NULL);
             CREATE TABLE proposals_{p} (src INTEGER PRIMARY KEY, at INTEGER NOT NULL, name INTEGER, verdict TEXT NOT NULL, submission BLOB NOT NULL);
             CREATE INDEX names_{p} ON proposals_{p} (name) WHERE name IS NOT NULL;"
        ))?;
        if !open {
            continue;
        }
        let record = ledger::opening(p, partitions, at);
        let key = annals_events::names::Key::control(p);
        transaction.execute(&Sql::of(p).insert_record, params![0, key.as_str(), at.0, record.frame(), record.hash().0])?;
    }
    transaction.execute_batch(&views(partitions))?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// `records` and `proposals` over all partitions, for people with an SQL shell.
fn views(partitions: u32) -> String {
    let all = |table: &str, columns: &str| {
        let parts: Vec<_> = (0..partitions).map(|p| format!("SELECT {p} AS partition, {columns} FROM {table}_{p}")).collect();
        format!("CREATE VIEW {table} AS {};", parts.join(" UNION ALL "))
    };
    all("records", "seq, key, recorded, frame, hash") + &all("proposals", "src, at, name, verdict, submission")
}
