//! A person decides about a partition that stands still, and a journal moves into another directory.

use std::path::Path;
use std::process::Output;

use annals_events::ledger::Ledger;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, bootstrap};
use crate::stage::{Engine, caught_up, data_of, directory, event, eventually, exported, fresh, place, program, register};

fn annals(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in: {text}");
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Writes a well-formed next record that nobody proposed, as an intruder would who knows the format.
fn forge(data: &Path, partition: u64) -> (u64, String) {
    let db = rusqlite::Connection::open(data.join("journal.db")).unwrap();
    let mut ledger = Ledger::new(u32::try_from(partition).unwrap());
    let mut frames = db.prepare(&format!("SELECT frame FROM records_{partition} ORDER BY seq")).unwrap();
    for frame in frames.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap() {
        ledger.apply(&Record::from_frame(frame.unwrap().into())).unwrap();
    }
    let header = |name: &str, value: &str| (format!("ce_{name}"), value.as_bytes().to_vec());
    let kind = "dev.annals.version.registered.v1";
    let submission = Submission {
        key: Some(b"default/iris".to_vec()),
        headers: vec![
            header("specversion", "1.0"),
            header("id", "forged"),
            header("source", "/nobody"),
            header("type", kind),
            header("subject", "default/iris"),
        ],
        value: br#"{"artifact":{"uri":"file:///theirs.pkl"}}"#.to_vec(),
    };
    let at = Timestamp(ledger.recorded().0 + 1);
    let (verdict, record) = ledger.overlay().judge(1_000_000, at, &submission);
    let record = record.unwrap_or_else(|| panic!("{verdict:?}"));
    let view = record.view().unwrap();
    let sql = format!("INSERT INTO records_{partition} VALUES (?1, ?2, ?3, ?4, ?5)");
    let row = rusqlite::params![i64::try_from(view.seq).unwrap(), view.key, view.recorded.0, record.frame(), record.hash().0];
    db.execute(&sql, row).unwrap();
    (view.seq, record.hash().to_string())
}

fn unready(data: &Path) -> Engine {
    let mut command = program();
    command.args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    Engine::spawn_unready(command)
}

#[test]
fn a_forged_record_halts_its_partition_until_a_person_accepts_it() {
    let (dir, engine) = fresh();
    let data = data_of(&dir);
    let (partition, _) = place(&register(&engine, "iris", 1));
    let (seq, hash) = forge(&data, partition);
    let accept = format!("--accept {seq}:{hash}");
    eventually("the partition halts, and says what can be done", || engine.get("/v1/partitions").text.contains(&accept));
    let in_journal = |engine: &Engine| {
        let halted = exported(engine).into_iter().rfind(|l| l["headers"]["ce_type"] == "dev.annals.partition.halted.v1");
        halted.map(|l| serde_json::from_str::<Value>(l["value"].as_str().unwrap()).unwrap()["decided"].clone())
    };
    eventually("the journal says so", || in_journal(&engine).is_some());
    let halted = in_journal(&engine).unwrap();
    assert_eq!((&halted["seq"], &halted["hash"], &halted["resume"]), (&json!(seq), &json!(hash), &json!(1)));
    assert_eq!(engine.stop(), Some(0));

    // a restart does not forget it
    let engine = unready(&data);
    eventually("it is halted again", || engine.get("/v1/partitions").text.contains(&accept));
    let sent = event("version.registered", "default/iris", json!({"artifact": {"uri": "file:///ours.pkl"}}));
    assert_eq!(engine.publish(&sent).status, 503);
    let (p, dir_of) = (partition.to_string(), data.to_str().unwrap());
    let resume = |what: &[&str]| {
        let fixed = ["partition", "resume", &p, "--data", dir_of, "--actor", "ada", "--reason", "it is from the old pipeline"];
        annals(&[&fixed, what].concat())
    };
    let record = format!("{seq}:{hash}");
    fails(&resume(&["--accept", &record]), 1, &["another engine"]);
    assert_eq!(engine.stop(), Some(0));

    let heads = || done(&annals(&["audit", "verify", "--data", dir_of]));
    let before = heads();
    fails(&resume(&["--accept", &format!("{seq}:{}", "0".repeat(64))]), 1, &["halted at another record", &record, "nothing was written"]);
    fails(&resume(&["--accept", &format!("{}:{hash}", seq + 1)]), 1, &["halted at another record", "nothing was written"]);
    fails(&resume(&["--skip-to", "7"]), 1, &["has no gap", "nothing was written"]);
    fails(&resume(&["--accept", "7:abc"]), 2, &["SEQ:HASH"]);
    fails(&annals(&["partition", "resume", "99", "--data", dir_of, "--accept", &record]), 1, &["no partition 99"]);
    let nowhere = dir.path().join("nowhere");
    fails(&annals(&["partition", "resume", "0", "--data", nowhere.to_str().unwrap(), "--accept", &record]), 1, &["holds no journal"]);
    assert!(!nowhere.exists());
    assert_eq!(heads(), before);

    let said = done(&resume(&["--accept", &record]));
    assert!(said.contains(&format!("accepted seq {seq} version.registered of default/iris")), "{said}");
    assert!(said.contains(&format!("recorded at {partition}:{}", seq + 2)), "{said}");
    fails(&resume(&["--accept", &record]), 1, &["is not halted"]);

    let engine = Engine::start(&data);
    let registered = engine.publish(&sent).ok(201);
    assert_eq!((place(&registered), &registered["version"]), ((partition, seq + 3), &json!(3)), "the forged version is history now");
    caught_up(&engine);
    let timeline = engine.get("/v1/timeline?limit=1000").text;
    assert!(timeline.contains("it is from the old pipeline") && timeline.contains("unverified:ada"), "{timeline}");
    assert!(heads().starts_with("whole"));
}

#[test]
fn a_journal_is_imported_into_another_directory_with_all_its_hashes() {
    let (dir, engine) = fresh();
    for (model, n) in [("iris", 1), ("wine", 2), ("moons", 3)] {
        register(&engine, model, n);
        engine.accept("version.promoted", &format!("default/{model}/1"), json!({"channel": "production"}));
    }
    let once = event("version.registered", "default/iris", json!({"artifact": {"digest": crate::stage::digest(9)}}));
    let first = engine.publish(&once).ok(201);
    engine.publish(&event("version.promoted", "default/iris/77", json!({"channel": "dev"}))).problem(404, "unknown-version");
    let views = |engine: &Engine| {
        caught_up(engine);
        let paths = ["", "/versions", "/channels", "/timeline?limit=1000", "/versions/1/lineage"];
        let read = |model: &str, path: &str| {
            let mut answer = engine.get(&format!("/v1/models/{model}{path}")).ok(200);
            answer.as_object_mut().unwrap().remove("position"); // how far the whole view is
            answer
        };
        let of = |model: &str| paths.map(|path| read(model, path));
        ["iris", "wine", "moons"].map(of)
    };
    let before = (views(&engine), exported(&engine));
    let file = dir.path().join("journal.ndjson");
    let file = file.to_str().unwrap();
    assert!(engine.annals(&["export", file]).status.success());
    drop(engine);

    let target = directory();
    let (taken, data) = (data_of(&dir), target.path().join("imported"));
    let data_text = data.to_str().unwrap();
    fails(&annals(&["import", file, "--data", taken.to_str().unwrap()]), 1, &["holds a journal", "nothing was written"]);
    let text = std::fs::read_to_string(file).unwrap();
    let tampered = dir.path().join("tampered.ndjson");
    std::fs::write(&tampered, text.replacen("production", "prod0ction", 1)).unwrap();
    fails(&annals(&["import", tampered.to_str().unwrap(), "--data", data_text]), 1, &["NOT WHOLE", "nothing was written"]);
    assert!(!data.exists());
    let said = done(&annals(&["import", file, "--data", data_text]));
    let verified = done(&annals(&["audit", "verify", "--data", data_text]));
    let heads = |text: &str| text.lines().filter(|l| l.starts_with("head ")).map(str::to_owned).collect::<Vec<_>>();
    assert!(verified.starts_with("whole") && heads(&said).len() == 12 && heads(&said) == heads(&verified), "{said}\n{verified}");

    let engine = Engine::start(&data);
    assert_eq!(views(&engine), before.0, "the views say the same");
    let after = exported(&engine);
    let hash_of = |lines: &[Value]| lines.iter().filter_map(|l| l["hash"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    let (old, new) = (hash_of(&before.1), hash_of(&after));
    assert!(old.iter().all(|hash| new.contains(hash)) && new.len() == old.len() + 12, "every record, and one for each partition");
    let again = engine.publish(&once).ok(200);
    assert_eq!(again["position"], first["position"], "a retry is known on the other side");
    let next = register(&engine, "iris", 10);
    assert_eq!(next["version"], 3);
    engine.publish(&event("version.promoted", "default/iris/77", json!({"channel": "dev"}))).problem(404, "unknown-version");
    engine.kill();
    let engine = Engine::start(&data);
    assert_eq!(register(&engine, "iris", 11)["version"], 4, "offsets go on behind a restart");
    assert!(done(&annals(&["audit", "verify", "--data", data_text])).starts_with("whole"));
}

#[test]
fn a_journal_moves_from_a_directory_to_kafka_and_back_with_all_its_hashes() {
    let (dir, engine) = fresh();
    register(&engine, "iris", 1);
    let once = event("version.promoted", "default/iris/1", json!({"channel": "production"}));
    let first = engine.publish(&once).ok(201);
    let file = dir.path().join("journal.ndjson");
    let file = file.to_str().unwrap();
    assert!(engine.annals(&["export", file]).status.success());
    let before = exported(&engine);
    drop(engine);

    let cluster = Cluster::unmade();
    let place_of = ["--kafka", &bootstrap(), "--kafka-prefix", &cluster.prefix].map(str::to_owned);
    let import = |file: &str| annals(&[&["import", file], &place_of.each_ref().map(String::as_str)[..]].concat());
    let create = |partitions: &str, more: &[&str]| {
        let fixed = ["--partitions", partitions, "--replication-factor", "1", "--min-insync-replicas", "1"];
        done(&cluster.topics("create", &[&fixed, more].concat()))
    };
    create("12", &["--for-import"]);
    let unopened = cluster.command("a").output().unwrap();
    fails(&unopened, 69, &["no opening record"]);
    let said = done(&import(file));
    assert!(said.contains("records of 12 partitions"), "{said}");
    fails(&import(file), 1, &["holds records", "nothing was written"]);

    let engine = cluster.start("a");
    let hash_of = |lines: &[Value]| lines.iter().filter_map(|l| l["hash"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    let after = exported(&engine);
    assert!(hash_of(&before).iter().all(|hash| hash_of(&after).contains(hash)) && hash_of(&after).len() == hash_of(&before).len() + 12);
    assert_eq!(engine.publish(&once).ok(200)["position"], first["position"], "a retry is known on the other side");
    let next = register(&engine, "iris", 2);
    assert_eq!((&next["version"], place(&next).0), (&json!(2), place(&first).0));
    let back = dir.path().join("back.ndjson");
    let (back, target) = (back.to_str().unwrap(), directory());
    assert!(engine.annals(&["export", back]).status.success());
    drop(engine);
    let data = target.path().join("back");
    done(&annals(&["import", back, "--data", data.to_str().unwrap()]));
    assert!(done(&annals(&["audit", "verify", "--data", data.to_str().unwrap()])).starts_with("whole"));
    let engine = Engine::start(&data);
    assert_eq!(register(&engine, "iris", 3)["version"], 3);
    assert_eq!(engine.publish(&once).ok(200)["position"], first["position"]);
}
