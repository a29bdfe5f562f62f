//! How often which call fails.

use super::dice::Dice;

/// Chances in a thousand calls.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A read or a claim finds nobody.
    pub unavailable: u32,
    /// A read returns less than there is.
    pub short: u32,
    /// A read moves over markers and what was aborted.
    pub ahead: u32,
    /// An append fails, after some or none of it was written.
    pub append: u32,
    /// A commit that was lost and sent again arrives late, and ends a transaction that is half written.
    pub half: u32,
    /// A commit fails, and everybody knows.
    pub failed: u32,
    /// Nobody knows what became of a commit.
    pub unknown: u32,
    /// A transaction's items are written twice.
    pub repeat: u32,
    /// A proposal is not stored, or nobody knows whether it was.
    pub propose: u32,
    /// The clock goes back.
    pub clock: u32,
    /// Proposals' offsets leave a gap, as aborted transactions of producers do.
    pub gaps: u32,
}

impl Faults {
    /// Some of them, so that seeds differ in kind and not only in number.
    pub fn some(dice: &mut Dice) -> Self {
        let mut rate = |most: usize| if dice.chance(450) { u32::try_from(1 + dice.below(most)).unwrap_or(1) } else { 0 };
        Self {
            unavailable: rate(80),
            short: rate(600),
            ahead: rate(1000),
            append: rate(120),
            failed: rate(150),
            unknown: rate(300),
            repeat: rate(250),
            propose: rate(200),
            clock: rate(200),
            gaps: rate(700),
            half: rate(100),
        }
    }
}
