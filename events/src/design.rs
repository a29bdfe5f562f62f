//! Design: a model gets its name; and what the engine itself writes into the journal.

use serde::{Deserialize, Serialize};

use crate::model::Ask;
use crate::verdict::{Code, Refusal};

/// `decided` of `model.created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The policy that the model is under: `open`.
    pub policy: String,
}

/// `decided` of `proposal.refused`; its `data` is the refused proposal's, verbatim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The refused proposal's CloudEvents id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why.
    pub code: Code,
    /// Why, for a person.
    pub message: String,
}

/// `decided` of `journal.opened`, which is `seq` 0 of every partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// 1, and one more for each import.
    pub generation: u64,
    /// How many partitions the journal has; never changed after.
    pub partitions: u32,
}

#[derive(Deserialize)]
struct CreateData {
    #[serde(default)]
    policy: Option<String>,
}

pub(crate) fn create(ask: &Ask<'_>) -> Result<Created, Refusal> {
    if let Some(model) = ask.existing {
        let message = format!("the model `{}` exists already", ask.proposal.key);
        return Err(Refusal::new(Code::ModelExists, message, "choose another name, or use the model that is there").on(model.summary()));
    }
    if ask.proposal.must_exist {
        ask.model()?;
    }
    let data: CreateData = ask.data()?;
    Ok(Created { policy: data.policy.unwrap_or_else(|| "open".into()) })
}

#[cfg(test)]
mod tests;
