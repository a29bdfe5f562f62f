//! What the engine knows of the cluster under its journal, explained: away, nobody judges, lag, open transactions, clocks.

use serde::Deserialize;
use serde_json::Value;

use super::Finding;

/// Seconds without an answer after which the cluster counts as away: some rounds of asking.
const SILENT_S: f64 = 20.0;
/// Seconds that proposals may wait while none is judged: longer than a takeover.
const STALLED_S: f64 = 30.0;
/// Seconds that the last stable offset may stand still: longer than the engine's own transactions live.
const STUCK_S: f64 = 15.0;
/// Proposals that may wait without being worth a word.
const WAITING: u64 = 1_000;
/// By how much clocks may differ; what the journal's clock is behind includes a message's way.
const CLOCK_AHEAD_MS: i64 = 1_000;
const CLOCK_BEHIND_MS: i64 = -10_000;

/// `GET /v1/partitions`, as far as it is about the cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Around {
    cluster: Option<Cluster>,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    prefix: String,
    silent_s: f64,
    trouble: Option<String>,
    arbiters: Option<u64>,
    clock_ahead_ms: Option<i64>,
    registry: Option<SchemaRegistry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SchemaRegistry {
    state: String,
    detail: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Partition {
    partition: u32,
    state: String,
    waiting: u64,
    stalled_s: f64,
    unstable: Vec<Unstable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Unstable {
    log: String,
    lag: u64,
    stuck_s: f64,
}

/// What there is to say; nothing of an embedded engine.
pub fn findings(body: &Value) -> Vec<Finding> {
    let around = Around::deserialize(body).unwrap_or_default();
    let Some(cluster) = &around.cluster else { return Vec::new() };
    let mut findings = Vec::new();
    let away = cluster.silent_s > SILENT_S;
    findings.push(if away {
        let why = cluster.trouble.as_deref().unwrap_or("it does not say why");
        Finding::act(
            format!("the Kafka cluster has not answered for {:.0} s: {why}", cluster.silent_s),
            "look at the brokers, the network and the credentials (--kafka, --kafka-properties); nothing is lost, and the engine goes on by \
             itself: do not restart it for this",
        )
    } else {
        Finding::well(format!("the Kafka cluster answers (last {:.0} s ago)", cluster.silent_s))
    });
    findings.extend(cluster.registry.as_ref().map(registry));
    if away {
        return findings; // the rest is from before
    }
    let stands_still = cluster.arbiters == Some(0);
    if stands_still {
        findings.push(Finding::act(
            format!("no instance judges: the group {}.arbiter has no member", cluster.prefix),
            "start `annals serve` with the arbiter role (--roles has it unless you name others); proposals wait in the topic until then",
        ));
    }
    for partition in &around.partitions {
        findings.extend(partition.unstable.iter().filter(|log| log.stuck_s > STUCK_S).map(|log| hanging(cluster, partition, log)));
        if !stands_still {
            findings.extend(lag(cluster, partition));
        }
    }
    findings.extend(cluster.clock_ahead_ms.and_then(clock));
    findings
}

fn registry(registry: &SchemaRegistry) -> Finding {
    let what = format!("schema registry: {}", registry.detail);
    match registry.state.as_str() {
        "registered" => Finding::well(what),
        "registering" => Finding::wait(what, "wait: the schemas are being registered; events are taken all the same"),
        "away" => Finding::act(
            what,
            "start the schema registry, or see that --schema-registry is right; events are taken and checked with the compiled-in \
             schemas meanwhile, so nobody need be woken for it",
        ),
        _ => Finding::act(
            what,
            "somebody has registered other schemas or another compatibility under these names: compare with `annals schemas`; events are \
             taken all the same",
        ),
    }
}

/// A transaction that nobody ends: what is behind it waits.
fn hanging(cluster: &Cluster, partition: &Partition, log: &Unstable) -> Finding {
    let (number, name) = (partition.partition, format!("{}.{}", cluster.prefix, log.log));
    let whose = if log.log == "proposals" {
        "it is a pipeline's: proposals behind it are not judged before it ends"
    } else {
        "it is an arbiter's: a broker ends it after 10 s, so look whether the brokers are well"
    };
    Finding::act(
        format!(
            "partition {number} of {name}: a transaction has been open for {:.0} s, and {} messages wait behind it",
            log.stuck_s, log.lag
        ),
        &format!(
            "{whose}; `kafka-transactions --bootstrap-server BROKERS describe-producers --topic {name} --partition {number}` shows whose \
             it is and where it starts (`find-hanging` finds those that no broker will end); end that producer, or `kafka-transactions \
             --bootstrap-server BROKERS abort --topic {name} --partition {number} --start-offset OFFSET`"
        ),
    )
}

fn lag(cluster: &Cluster, partition: &Partition) -> Option<Finding> {
    let Partition { partition: number, state, waiting, stalled_s, .. } = partition;
    if *waiting == 0 || state == "halted" {
        return None; // a halted one is explained where its reason is
    }
    if *stalled_s <= STALLED_S {
        let what = format!("partition {number}: {waiting} proposals wait, and are being judged");
        return (*waiting > WAITING).then(|| Finding::wait(what, "wait; if it grows, more comes than one arbiter judges: send batches"));
    }
    let what = format!("partition {number}: {waiting} proposals wait, and none was judged for {stalled_s:.0} s");
    Some(if state == "owner" {
        Finding::act(
            what,
            "this instance is to judge it and does not: keep its log and its stack, and restart it; another takes over at once",
        )
    } else {
        let members =
            format!("`kafka-consumer-groups --bootstrap-server BROKERS --describe --group {}.arbiter --members --verbose`", cluster.prefix);
        Finding::act(
            what,
            &format!(
                "it is not this instance's: {members} says whose; run `annals doctor --url` there, and restart it if it does not answer; if \
                 it is nobody's, start an instance with the arbiter role"
            ),
        )
    })
}

fn clock(ahead_ms: i64) -> Option<Finding> {
    if (CLOCK_BEHIND_MS..=CLOCK_AHEAD_MS).contains(&ahead_ms) {
        return None;
    }
    let seconds = std::time::Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f64();
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Some(Finding::act(
        format!("the brokers' clock is {seconds:.1} s {which} this engine's"),
        "mend the clocks (NTP) of brokers and engines; events are in order all the same, since the brokers' clock alone decides, but `as of` \
         a time answers with that error, and `settled` comes late",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::Level;

    fn of(cluster: Value, partition: Value) -> Vec<Finding> {
        findings(&json!({"journal": "j", "cluster": cluster, "partitions": [partition]}))
    }

    fn well() -> Value {
        json!({"prefix": "annals", "silent_s": 2.0, "arbiters": 2, "clock_ahead_ms": -3})
    }

    fn with(mut what: Value, more: Value) -> Value {
        for (key, value) in more.as_object().unwrap() {
            what[key] = value.clone();
        }
        what
    }

    fn idle() -> Value {
        json!({"partition": 4, "state": "standby", "waiting": 0, "stalled_s": 0.0, "unstable": []})
    }

    /// Asserts that one thing is found beside what is well: its words, and those of its remedy.
    #[track_caller]
    fn finds(found: &[Finding], level: Level, what: &[&str], todo: &[&str]) {
        let ill: Vec<_> = found.iter().filter(|finding| finding.level != Level::Well).collect();
        let [one] = ill[..] else { panic!("{found:#?}") };
        let remedy = one.todo.as_deref().unwrap();
        assert_eq!(one.level, level, "{one:?}");
        assert!(what.iter().all(|words| one.what.contains(words)), "{one:?}");
        assert!(todo.iter().all(|words| remedy.contains(words)), "{one:?}");
    }

    #[test]
    fn an_embedded_engine_has_no_cluster_and_a_good_one_is_well() {
        assert!(findings(&json!({"journal": "j", "partitions": [{"partition": 0, "state": "owner"}]})).is_empty());
        let found = of(well(), idle());
        assert!(found.len() == 1 && found[0].level == Level::Well, "{found:?}");
    }

    #[test]
    fn a_cluster_that_is_away_is_the_only_thing_said() {
        let cluster = with(well(), json!({"silent_s": 65.0, "trouble": "all brokers are down", "arbiters": 0}));
        let partition = with(idle(), json!({"waiting": 9, "stalled_s": 70.0}));
        finds(&of(cluster, partition), Level::Act, &["65 s", "all brokers are down"], &["brokers", "do not restart"]);
    }

    #[test]
    fn a_group_without_members_needs_an_arbiter() {
        let partition = with(idle(), json!({"waiting": 9, "stalled_s": 70.0}));
        let found = of(with(well(), json!({"arbiters": 0})), partition);
        finds(&found, Level::Act, &["no instance judges", "annals.arbiter"], &["arbiter role", "--roles"]);
    }

    #[test]
    fn lag_is_told_by_whether_it_moves_and_whose_it_is() {
        let of = |state: &str, waiting: u64, stalled_s: f64| {
            of(well(), with(idle(), json!({"state": state, "waiting": waiting, "stalled_s": stalled_s})))
        };
        assert_eq!(of("owner", 40, 3.0).len(), 1, "some always wait");
        finds(&of("owner", 4_000, 3.0), Level::Wait, &["partition 4", "4000 proposals"], &["batches"]);
        finds(&of("owner", 4, 45.0), Level::Act, &["45 s"], &["restart it"]);
        finds(&of("standby", 4, 45.0), Level::Act, &["45 s"], &["--group annals.arbiter --members", "annals doctor --url"]);
        assert_eq!(of("halted", 4, 45.0).len(), 1, "the reason of the halt is said elsewhere");
    }

    #[test]
    fn a_transaction_that_hangs_is_told_with_its_place_and_its_remedy() {
        let log = |log: &str, stuck_s: f64| with(idle(), json!({"unstable": [{"log": log, "lag": 12, "stuck_s": stuck_s}]}));
        assert_eq!(of(well(), log("proposals", 2.0)).len(), 1, "open ones are nothing special");
        let found = of(well(), log("proposals", 75.0));
        let remedy = ["a pipeline's", "find-hanging", "abort --topic annals.proposals --partition 4 --start-offset"];
        finds(&found, Level::Act, &["partition 4 of annals.proposals", "75 s", "12 messages"], &remedy);
        finds(&of(well(), log("journal", 75.0)), Level::Act, &["annals.journal"], &["an arbiter's", "brokers"]);
    }

    #[test]
    fn clocks_that_differ_are_told_both_ways() {
        let of = |ms: i64| of(with(well(), json!({"clock_ahead_ms": ms})), idle());
        assert_eq!(of(-2_000).len(), 1, "a message may have been under way so long");
        finds(&of(2_500), Level::Act, &["2.5 s ahead of"], &["NTP"]);
        finds(&of(-60_000), Level::Act, &["60.0 s behind"], &["NTP"]);
    }

    #[test]
    fn every_state_of_the_schema_registry_is_explained() {
        let of = |state: &str| of(with(well(), json!({"registry": {"state": state, "detail": "in words"}})), idle());
        assert_eq!(of("registered").len(), 2);
        finds(&of("registering"), Level::Wait, &["in words"], &["wait"]);
        finds(&of("away"), Level::Act, &["in words"], &["compiled-in"]);
        finds(&of("refused"), Level::Act, &["in words"], &["annals schemas"]);
    }
}
