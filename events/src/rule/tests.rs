//! Rule R under everything that a log may do to it: by property, and exhaustively in a small scope.

use proptest::prelude::*;

use super::*;

/// A record as R sees it.
type Seen = (u64, Hash, Hash);

/// Record `n` of a chain; `salt` makes another chain. The true one has salt 0.
fn link(seq: u64, prevhash: Hash, salt: u8) -> Seen {
    let mut bytes = prevhash.0.to_vec();
    bytes.extend(seq.to_be_bytes());
    bytes.push(salt);
    (seq, prevhash, Hash::of(&bytes))
}

/// The true chain.
fn chain(length: u64) -> Vec<Seen> {
    let next = |last: &mut Hash, seq| {
        let link = link(seq, *last, 0);
        *last = link.2;
        Some(link)
    };
    (0..length).scan(Hash::default(), next).collect()
}

/// Reads a log: the accepted hashes, and why it stopped, if it did.
fn read(mut rule: Rule, log: &[Seen]) -> (Vec<Hash>, Option<Halt>) {
    let mut accepted = Vec::new();
    for (seq, prevhash, hash) in log {
        let before = rule.clone();
        match rule.judge(*seq, *prevhash, *hash) {
            Ok(Judged::Accepted) => accepted.push(*hash),
            Ok(Judged::Duplicate | Judged::Orphan) => assert_eq!(rule, before, "what is dropped changes nothing"),
            Err(halt) => {
                assert_eq!(rule, before, "a halted rule stays where it was");
                return (accepted, Some(halt));
            }
        }
    }
    (accepted, None)
}

/// What happened to a transaction of the arbiter, in log order.
#[derive(Clone, Debug)]
enum Deed {
    /// The next records were committed.
    Commit(usize),
    /// The next records were decided and their transaction was dropped; one that was already
    /// chained onto them came through all the same.
    Orphan(usize, usize),
    /// Records from this place on were written again.
    Repeat(usize, usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => (1..6_usize).prop_map(Deed::Commit),
        1 => (1..4_usize, 1..4_usize).prop_map(|(lost, kept)| Deed::Orphan(lost, kept)),
        2 => (0..100_usize, 1..8_usize).prop_map(|(from, count)| Deed::Repeat(from, count)),
    ];
    prop::collection::vec(deed, 0..60)
}

/// Plays the deeds: the log, and the oracle's stream, which is what was committed in its order.
fn play(deeds: &[Deed]) -> (Vec<Seen>, Vec<Seen>) {
    let (mut log, mut truth) = (Vec::new(), Vec::<Seen>::new());
    for (n, deed) in deeds.iter().enumerate() {
        let (seq, last) = truth.last().map_or((0, Hash::default()), |l| (l.0 + 1, l.2));
        let salt = u8::try_from(n).unwrap() + 1;
        let mut next = (seq..).scan(last, |last, seq| {
            let link = link(seq, *last, salt);
            *last = link.2;
            Some(link)
        });
        match deed {
            Deed::Commit(count) => {
                let records: Vec<_> = next.take(*count).collect();
                log.extend(&records);
                truth.extend(records);
            }
            Deed::Orphan(lost, kept) => {
                next.by_ref().take(*lost).for_each(drop);
                log.extend(next.take(*kept));
            }
            Deed::Repeat(from, count) => log.extend(truth.iter().skip(from % truth.len().max(1)).take(*count)),
        }
    }
    (log, truth)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn repeats_and_orphans_change_nothing_and_the_reader_gets_the_oracles_stream(deeds in deeds()) {
        let (log, truth) = play(&deeds);
        let hashes: Vec<_> = truth.iter().map(|l| l.2).collect();
        prop_assert_eq!(read(Rule::default(), &log), (hashes, None));
    }

    #[test]
    fn a_reader_that_continues_behind_any_place_gets_the_rest(deeds in deeds(), at in any::<prop::sample::Index>()) {
        let (log, truth) = play(&deeds);
        prop_assume!(!truth.is_empty());
        let at = at.index(truth.len());
        let rest: Vec<_> = truth[at + 1..].iter().map(|l| l.2).collect();
        let behind = log.iter().position(|l| l.2 == truth[at].2).unwrap() + 1;
        prop_assert_eq!(read(Rule::after(truth[at].0, truth[at].2), &log[behind..]), (rest.clone(), None));
        // from further back it may meet an orphan that claims the next place: it halts then, but accepts nothing wrong
        let (accepted, _) = read(Rule::after(truth[at].0, truth[at].2), &log);
        prop_assert!(rest.starts_with(&accepted));
    }

    #[test]
    fn a_log_in_any_order_with_any_loss_yields_a_prefix_of_the_truth_or_halts(
        deeds in deeds(), order in any::<u64>(), keep in prop::collection::vec(prop::bool::weighted(0.9), 1..40),
    ) {
        let (log, truth) = play(&deeds);
        let mut log: Vec<_> = log.into_iter().zip(keep.iter().cycle()).filter_map(|(l, keep)| keep.then_some(l)).collect();
        // only neighbours change places: so that the chain still gets somewhere
        for i in 1..log.len() {
            if order.rotate_left(u32::try_from(i % 64).unwrap()) & 1 == 1 {
                log.swap(i - 1, i);
            }
        }
        let hashes: Vec<_> = truth.iter().map(|l| l.2).collect();
        let (accepted, halt) = read(Rule::default(), &log);
        // an orphan may become the next record only by following the last one, and none does
        prop_assert!(hashes.starts_with(&accepted), "{halt:?}");
    }
}

/// Every log of up to six records over the true chain of three, an orphan and its follower, a
/// stranger who claims place 1 and one who follows the true place 0 with another record.
#[test]
fn every_small_log_yields_a_prefix_of_one_chain_or_halts() {
    let truth = chain(3);
    let orphan = link(2, link(1, truth[0].2, 7).2, 7);
    let follower = link(3, orphan.2, 7);
    let stranger = link(1, Hash::of(b"elsewhere"), 9);
    let rival = link(1, truth[0].2, 9);
    let alphabet = [truth[0], truth[1], truth[2], orphan, follower, stranger, rival];
    let mut logs = 0;
    let mut halts = [0; 2];
    for length in 0..=6_u32 {
        for mut code in 0..alphabet.len().pow(length) {
            let log: Vec<_> = (0..length)
                .map(|_| {
                    let record = alphabet[code % alphabet.len()];
                    code /= alphabet.len();
                    record
                })
                .collect();
            let (accepted, halt) = read(Rule::default(), &log);
            let model = oracle(&log);
            assert_eq!((accepted.clone(), halt.is_some()), model, "{log:?}");
            let true_hashes: Vec<_> = truth.iter().map(|l| l.2).collect();
            assert!(true_hashes.starts_with(&accepted) || [truth[0].2, rival.2].starts_with(&accepted), "{log:?}");
            logs += 1;
            match halt {
                Some(Halt::Diverged { .. }) => halts[0] += 1,
                Some(Halt::Broken { .. }) => halts[1] += 1,
                None => {}
            }
        }
    }
    assert_eq!(logs, 137_257);
    assert!(halts.iter().all(|n| *n > 1000), "{halts:?}: both ways to halt were met");
}

/// The rule in other words: a list of what was accepted, looked up by place.
fn oracle(log: &[Seen]) -> (Vec<Hash>, bool) {
    let mut accepted: Vec<Hash> = Vec::new();
    for (seq, prevhash, hash) in log {
        let place = usize::try_from(*seq).unwrap();
        let halts = match accepted.get(place) {
            Some(kept) => kept != hash,
            None if place > accepted.len() => false,
            None => *prevhash != accepted.last().copied().unwrap_or_default(),
        };
        if halts {
            return (accepted, true);
        }
        if place == accepted.len() {
            accepted.push(*hash);
        }
    }
    (accepted, false)
}

#[test]
fn a_repeat_from_before_the_memory_is_dropped_and_one_within_is_compared() {
    let truth = chain(REMEMBERED_MAX as u64 + 10);
    let mut rule = Rule::default();
    for (seq, prevhash, hash) in &truth {
        assert_eq!(rule.judge(*seq, *prevhash, *hash), Ok(Judged::Accepted));
    }
    let other = Hash::of(b"another record");
    assert_eq!(rule.judge(9, truth[9].1, other), Ok(Judged::Duplicate), "forgotten");
    let diverged = Halt::Diverged { seq: 10, kept: truth[10].2, found: other };
    assert_eq!(rule.judge(10, truth[10].1, other), Err(diverged), "the oldest that is remembered");
}
