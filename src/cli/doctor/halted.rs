//! What to do about a partition that has halted: the reason says what was found, and mostly the command.

/// What the command needs beside what the reason says.
const PLACE: &str = "say with --kafka and --kafka-prefix, or --data, which journal, with --actor who you are and with --reason why";

/// What a person should do.
pub fn todo(reason: &str) -> String {
    match command(reason) {
        Some(command) if command.contains("--skip-to") => format!(
            "proposals are gone that nobody has judged: find out why, and ask who proposed then to send again with the same ids; then \
             `{command}` records that they were given up, and the partition goes on; {PLACE}"
        ),
        Some(command) => format!(
            "keep a copy of the journal and find out who wrote that record, since only the arbiter may; if it shall stand, `{command}` \
             records your decision for ever and the partition goes on ({PLACE}); if not, stop the engine and restore a backup"
        ),
        None if reason.contains("an import into the journal did not come to its end") => {
            "the import was cut off: make new topics with `annals topics create --for-import` (embedded: a new directory), and run \
             `annals import` again; nothing was served from the half"
                .into()
        }
        None if lost(reason) => "records are gone: stop every instance, keep what is left as evidence, and restore the journal from a \
             backup or a mirror; do not start anew beside it, and rebuild no view before that"
            .into(),
        None => "run `annals audit verify` (embedded: with --data DIR); if the journal is damaged, stop the engine and restore a backup; \
             if somebody else wrote to it, keep a copy as evidence"
            .into(),
    }
}

/// The command that the reason names.
fn command(reason: &str) -> Option<&str> {
    let from = reason.find("`annals partition resume ")? + 1;
    reason[from..].split('`').next()
}

fn lost(reason: &str) -> bool {
    ["journal ends at offset", "journal is empty", "has no record now", "was emptied", "made anew"]
        .iter()
        .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason as the engine words it, and what its remedy must and must not say.
    #[test]
    fn every_reason_has_its_remedy() {
        let intruder = "the record at seq 7 was not decided by the rules: somebody else wrote to the journal; keep a copy of the journal, \
                        then restore a backup, or accept the record with `annals partition resume 3 --accept 7:ab12`";
        let gap = "the proposals 4 to 9 of partition 3 were deleted before this partition's journal had an answer to them; if that is \
                   known and accepted, a person says so with `annals partition resume 3 --skip-to 10`";
        let anew = "the journal has answered proposal 9 of partition 3, and annals.proposals ends at 2: it was emptied or made anew; if \
                    that is known and accepted, a person says so with `annals partition resume 3 --skip-to 2`";
        for (reason, says, never) in [
            (intruder, "`annals partition resume 3 --accept 7:ab12`", "same ids"),
            (gap, "`annals partition resume 3 --skip-to 10`", "--accept"),
            (anew, "`annals partition resume 3 --skip-to 2`", "--accept"),
            ("the journal ends at offset 3 although it had records up to 9", "backup or a mirror", "annals partition resume"),
            ("a snapshot was taken at seq 10, where the journal has no record now: it was cut or changed", "rebuild no view", "resume"),
            ("a topic was deleted, emptied or made anew under the running engine (x)", "stop every instance", "resume"),
            (
                "an import into the journal did not come to its end, which is at seq 42: empty the journal and import again, whole",
                "annals topics create --for-import",
                "resume",
            ),
            ("the journal is damaged: the record does not have the hash that was stored with it", "annals audit verify", "resume"),
        ] {
            let todo = todo(reason);
            assert!(todo.contains(says) && !todo.contains(never), "{reason}\n{todo}");
        }
    }
}
