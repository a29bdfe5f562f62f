//! Real programs: good ones, bad ones, loud ones, and those that never end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{Ended, Process};
use super::{not_started, program};
use crate::world::{Done, Retry};

const LONG: Duration = Duration::from_secs(60);

fn script(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn run(text: &str, input: &[u8], timeout: Duration) -> Ended {
    let dir = TempDir::new().unwrap();
    let path = script(&dir, "p", text);
    let variables = [("ANNALS_MODEL", "iris".to_owned())];
    let process = Process::start(&path, &["a b".to_owned()], &variables, Some(dir.path())).unwrap();
    process.finish(input, timeout).await
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).join("status").exists()
        && !std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default().contains("State:\tZ")
}

fn gone(pid: &str) -> bool {
    let deadline = Instant::now() + LONG;
    while is_alive(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[tokio::test]
async fn a_program_gets_the_event_its_arguments_and_its_variables() {
    let ended = run("#!/bin/sh\nread line\necho \"$line|$1|$ANNALS_MODEL|$(basename $0)\"\n", b"{\"id\":1}", LONG).await;
    assert_eq!(ended, Ended::Exit { code: 0, said: "{\"id\":1}|a b|iris|p".into(), complained: String::new() });
}

#[tokio::test]
async fn the_last_complaint_is_kept() {
    let ended = run("#!/bin/sh\necho first >&2\necho 'no data' >&2\necho >&2\nexit 3\n", b"x", LONG).await;
    assert_eq!(ended, Ended::Exit { code: 3, said: String::new(), complained: "no data".into() });
}

#[tokio::test]
async fn megabytes_are_read_away_and_input_that_nobody_reads_is_no_trouble() {
    let megabyte = vec![b'x'; 1 << 20];
    let loud = "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' a\nhead -c 20000000 /dev/zero >&2\necho; echo end\n";
    let Ended::Exit { code, said, .. } = run(loud, &megabyte, LONG).await else { panic!("it did not exit") };
    assert_eq!((code, said.as_str()), (0, "end"));
}

#[tokio::test]
async fn what_hangs_is_killed_with_all_that_it_started() {
    let dir = TempDir::new().unwrap();
    let pids = dir.path().join("pids");
    // neither listens to a polite word
    let text =
        format!("#!/bin/sh\ntrap '' TERM\nsh -c 'trap \"\" TERM; while :; do sleep 1; done' &\necho $! $$ > {}\nwait\n", pids.display());
    let process = Process::start(&script(&dir, "p", &text), &[], &[], None).unwrap();
    let began = Instant::now();
    let ended = process.finish(b"x", Duration::from_millis(700)).await;
    assert!(matches!(ended, Ended::Timeout { .. }) && began.elapsed() < Duration::from_secs(20), "{ended:?}");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert!(pids.split_whitespace().count() == 2 && pids.split_whitespace().all(gone), "{pids}");
}

#[tokio::test]
async fn one_that_is_dropped_is_killed_with_all_that_it_started() {
    let dir = TempDir::new().unwrap();
    let pids = dir.path().join("pids");
    let text = format!("#!/bin/sh\nsleep 1000 &\necho $! $$ > {0}.new; mv {0}.new {0}\nwait\n", pids.display());
    let process = Process::start(&script(&dir, "p", &text), &[], &[], None).unwrap();
    let running = tokio::spawn(process.finish(b"x", LONG));
    let deadline = Instant::now() + LONG;
    while !pids.exists() {
        assert!(Instant::now() < deadline, "it does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let pids = std::fs::read_to_string(pids).unwrap();
    assert!(pids.split_whitespace().count() == 2 && pids.split_whitespace().all(gone), "{pids}");
}

#[tokio::test]
async fn what_it_leaves_behind_does_not_keep_us_waiting() {
    let began = Instant::now();
    let ended = run("#!/bin/sh\nsleep 5 &\necho ok\n", b"x", LONG).await;
    assert_eq!(ended, Ended::Exit { code: 0, said: "ok".into(), complained: String::new() });
    assert!(began.elapsed() < Duration::from_secs(4), "it waited {:?}", began.elapsed());
}

#[tokio::test]
async fn a_signal_is_told() {
    let ended = run("#!/bin/sh\nkill -9 $$\n", b"x", LONG).await;
    assert_eq!(ended, Ended::Signal { signal: 9, complained: String::new() });
}

#[test]
fn what_may_not_be_run_is_told_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("plain"), "x").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    script(&dir, "good", "#!/bin/sh\n");
    assert!(program(None, "x").unwrap_err().contains("--commands DIR"));
    assert!(program(Some(dir.path()), "none").unwrap_err().contains("no `none`"));
    assert!(program(Some(dir.path()), "plain").unwrap_err().contains("chmod +x"));
    assert!(program(Some(dir.path()), "folder").unwrap_err().contains("no file"));
    assert_eq!(program(Some(dir.path()), "good"), Ok(dir.path().join("good")));
}

#[tokio::test]
async fn what_cannot_be_started_is_not_tried_again_and_again() {
    let dir = TempDir::new().unwrap();
    for (name, text, told) in [("noshebang", "\u{1}\u{2}", "#!"), ("nointerpreter", "#!/nothing/here\n", "first line")] {
        let path = script(&dir, name, text);
        let Err(e) = Process::start(&path, &[], &[], None) else { panic!("{name} started") };
        let Done::Failed { note, retry } = not_started(&path, &e) else { panic!("not failed") };
        assert!(retry == Retry::Never && note.contains(told), "{note}");
    }
}
