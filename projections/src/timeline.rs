//! The timeline: one line for every event, also for the refusals that matter, as an auditor reads it.

mod query;
mod summary;

pub use query::Order;

use annals_events::model::Decided;
use annals_events::record::Corrupt;
use serde::Serialize;

use crate::payload::Fields;
use crate::position::Event;
use crate::table::{Cell, Changes, Fold, Needs, OpenRow, Projection, Table};

/// Its name.
pub const NAME: &str = "timeline";

/// The projection.
pub struct Timeline;

static TABLES: [Table; 1] = [Table {
    name: "timeline",
    columns: &[
        "partition",
        "seq",
        "key",
        "version",
        "modelseq",
        "kind",
        "recorded",
        "occurred",
        "actor",
        "refused",
        "summary",
        "reason",
        "event",
        "source",
        "hash",
    ],
    identity: None,
}];

impl Projection for Timeline {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn fold(&self) -> Box<dyn Fold> {
        Box::new(Lines)
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The partition.
    pub partition: u32,
    /// The place in it.
    pub seq: u64,
    /// `workspace/model`.
    pub key: String,
    /// The version that it is about.
    pub version: Option<u64>,
    /// The model's sequence after it.
    pub modelseq: u64,
    /// The type, such as `version.promoted`; of a refused attempt, what was attempted.
    pub kind: String,
    /// When the engine recorded it: RFC 3339, milliseconds.
    pub recorded: String,
    /// When it happened, as the producer claims.
    pub occurred: Option<String>,
    /// Who.
    pub actor: String,
    /// Why it was refused (a stable code), if it was.
    pub refused: Option<String>,
    /// What happened, as a sentence without subject.
    pub summary: String,
    /// Why, as the producer says.
    pub reason: Option<String>,
    /// The CloudEvents id.
    pub event: String,
    /// The CloudEvents source.
    pub source: String,
    /// SHA-256 of the record's frame.
    pub hash: String,
}

/// Lines follow from their events alone.
struct Lines;

impl Fold for Lines {
    fn needs(&self, _: &Event<'_>, _: &mut Needs) {}

    fn load(&mut self, _: OpenRow) -> Result<(), Corrupt> {
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>, changes: &mut Changes) {
        let (view, data) = (&event.view, Fields::parse(event.view.data));
        // of a refused attempt the line says what was attempted, by its own id
        let (kind, id, source, refused) = match &event.decided {
            Decided::ProposalRefused(d) => {
                let kind = annals_events::kind::Kind::from_name(&d.kind).map_or(d.kind.as_str(), |kind| kind.dotted());
                (kind, d.id.as_str(), d.source.as_str(), Some(d.code.as_str()))
            }
            _ => (view.kind.dotted(), view.id, view.source, None),
        };
        let row = [
            Cell::Int(event.partition.into()),
            Cell::count(view.seq),
            view.key.into(),
            Cell::maybe_count(event.decided.version().or_else(|| view.version())),
            Cell::count(view.modelseq),
            kind.into(),
            Cell::Int(view.recorded.0),
            Cell::maybe(view.time),
            view.actor.into(),
            Cell::maybe(refused),
            summary::of(event, &data).into(),
            Cell::maybe(data.text("reason").as_deref()),
            id.into(),
            source.into(),
            event.hash.to_string().into(),
        ];
        changes.add(0, row);
    }

    fn settle(&mut self, _: &mut Changes) {}
}
