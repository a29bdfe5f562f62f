//! Subscribers that the engine keeps a place for: named cursors, over HTTP and by `annals subscribe --name`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::services::database;
use crate::stage::{Engine, Response, data_of, directory, eventually, fresh, program, register};

fn send(engine: &Engine, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", engine.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut found = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    Response {
        status: found.status().as_u16(),
        headers: found.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect(),
        text: found.body_mut().read_to_string().unwrap(),
    }
}

fn put(engine: &Engine, name: &str, cursor: &str, headers: &[(&str, &str)]) -> Response {
    send(engine, "PUT", &format!("/v1/cursors/{name}"), headers, &json!({"cursor": cursor}).to_string())
}

/// The cursor of where a journal is now.
fn cursor_of(engine: &Engine) -> String {
    let agent: ureq::Agent = ureq::Agent::new_with_defaults();
    let stream = agent.get(format!("{}/v1/events/stream", engine.url)).call().unwrap();
    stream.headers()["annals-cursor"].to_str().unwrap().to_owned()
}

#[test]
fn a_named_cursor_moves_from_where_it_is_expected_only_and_survives_a_kill() {
    let (dir, engine) = fresh();
    engine.get("/v1/cursors/mail").problem(404, "unknown-cursor");
    let before = cursor_of(&engine);
    let made = put(&engine, "mail", &before, &[("if-none-match", "*")]);
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")), "{}", made.text);
    put(&engine, "mail", &before, &[("if-none-match", "*")]).problem(412, "cursor-moved");
    register(&engine, "iris", 1);
    let now = cursor_of(&engine);
    assert_ne!(before, now);
    let moved = put(&engine, "mail", &now, &[("if-match", "\"1\"")]);
    assert_eq!((moved.status, moved.json()["revision"].as_u64()), (200, Some(2)), "{}", moved.text);
    let late = put(&engine, "mail", &before, &[("if-match", "\"1\"")]);
    late.problem(412, "cursor-moved");
    assert_eq!(late.header("etag"), Some("\"2\""));

    put(&engine, "mail", "nonsense", &[]).problem(400, "bad-cursor");
    put(&engine, "a:b", &now, &[]).problem(400, "bad-name");
    put(&engine, "mail", &now, &[("if-match", "*")]).problem(400, "bad-expectation");
    send(&engine, "PUT", "/v1/cursors/mail", &[], "{}").problem(400, "bad-body");
    let (_other_dir, other) = fresh();
    let gone = put(&engine, "mail", &cursor_of(&other), &[]).problem(410, "cursor-gone");
    assert!(gone["remedy"].as_str().unwrap().contains("begin anew"), "{gone}");

    engine.kill();
    let engine = Engine::start(&data_of(&dir));
    let found = engine.get("/v1/cursors/mail");
    assert_eq!((found.json()["cursor"].as_str(), found.header("etag")), (Some(now.as_str()), Some("\"2\"")), "{}", found.text);
    put(&engine, "chat", &now, &[]).ok(201);
    assert_eq!(send(&engine, "PUT", "/v1/cursors/mail?workspace=other", &[], &json!({"cursor": now}).to_string()).status, 201);
    let first = engine.get("/v1/cursors?limit=1").ok(200);
    assert_eq!((&first["items"][0]["name"], &first["next"]), (&json!("chat"), &json!("chat")));
    assert_eq!(engine.get("/v1/cursors?limit=1&after=chat").ok(200)["items"][0]["name"], "mail");
    let listed = engine.annals(&["list", "cursors", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");

    send(&engine, "DELETE", "/v1/cursors/mail", &[("if-match", "\"1\"")], "").problem(412, "cursor-moved");
    assert_eq!(send(&engine, "DELETE", "/v1/cursors/mail", &[("if-match", "\"2\"")], "").status, 204);
    send(&engine, "DELETE", "/v1/cursors/mail", &[], "").problem(404, "unknown-cursor");
    assert_eq!(engine.get("/v1/cursors/mail?workspace=other").status, 200, "another workspace's");
}

/// A running `annals subscribe`.
struct Subscriber {
    process: Child,
    said: Arc<Mutex<String>>,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    fn start(engine: &Engine, args: &[&str]) -> Self {
        let mut command = program();
        command.env("ANNALS_URL", &engine.url).arg("subscribe").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (said, printed) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(Vec::new())));
        let (lines, kept) = (BufReader::new(process.stderr.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push_str(&(line + "\n"))));
        let (lines, kept) = (BufReader::new(process.stdout.take().unwrap()), Arc::clone(&printed));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        Self { process, said, printed }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The subjects of what it printed.
    fn printed(&self) -> Vec<String> {
        let lines = self.printed.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["subject"].as_str().unwrap().to_owned()).collect()
    }

    fn ended(&mut self) -> i32 {
        eventually("the subscriber ends", || self.process.try_wait().unwrap().is_some());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program of a test: a script that does something for each event.
fn script(dir: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("take");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

fn revision(engine: &Engine, name: &str) -> u64 {
    engine.get(&format!("/v1/cursors/{name}")).json()["revision"].as_u64().unwrap_or(0)
}

#[test]
fn a_program_is_run_for_each_event_and_the_place_moves_when_it_succeeded() {
    let (dir, engine) = fresh();
    let (taken, may) = (dir.path().join("taken"), dir.path().join("may"));
    // takes nothing while the file `may` is not there
    let text = format!(
        "echo \"$1 $ANNALS_TYPE $ANNALS_WORKSPACE $ANNALS_MODEL $ANNALS_VERSION $ANNALS_POSITION $(cut -c1-15)\" >> {tried}\n\
         [ -e {may} ] || exit 3\necho \"$ANNALS_MODEL/$ANNALS_VERSION\" >> {taken}",
        tried = dir.path().join("tried").display(),
        may = may.display(),
        taken = taken.display()
    );
    let take = script(dir.path(), &text);
    let args = ["--name", "deployer", "--type", "registered", "--exec", take.to_str().unwrap(), "--", "first argument; ls"];
    let subscriber = Subscriber::start(&engine, &args);
    eventually("its place is made before the first event", || revision(&engine, "deployer") == 1);
    let place = register(&engine, "iris", 1)["position"].as_str().unwrap().to_owned();
    (2..=3).for_each(|n| drop(register(&engine, "iris", n)));
    eventually("it fails and is tried again", || lines(&dir.path().join("tried")).len() >= 2);
    let said = subscriber.said();
    assert!(said.contains("exit status: 3") && said.contains("trying again in 1 s"), "{said}");
    assert_eq!(revision(&engine, "deployer"), 1, "the place moved although the program failed");
    let tried = lines(&dir.path().join("tried"));
    assert!(
        tried.iter().all(|line| line.starts_with(&format!("first argument; ls registered default iris 1 {place} {{\"actor\":"))),
        "{tried:?}"
    );

    // the subscriber dies, and the next one goes on with the event that nobody has taken
    drop(subscriber);
    std::fs::write(&may, "").unwrap();
    let mut subscriber = Subscriber::start(&engine, &[&["--max", "3"], &args[..]].concat());
    assert_eq!(subscriber.ended(), 0, "{}", subscriber.said());
    assert_eq!(lines(&taken), ["iris/1", "iris/2", "iris/3"]);
    assert!(subscriber.printed().is_empty());

    // and only new ones are left
    register(&engine, "wine", 1);
    let mut subscriber = Subscriber::start(&engine, &[&["--max", "1"], &args[..]].concat());
    assert_eq!(subscriber.ended(), 0, "{}", subscriber.said());
    assert_eq!(lines(&taken)[3..], ["wine/1"]);
    // unless it is told to forget
    let forget = ["--forget", "--from", "beginning", "--max", "1"];
    let mut subscriber = Subscriber::start(&engine, &[&forget[..], &args[..]].concat());
    assert_eq!(subscriber.ended(), 0, "{}", subscriber.said());
    assert_eq!(lines(&taken)[4..], ["iris/1"]);
}

#[test]
fn pauses_between_failures_grow() {
    let (dir, engine) = fresh();
    let tried = dir.path().join("tried");
    let take = script(dir.path(), &format!("date +%s%N >> {}\nexit 1", tried.display()));
    register(&engine, "iris", 1);
    let _subscriber = Subscriber::start(&engine, &["--from", "beginning", "--type", "registered", "--exec", take.to_str().unwrap()]);
    eventually("it was tried four times", || lines(&tried).len() >= 4);
    let at: Vec<f64> = lines(&tried).iter().map(|line| line.parse::<f64>().unwrap() / 1e9).collect();
    assert!(at[1] - at[0] >= 1.0 && at[2] - at[1] >= 2.0 && at[3] - at[2] >= 4.0, "{at:?}");
    assert_eq!(engine.get("/v1/cursors").ok(200)["items"], json!([]), "without a name no place is kept");
}

#[test]
fn a_printer_goes_on_behind_what_it_has_written_also_when_the_engine_was_killed() {
    let (dir, engine) = fresh();
    (1..=300).for_each(|n| drop(register(&engine, "iris", n)));
    let args = ["--name", "printer", "--from", "beginning", "--type", "registered", "--json"];
    let mut first = Subscriber::start(&engine, &[&args[..], &["--max", "250"]].concat());
    assert_eq!(first.ended(), 0, "{}", first.said());
    let mut second = Subscriber::start(&engine, &[&args[..], &["--max", "50"]].concat());
    assert_eq!(second.ended(), 0, "{}", second.said());
    let all = [first.printed(), second.printed()].concat();
    assert_eq!(all, (1..=300).map(|n| format!("default/iris/{n}")).collect::<Vec<_>>());

    engine.kill();
    let engine = Engine::start(&data_of(&dir));
    register(&engine, "iris", 301);
    let mut third = Subscriber::start(&engine, &[&args[..], &["--max", "1"]].concat());
    assert_eq!(third.ended(), 0, "{}", third.said());
    assert_eq!(third.printed(), ["default/iris/301"]);
}

#[test]
fn a_second_subscriber_of_a_name_is_noticed() {
    let (dir, engine) = fresh();
    let taken = dir.path().join("taken");
    let take = script(dir.path(), &format!("echo $ANNALS_VERSION >> {}", taken.display()));
    let args = ["--name", "deployer", "--type", "registered", "--exec", take.to_str().unwrap()];
    let mut both = [Subscriber::start(&engine, &args), Subscriber::start(&engine, &args)];
    // one of them may have lost already: both make the place
    eventually("the place is made", || revision(&engine, "deployer") == 1);
    let mut n = 0;
    eventually("one of them ends", || {
        n += 1;
        register(&engine, "iris", n);
        both.iter_mut().any(|subscriber| subscriber.process.try_wait().unwrap().is_some())
    });
    let (ended, other) = if both[0].process.try_wait().unwrap().is_some() { (0, 1) } else { (1, 0) };
    assert_eq!(both[ended].ended(), 1);
    let said = both[ended].said();
    assert!(said.contains("another subscriber uses the name `deployer`") && said.contains("revision"), "{said}");
    // the other one goes on, and nothing was passed over
    let last = n + 1;
    register(&engine, "iris", last);
    eventually("the other one takes the rest", || lines(&taken).contains(&last.to_string()));
    let seen = lines(&taken);
    assert!((1..=last).all(|n| seen.contains(&n.to_string())), "{seen:?} of {last}");
    assert!(both[other].process.try_wait().unwrap().is_none(), "{}", both[other].said());
}

#[test]
fn a_place_that_the_journal_does_not_have_is_said_with_what_to_do() {
    let (dir, engine) = fresh();
    let copy = dir.path().join("copy");
    let backup = |to: &Path| program().args(["backup", to.to_str().unwrap(), "--data", data_of(&dir).to_str().unwrap()]).output().unwrap();
    assert!(backup(&copy).status.success());
    register(&engine, "iris", 1);
    put(&engine, "mail", &cursor_of(&engine), &[]).ok(201);
    assert_eq!(engine.stop(), Some(0));
    // the newer store beside the older journal: not as `annals backup` makes it
    for file in ["ops.db", "ops.db-wal"] {
        let _ = std::fs::remove_file(copy.join(file));
        if data_of(&dir).join(file).exists() {
            std::fs::copy(data_of(&dir).join(file), copy.join(file)).unwrap();
        }
    }
    let engine = Engine::start(&copy);
    let mut subscriber = Subscriber::start(&engine, &["--name", "mail"]);
    assert_eq!(subscriber.ended(), 1);
    let said = subscriber.said();
    assert!(said.contains("does not have") && said.contains("--forget"), "{said}");
}

#[test]
fn a_backup_keeps_the_places_and_a_lost_or_damaged_store_is_said() {
    let (dir, engine) = fresh();
    register(&engine, "iris", 1);
    put(&engine, "mail", &cursor_of(&engine), &[]).ok(201);
    let copy = dir.path().join("copy");
    let backup = program().args(["backup", copy.to_str().unwrap(), "--data", data_of(&dir).to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&backup.stdout).into_owned();
    assert!(backup.status.success() && told.contains("operational store"), "{told}");
    let doctor = engine.annals(&["doctor", "--data", copy.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("operational store is there"), "{doctor:?}");
    let restored = Engine::start(&copy);
    assert_eq!(restored.get("/v1/cursors/mail").ok(200)["revision"], 1);
    assert_eq!(restored.stop(), Some(0));

    std::fs::write(copy.join("ops.db"), vec![7; 8192]).unwrap();
    for beside in ["ops.db-wal", "ops.db-shm"] {
        let _ = std::fs::remove_file(copy.join(beside));
    }
    let damaged = Engine::start(&copy); // it is ready: proposals and reads do without
    register(&damaged, "iris", 2);
    eventually("it has looked", || damaged.get("/readyz").text.contains("operational store cannot be opened"));
    let problem = damaged.get("/v1/cursors/mail").problem(500, "no-store");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("backup") && detail.contains("ops.db*"), "{detail}");
    let doctor = damaged.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("ACT   the operational store cannot be opened"), "{said}");
    assert_eq!(damaged.stop(), Some(0));

    std::fs::remove_file(copy.join("ops.db")).unwrap();
    let lost = Engine::start(&copy);
    lost.get("/v1/cursors/mail").problem(404, "unknown-cursor");
}

#[test]
fn places_are_in_the_database_where_views_are() {
    let (database, dir) = (database(), directory());
    let start = || {
        let mut command = program();
        command.args(["serve", "--data", data_of(&dir).to_str().unwrap(), "--database", &database.url, "--listen", "127.0.0.1:0"]);
        Engine::spawn(command)
    };
    let engine = start();
    put(&engine, "mail", &cursor_of(&engine), &[]).ok(201);
    engine.kill();
    let engine = start();
    assert_eq!(revision(&engine, "mail"), 1);
    assert!(!data_of(&dir).join("ops.db").exists());
}
