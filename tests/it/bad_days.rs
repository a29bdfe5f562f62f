//! Disks, directories and files on a bad day: a clear error that says what to do, and no half event.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::stage::{Engine, data_of, directory, event, eventually, exported, fresh, program, register};

/// Runs `annals serve`, which must end by itself, and returns what it said.
fn serve_fails(data: &Path) -> String {
    let output = program().args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(!output.status.success(), "it should not have started");
    text_of(&output)
}

fn text_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    let lower = text.to_lowercase();
    for word in words {
        assert!(lower.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn a_second_engine_on_the_same_directory_is_told_so() {
    let (dir, engine) = fresh();
    says(&serve_fails(&data_of(&dir)), &["another", "engine"]);
    register(&engine, "iris", 1);
}

#[test]
fn a_directory_that_is_somebody_elses_is_left_alone() {
    let dir = directory();
    std::fs::write(dir.path().join("thesis.txt"), "do not touch").unwrap();
    says(&serve_fails(dir.path()), &["thesis.txt", "empty directory"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    says(&serve_fails(&file.join("data")), &["file/data"]);
    // root may write where permissions forbid it, /proc not even root
    says(&serve_fails(Path::new("/proc/annals")), &["/proc/annals"]);
}

#[test]
fn an_emptied_journal_is_a_disaster_and_not_a_new_beginning() {
    let (dir, engine) = fresh();
    register(&engine, "iris", 1);
    eventually("the view is there", || engine.get("/v1/models/iris").status == 200);
    assert_eq!(engine.stop(), Some(0));
    for file in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(data_of(&dir).join(file));
    }
    says(&serve_fails(&data_of(&dir)), &["journal", "backup"]);
    assert!(!data_of(&dir).join("journal.db").exists());
}

#[test]
fn a_cut_journal_is_noticed() {
    let (dir, engine) = fresh();
    (0..200).for_each(|n| drop(register(&engine, &format!("m{n}"), n)));
    assert_eq!(engine.stop(), Some(0));
    let journal = data_of(&dir).join("journal.db");
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(length / 2).unwrap();
    says(&damaged(&data_of(&dir)), &["damaged", "backup"]);
}

#[test]
fn a_corrupted_page_is_noticed_and_nothing_is_accepted_on_top_of_it() {
    let (dir, engine) = fresh();
    (0..200).for_each(|n| drop(register(&engine, &format!("m{n}"), n)));
    assert_eq!(engine.stop(), Some(0));
    let _ = std::fs::remove_dir_all(data_of(&dir).join("snapshots")); // so that everything is read
    let mut journal = std::fs::OpenOptions::new().read(true).write(true).open(data_of(&dir).join("journal.db")).unwrap();
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes).unwrap();
    // change one letter of every frame that is there
    let needle = b"annals.record.v1";
    let places: Vec<_> = bytes.windows(needle.len()).enumerate().filter(|(_, w)| w == needle).map(|(i, _)| i).collect();
    assert!(places.len() > 100);
    for place in places {
        journal.seek(SeekFrom::Start(place as u64)).unwrap();
        journal.write_all(b"X").unwrap();
    }
    drop(journal);
    says(&damaged(&data_of(&dir)), &["damaged", "backup"]);
}

/// What a damaged journal's engine says: it does not start, or starts with halted partitions.
fn damaged(data: &Path) -> String {
    let verify = program().args(["audit", "verify", "--data", data.to_str().unwrap()]).output().unwrap();
    assert_eq!(verify.status.code(), Some(1), "{}", text_of(&verify));
    assert!(!text_of(&verify).is_empty());
    serve_fails(data)
}

#[test]
fn damage_in_the_middle_is_found_by_the_audit_and_named() {
    let (dir, engine) = fresh();
    (1..=30).for_each(|n| drop(register(&engine, "iris", n)));
    let (partition, seq) = crate::stage::place(&engine.accept("version.promoted", "default/iris/7", json!({"channel": "staging"})));
    register(&engine, "iris", 31);
    assert_eq!(engine.stop(), Some(0));
    let db = rusqlite::Connection::open(data_of(&dir).join("journal.db")).unwrap();
    let frame: Vec<u8> = db.query_row(&format!("SELECT frame FROM records_{partition} WHERE seq = {seq}"), [], |r| r.get(0)).unwrap();
    let edited = String::from_utf8_lossy(&frame).replace("staging", "stagxng").into_bytes();
    assert_eq!(db.execute(&format!("UPDATE records_{partition} SET frame = ?1 WHERE seq = {seq}"), [edited]).unwrap(), 1);
    drop(db);
    let verify = program().args(["audit", "verify", "--data", data_of(&dir).to_str().unwrap()]).output().unwrap();
    assert_eq!(verify.status.code(), Some(1));
    let said = text_of(&verify) + &String::from_utf8_lossy(&verify.stdout);
    says(&said, &[&format!("seq {seq}"), &format!("partition {partition}")]);
}

#[test]
fn a_full_disk_refuses_events_whole_and_the_engine_goes_on_when_there_is_room() {
    let dir = directory();
    let mount = dir.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    // a small disk of its own, in a mount namespace that ends with the engine
    let script = format!(
        "mount -t tmpfs -o size=24m annals {0} && dd if=/dev/zero of={0}/ballast bs=1M count=12 status=none && exec \"$1\" serve --data {0}/data --listen 127.0.0.1:0",
        mount.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]).arg(program().get_program());
    let engine = Engine::spawn(command);
    let mut accepted = vec![register(&engine, "iris", 0)["id"].clone()];
    let ballast = "x".repeat(100_000);
    let refused = loop {
        let run = format!("run-{}", accepted.len());
        let sent = event(
            "run.trained",
            "default/iris",
            json!({"run": {"id": run}, "artifact": {"uri": "file:///m"}, "params": {"ballast": ballast}}),
        );
        let answer = engine.publish(&sent);
        if answer.status != 201 {
            break answer;
        }
        accepted.push(sent["id"].clone());
        assert!(accepted.len() < 1_000, "the disk does not fill");
    };
    assert!(matches!(refused.status, 202 | 503), "{refused:?}");
    eventually("it says what is wrong", || engine.get("/v1/partitions").text.to_lowercase().contains("full"));
    let ballast = format!("/proc/{}/root{}/ballast", engine.pid(), mount.display());
    std::fs::remove_file(ballast).unwrap();
    eventually("it accepts again", || {
        engine.publish(&event("model.measured", "default/iris", json!({"metric": "accuracy", "value": 1}))).status == 201
    });
    let kept = exported(&engine);
    for id in &accepted {
        assert_eq!(kept.iter().filter(|l| l["headers"]["ce_id"] == *id).count(), 1, "{id}");
    }
}

#[test]
fn records_that_were_taken_off_the_end_are_missed() {
    let (dir, engine) = fresh();
    (1..=9).for_each(|n| drop(register(&engine, "iris", n)));
    let (partition, seq) = crate::stage::place(&register(&engine, "iris", 10));
    assert_eq!(engine.stop(), Some(0));
    let db = rusqlite::Connection::open(data_of(&dir).join("journal.db")).unwrap();
    assert_eq!(db.execute(&format!("DELETE FROM records_{partition} WHERE seq > {}", seq - 3), []).unwrap(), 3);
    drop(db);
    let mut command = program();
    command.args(["serve", "--data", data_of(&dir).to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let engine = Engine::spawn_unready(command);
    eventually("the partition halts", || engine.get("/v1/partitions").text.contains("cut or changed"));
    let refused = engine.publish(&event("version.registered", "default/iris", json!({"artifact": {"digest": crate::stage::digest(11)}})));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text.contains("backup"), "{refused:?}");
    assert_eq!(engine.annals(&["doctor"]).status.code(), Some(1));
}

#[test]
fn a_lost_views_database_is_made_again_from_the_journal() {
    let (dir, engine) = fresh();
    register(&engine, "iris", 1);
    eventually("the view is there", || engine.get("/v1/models/iris").status == 200);
    let before = engine.get("/v1/models/iris").ok(200);
    assert_eq!(engine.stop(), Some(0));
    for file in ["views.db", "views.db-wal", "views.db-shm"] {
        let _ = std::fs::remove_file(data_of(&dir).join(file));
    }
    let engine = Engine::start(&data_of(&dir));
    eventually("the view is there again", || engine.get("/v1/models/iris").status == 200);
    assert_eq!(engine.get("/v1/models/iris").ok(200), before);
}

#[test]
fn a_corrupted_snapshot_costs_time_and_nothing_else() {
    let (dir, engine) = fresh();
    register(&engine, "iris", 1);
    assert_eq!(engine.stop(), Some(0));
    let snapshots: Vec<_> = std::fs::read_dir(data_of(&dir).join("snapshots")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(!snapshots.is_empty(), "a clean stop leaves a snapshot");
    for path in snapshots {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let engine = Engine::start(&data_of(&dir));
    assert_eq!(register(&engine, "iris", 2)["version"], 2);
}
