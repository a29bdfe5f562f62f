//! How far the publisher of the derived topics is, as others see it.

/// What the publisher of this instance is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Another instance publishes, or will in a moment.
    #[default]
    Standby,
    /// It publishes for the whole cluster.
    Publishing,
    /// It could not go on for now, and tries again.
    Troubled(String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publishing {
    /// What it is doing.
    pub state: State,
    /// By partition the last published event; empty where another instance publishes.
    pub seqs: Vec<Option<u64>>,
    /// Partitions that are not published on, and why: a person must look.
    pub halted: Vec<(u32, String)>,
    /// Transactions committed since the start.
    pub commits: u64,
    /// Copies that were found to be there twice, since the start.
    pub repeated: u64,
}

impl Publishing {
    /// How many events are not published yet, given the journal's last ones; 0 if that is somebody else's task.
    pub fn lag_events(&self, heads: impl IntoIterator<Item = Option<u64>>) -> u64 {
        let count = |seq: Option<u64>| seq.map_or(0, |seq| seq + 1);
        self.seqs.iter().zip(heads).map(|(seq, head)| count(head).saturating_sub(count(*seq))).sum()
    }

    /// What a person may want to know of it; nothing that keeps the engine from its work.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let troubled = match &self.state {
            State::Troubled(reason) => Some(format!("the publisher is in trouble, and tries again: {reason}")),
            State::Standby | State::Publishing => None,
        };
        let halted = self.halted.iter().map(|(partition, reason)| format!("partition {partition} is not published on: {reason}"));
        troubled.into_iter().chain(halted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_what_is_left_to_publish() {
        let publishing = Publishing { seqs: vec![Some(4), None, Some(9)], ..Publishing::default() };
        assert_eq!(publishing.lag_events([Some(6), Some(0), Some(9)]), 3);
        assert_eq!(publishing.lag_events([Some(3), None, None]), 0, "a fold that is behind the publisher is no lag");
        assert_eq!(Publishing::default().lag_events([Some(6)]), 0, "whoever does not publish does not lag");
    }
}
