//! The flags of the commands that write into a journal on which no engine judges: `partition` and `import`.

use std::path::PathBuf;

use annals_events::record::Hash;
use clap::{ArgGroup, Args, Subcommand};

use super::kafka::Kafka;
use super::search::ImportElasticsearch;

/// What can be decided about a partition that stands still.
#[derive(Clone, Debug, Subcommand)]
pub enum Partition {
    /// Let a halted partition go on, and record who decided so
    Resume(Resume),
}

/// A person's decision.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("decision").args(["accept", "skip_to"]).required(true)))]
#[command(after_help = "`annals doctor` and the log name what a partition is halted for. Accepting a record makes it history, with what \
    lies behind it until now: compare it first, with a backup or an export. Skipping gives up proposals that nobody has judged. In a \
    directory no engine may run meanwhile; on Kafka the engines may, and go on by themselves.")]
pub struct Resume {
    /// The partition
    pub partition: u32,
    /// Accept the disputed record, named by its place and its hash
    #[arg(long, value_name = "SEQ:HASH", value_parser = record)]
    pub accept: Option<(u64, Hash)>,
    /// Give up the proposals before this offset: they are gone; or, if their log was made anew, begin there
    #[arg(long, value_name = "OFFSET")]
    pub skip_to: Option<u64>,
    /// Who decides
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Which journal.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A journal from a file.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Every record keeps its bytes and its hash; behind them each partition gets a `journal.continued`. Positions and \
    ids stay; verdicts and waiting proposals are not in an export. The file is checked as `annals audit verify` does it, before \
    anything is written. Make topics for an import with `annals topics create --for-import`.")]
pub struct Import {
    /// Records of another system, into a running engine.
    #[command(subcommand)]
    pub from: Option<ImportFrom>,
    /// The exported journal
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// Which journal.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Where else records come from.
#[derive(Clone, Debug, Subcommand)]
pub enum ImportFrom {
    /// Register what an index of Elasticsearch or OpenSearch holds, written there by hand
    Elasticsearch(ImportElasticsearch),
}

/// Where a journal is.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Directory of the journal
    #[arg(long, env = "ANNALS_DATA", default_value = "./annals-data", value_name = "DIR")]
    pub data: PathBuf,
    /// The journal on Kafka, not in the directory
    #[command(flatten)]
    pub kafka: Kafka,
}

impl Place {
    /// How to reach the journal on Kafka, if it is there.
    #[must_use]
    pub fn on_kafka(&self) -> Option<&Kafka> {
        Some(&self.kafka).filter(|kafka| !kafka.bootstrap.is_empty())
    }
}

fn record(text: &str) -> Result<(u64, Hash), String> {
    let form = || "say SEQ:HASH, as the halted engine does, such as 7:9f86d0…".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(form)?;
    Ok((seq.parse().map_err(|_| form())?, hash.parse().map_err(|_| form())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_its_place_and_its_whole_hash() {
        let hash = Hash::of(b"x");
        assert_eq!(record(&format!("7:{hash}")), Ok((7, hash)));
        for bad in ["", "7", "7:", ":ab", "7:abc", "x:ab", &format!("7:{hash}0")] {
            assert!(record(bad).unwrap_err().contains("SEQ:HASH"), "{bad}");
        }
    }
}
