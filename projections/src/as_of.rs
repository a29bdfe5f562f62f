//! At which point of the journal a question is meant: now, or a vector of positions.

use std::fmt;

use annals_events::time::Timestamp;

use crate::error::Error;

/// Highest partition number that a position list may name.
const PARTITION_MAX: usize = 4096;

/// The point at which a question is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// As far as the view has come.
    #[default]
    Now,
    /// For each partition the last event that counts; `None`, or behind the end: no event counts.
    At(Vec<Option<u64>>),
}

/// What somebody wrote as `as_of`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A time, which the timeline resolves: see [`crate::Views::as_of`].
    Time(Timestamp),
    /// Positions.
    Positions(AsOf),
}

impl Moment {
    /// Reads an RFC 3339 time, or positions such as `0:12,3:5` (partition, then sequence number;
    /// a partition that is not listed had no events).
    ///
    /// # Errors
    /// [`Error::AsOf`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let positions: Option<Vec<(usize, u64)>> = text.split(',').map(pair).collect();
        let Some(positions) = positions else {
            return Timestamp::parse(text)
                .map(Self::Time)
                .map_err(|e| Error::AsOf(format!("{e}, nor a list of positions such as 0:12,3:5")));
        };
        let mut at = Vec::new();
        for (partition, seq) in positions {
            if at.len() <= partition {
                at.resize(partition + 1, None);
            }
            if at[partition].replace(seq).is_some() {
                return Err(Error::AsOf(format!("`{text}` names partition {partition} twice")));
            }
        }
        Ok(Self::Positions(AsOf::At(at)))
    }
}

fn pair(text: &str) -> Option<(usize, u64)> {
    let (partition, seq) = text.trim().split_once(':')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let partition = partition.parse().ok().filter(|p| *p <= PARTITION_MAX && digits(partition))?;
    seq.parse::<i64>().ok().filter(|_| digits(seq)).and_then(|n| n.try_into().ok()).map(|seq: u64| (partition, seq))
}

impl AsOf {
    /// The last event of a partition that counts; `None` if none does.
    #[must_use]
    pub fn last(&self, partition: u32) -> Option<u64> {
        match self {
            Self::Now => Some(u64::MAX),
            Self::At(at) => usize::try_from(partition).ok().and_then(|p| at.get(p).copied().flatten()),
        }
    }

    /// SQL for the last sequence number that counts in the partition of a row of `table`.
    pub(crate) fn bound(&self, table: &str) -> String {
        match self {
            Self::Now => i64::MAX.to_string(),
            Self::At(at) => {
                let arms = (0..).zip(at).filter_map(|(partition, seq): (u32, _)| seq.map(|seq| format!(" WHEN {partition} THEN {seq}")));
                let arms = arms.collect::<String>();
                if arms.is_empty() { "-1".into() } else { format!("CASE {table}.partition{arms} ELSE -1 END") }
            }
        }
    }

    /// SQL that is true for the rows of a history that are valid at this point.
    pub(crate) fn holds(&self, table: &str) -> String {
        match self {
            Self::Now => format!("{table}.until IS NULL"),
            Self::At(_) => {
                let bound = self.bound(table);
                format!("{table}.since <= {bound} AND ({table}.until IS NULL OR {table}.until > {bound})")
            }
        }
    }

    /// SQL that is true for the rows, one an event, that were there at this point.
    pub(crate) fn seen(&self, table: &str) -> String {
        match self {
            Self::Now => "1 = 1".into(),
            Self::At(_) => format!("{table}.seq <= {}", self.bound(table)),
        }
    }
}

impl fmt::Display for AsOf {
    /// The positions as [`Moment::parse`] reads them; `now` for now.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::At(at) = self else { return f.write_str("now") };
        let list = at.iter().enumerate().filter_map(|(p, seq)| seq.map(|seq| format!("{p}:{seq}")));
        f.write_str(&list.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_times_are_told_apart_and_round_trip() {
        let Ok(Moment::Positions(at)) = Moment::parse("3:5,0:12") else { panic!("these are positions") };
        assert_eq!(at, AsOf::At(vec![Some(12), None, None, Some(5)]));
        assert_eq!(at.to_string(), "0:12,3:5");
        assert_eq!(Moment::parse("1970-01-01T00:00:01Z").unwrap(), Moment::Time(Timestamp(1000)));
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wanted() {
        for text in ["", "yesterday", "0:", ":1", "0:1,0:2", "0:+1", "99999999999:1", "0:1;DROP", "0:99999999999999999999"] {
            let error = Moment::parse(text).unwrap_err().to_string();
            assert!(error.contains("0:12,3:5") || error.contains("twice"), "{text}: {error}");
        }
    }
}
