//! What an arbiter says of itself: its state, how a step ended, its counts; and how tests break it.

/// What an arbiter is doing, as `doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Folding, without owning the partition.
    Standby,
    /// Has claimed the partition and folds what is left.
    Folding,
    /// Owns the partition and judges.
    Owner,
    /// Could not go on for now, and tries again.
    Troubled(String),
    /// Stopped for good: a person must look.
    Halted(String),
}

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done: step again.
    Worked,
    /// Nothing to do until the journal has something new.
    Idle,
    /// Something failed: step again after a pause.
    Troubled,
    /// It will not go on.
    Halted,
}

/// Counts since the start, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that rule R dropped as copies.
    pub duplicates: u64,
    /// Records that rule R dropped as orphans.
    pub orphans: u64,
    /// Times that the partition was claimed.
    pub claims: u64,
    /// Times that the claim was lost or given up.
    pub claims_lost: u64,
    /// Times that it was lost because another arbiter had claimed the partition.
    pub fenced: u64,
    /// Transactions committed.
    pub commits: u64,
}

/// What is broken on purpose, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mutant {
    /// Nothing: the real thing.
    #[default]
    None,
    /// Every record in the log counts as an event.
    RuleOff,
    /// Answers when the batch is appended, not when it is read back.
    AnswersEarly,
    /// Resumes behind the last proposal that it took, not behind the journal's last `src`.
    StoredOffset,
    /// Lets the arbiter's own clock into a decision.
    Clock,
    /// Goes on with the same claim when it does not know what became of a commit.
    KeepsClaim,
    /// Does not tell what it owes.
    StaysSilent,
    /// Takes a proposal that has not come by yet for none.
    TrustsTail,
}
