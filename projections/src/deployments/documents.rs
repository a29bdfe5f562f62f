//! The documents of the deployments view: what the doors answer with, as JSON.
#![allow(missing_docs)] // a field is named as in the events; words are added where that does not say it

use serde::{Deserialize, Serialize};

use crate::shelf::Entity;
use crate::table::Cell;

type Text = Box<str>;

/// One target, as one model sees it; or the workspace, where something is on it that nobody asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub workspace: Text,
    /// None where what is on it is foreign.
    pub model: Option<Text>,
    /// `platform/cluster/namespace/name`.
    pub target: Text,
    /// The channel that it serves, as the last request says.
    pub channel: Option<Text>,
    /// One of [`super::STATES`].
    pub state: Text,
    /// What made the state what it is.
    #[serde(flatten)]
    pub cause: Cause,
    /// The state before it was found changed or missing: what it is again once it is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Text>,
    /// What is to be known besides; until the next success.
    pub note: Option<Note>,
    pub wanted: Option<Wanted>,
    pub found: Option<Found>,
}

/// An event, and when it was recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// When the engine recorded it.
    pub since: Text,
    /// Its CloudEvents id.
    pub event: Text,
    /// `partition:seq`.
    pub position: Text,
}

/// The deployment that was asked for last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    pub deployment: Text,
    pub version: u64,
    pub digest: Option<Text>,
    pub channel: Option<Text>,
    #[serde(flatten)]
    pub cause: Cause,
}

/// What is there, as far as it was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// None if it is none of ours.
    pub deployment: Option<Text>,
    pub version: Option<u64>,
    pub digest: Option<Text>,
    /// Of what is none of ours, or was changed by hand.
    pub image: Option<Text>,
    #[serde(flatten)]
    pub cause: Cause,
}

/// Why it failed or was rolled back, or what others did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    pub text: Text,
    #[serde(flatten)]
    pub cause: Cause,
}

/// A deployment that was asked for, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requested {
    pub target: Text,
    #[serde(flatten)]
    pub wanted: Wanted,
}

impl Entity for Target {
    const TABLE: usize = 0;
    fn identity(&self) -> Cell {
        Cell::from(&*self.target)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        row.extend([Cell::from(&*self.workspace), Cell::maybe(self.channel.as_deref()), Cell::from(&*self.state)]);
    }
}

impl Entity for Requested {
    const TABLE: usize = 1;
    fn identity(&self) -> Cell {
        Cell::from(&*self.wanted.deployment)
    }
    fn columns(&self, _: &mut Vec<Cell>) {}
}
