//! Repositories behind URLs, served by git's own `http-backend`: credentials, hooks, whoever is faster, and nobody there.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{Stage, all_are, git, gitops, promote, says, tags};
use crate::stage::{Engine, data_of, eventually, register};

/// A server of the repositories below `served`; it ends with this.
struct Backend {
    process: Child,
    port: u16,
}

impl Backend {
    fn start(root: &Path, port: u16, certificate: Option<&Path>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/git/http_backend.py");
        let mut command = Command::new("python3");
        command.arg("-B").arg(script).arg(root).arg(port.to_string()).args(certificate);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Served {
    stage: Stage,
    root: PathBuf,
    bare: PathBuf,
    backend: Backend,
    engine: Engine,
}

impl Served {
    fn fresh() -> Self {
        let stage = Stage::fresh();
        let root = stage.path("served");
        std::fs::create_dir(&root).unwrap();
        let bare = stage.bare("served/deploy.git");
        git(&bare, &["config", "http.receivepack", "true"]);
        let backend = Backend::start(&root, 0, None);
        let (allow, credentials) = (format!("http://127.0.0.1:{}/*", backend.port), stage.named("credentials"));
        let engine = stage.start(&data_of(&stage.dir), &["--git-allow", &allow, "--git-credentials", &credentials]);
        let served = Self { stage, root, bare, backend, engine };
        gitops(&served.engine, &served.url(), &json!({}));
        (1..=6).for_each(|n| drop(register(&served.engine, &format!("model-{n}"), n)));
        served
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/deploy.git", self.backend.port)
    }

    fn promote(&self, n: u64) {
        promote(&self.engine, &format!("model-{n}"), 1);
    }

    /// Puts a program there, in one piece.
    fn program(&self, path: &Path, text: &str) {
        let new = self.stage.path("new");
        std::fs::write(&new, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, path).unwrap();
    }
}

#[test]
fn whoever_pushes_first_keeps_what_he_pushed() {
    let served = Served::fresh();
    let clone = served.stage.clone_of(&served.bare, "somebody");
    let faster = |name: &str, n: u64| {
        let clone = clone.display();
        let who = "-c user.name=Bob -c user.email=bob@example.org";
        let text = format!(
            "set -e\nunset GIT_DIR\ncd {clone}\ngit pull --quiet --rebase origin main\ngit {who} commit --quiet --allow-empty --message 'faster {n}'\n\
             git push --quiet origin main"
        );
        served.program(&served.root.join(name), &text);
    };
    // before the engine is told the references, and then under its hands
    for (n, name) in [(1, "before-list"), (2, "before-update"), (3, "before-update")] {
        faster(name, n);
        served.promote(n);
        all_are(&served.engine, "gitops", "done", usize::try_from(n).unwrap());
        assert!(served.root.join(format!("{name}.taken")).exists(), "nobody was faster");
    }
    let log = git(&served.bare, &["log", "--format=%s", "main"]);
    for n in 1..=3 {
        assert!(log.contains(&format!("faster {n}")) && log.contains(&format!("default/model-{n}: production")), "{log}");
    }
    // somebody takes the tag's name first: the next number is ours
    let take = format!("git --git-dir={} tag model-4@production#1 main", served.bare.display());
    served.program(&served.root.join("before-update"), "exit 0");
    served.promote(4);
    all_are(&served.engine, "gitops", "done", 4);
    served.program(&served.root.join("before-list"), &take.replace("model-4", "model-5"));
    served.promote(5);
    all_are(&served.engine, "gitops", "done", 5);
    let tags = tags(&served.bare);
    assert!(tags.contains(&"model-5@production#2".to_owned()) && tags.contains(&"model-4@production#1".to_owned()), "{tags:?}");
    git(&served.bare, &["fsck", "--strict"]);
}

#[test]
fn a_hook_that_rejects_and_a_host_that_denies_are_told_and_obeyed_until_they_let_us() {
    let served = Served::fresh();
    let hook = served.bare.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    served.program(&hook, "echo 'no deployments on Fridays' >&2\nexit 1");
    served.promote(1);
    says(&served.engine, "gitops", "the repository rejects it: pre-receive hook declined");
    says(&served.engine, "gitops", "no deployments on Fridays");
    assert!(tags(&served.bare).is_empty());
    std::fs::remove_file(&hook).unwrap();
    all_are(&served.engine, "gitops", "done", 1);
    std::fs::write(served.root.join("denied"), "").unwrap();
    served.promote(2);
    says(&served.engine, "gitops", "the repository denies it: unexpected http status code: 403");
    std::fs::remove_file(served.root.join("denied")).unwrap();
    all_are(&served.engine, "gitops", "done", 2);
    // a tag that may not be made leaves the commit, and is made when it may
    served.program(&served.bare.join("hooks/update"), "case $1 in refs/tags/*) exit 1;; esac");
    served.promote(3);
    says(&served.engine, "gitops", "hook declined");
    assert_eq!(git(&served.bare, &["rev-list", "--count", "main"]), "3");
    std::fs::remove_file(served.bare.join("hooks/update")).unwrap();
    all_are(&served.engine, "gitops", "done", 3);
    assert_eq!((git(&served.bare, &["rev-list", "--count", "main"]).as_str(), tags(&served.bare).len()), ("3", 3));
}

#[test]
fn who_we_are_is_read_from_a_file_each_time_and_never_asked() {
    let served = Served::fresh();
    let credentials = |token: &str| {
        let text = format!("http://bot:{token}@127.0.0.1:{}\n", served.backend.port);
        std::fs::write(served.stage.path("credentials"), text).unwrap();
    };
    std::fs::write(served.root.join("token"), "s3cret").unwrap();
    served.promote(1);
    says(&served.engine, "gitops", "cannot be read: No such file");
    credentials("wrong");
    says(&served.engine, "gitops", "does not take the token");
    credentials("s3cret");
    all_are(&served.engine, "gitops", "done", 1);
    assert_eq!(tags(&served.bare), ["model-1@production#1"]);
    let everything = served.engine.get("/v1/journal").text + &served.engine.said() + &served.engine.get("/v1/triggers/gitops/history").text;
    assert!(!everything.contains("s3cret"), "a token got out");
}

#[test]
fn a_server_that_is_gone_or_hangs_is_waited_for_and_a_broken_copy_is_made_anew() {
    let mut served = Served::fresh();
    served.promote(1);
    all_are(&served.engine, "gitops", "done", 1);
    let port = served.backend.port;
    served.backend.process.kill().unwrap();
    served.backend.process.wait().unwrap();
    served.promote(2);
    says(&served.engine, "gitops", "the repository gives no answer");
    // what a process that was killed may leave behind
    let copy = std::fs::read_dir(data_of(&served.stage.dir).join("git")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(copy.join("refs/heads/main.lock"), "").unwrap();
    let pack = std::fs::read_dir(copy.join("objects")).unwrap().map(|found| found.unwrap().path());
    pack.filter(|path| path.file_name().unwrap() != "info").for_each(|path| std::fs::remove_dir_all(path).unwrap());
    served.backend = Backend::start(&served.root, port, None);
    all_are(&served.engine, "gitops", "done", 2);
    // one that takes a request and says nothing keeps nobody from stopping the engine
    std::fs::write(served.root.join("hang"), "").unwrap();
    served.promote(3);
    eventually("it is being done", || super::tasks(&served.engine, "gitops").len() == 3);
    assert_eq!(served.engine.stop(), Some(0));
    std::fs::remove_file(served.root.join("hang")).unwrap();
    let allow = format!("http://127.0.0.1:{port}/*");
    let engine = served.stage.start(&data_of(&served.stage.dir), &["--git-allow", &allow]);
    all_are(&engine, "gitops", "done", 3);
    assert_eq!(tags(&served.bare).len(), 3);
}

#[test]
fn a_large_repository_may_take_its_time_as_long_as_something_comes_and_a_silent_one_is_given_up() {
    let served = Served::fresh();
    let clone = served.stage.clone_of(&served.bare, "somebody");
    for n in 0..40 {
        let mut noise = Vec::new();
        std::fs::File::open("/dev/urandom").unwrap().take(64 * 1024).read_to_end(&mut noise).unwrap();
        std::fs::write(clone.join(format!("noise-{n}")), noise).unwrap();
    }
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "--quiet", "--message", "noise"]);
    git(&clone, &["push", "--quiet", "origin", "HEAD:main"]);
    assert_eq!(served.engine.stop(), Some(0));
    let allow = format!("http://127.0.0.1:{}/*", served.backend.port);
    let engine = served.stage.start(&data_of(&served.stage.dir), &["--git-allow", &allow, "--git-silence", "3"]);
    std::fs::write(served.root.join("trickle"), "60").unwrap(); // six seconds
    promote(&engine, "model-1", 1);
    all_are(&engine, "gitops", "done", 1);
    std::fs::write(served.root.join("hang"), "").unwrap();
    promote(&engine, "model-2", 1);
    says(&engine, "gitops", "the repository gives no answer: nothing came for 3 s");
    std::fs::remove_file(served.root.join("hang")).unwrap();
    all_are(&engine, "gitops", "done", 2);
}

#[test]
fn over_https_the_servers_certificate_must_be_trusted() {
    let stage = Stage::fresh();
    let root = stage.path("served");
    std::fs::create_dir(&root).unwrap();
    let bare = stage.bare("served/deploy.git");
    git(&bare, &["config", "http.receivepack", "true"]);
    let (key, certificate, both) = (stage.named("key.pem"), stage.named("certificate.pem"), stage.path("both.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-days",
        "2",
        "-subj",
        "/CN=annals tests",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]);
    assert!(openssl.args(["-keyout", &key, "-out", &certificate]).stderr(Stdio::null()).status().unwrap().success());
    std::fs::write(&both, std::fs::read_to_string(&key).unwrap() + &std::fs::read_to_string(&certificate).unwrap()).unwrap();
    let backend = Backend::start(&root, 0, Some(&both));
    let url = format!("https://127.0.0.1:{}/deploy.git", backend.port);
    let more = ["--git-allow", &url];
    let engine = stage.start(&data_of(&stage.dir), &more);
    gitops(&engine, &url, &json!({}));
    register(&engine, "iris", 1);
    promote(&engine, "iris", 1);
    says(&engine, "gitops", "its certificate is not trusted");
    assert_eq!(engine.stop(), Some(0));
    let mut command = stage.command(&data_of(&stage.dir), &more);
    command.env("SSL_CERT_FILE", &certificate);
    let engine = Engine::spawn(command);
    all_are(&engine, "gitops", "done", 1);
    assert_eq!(tags(&bare), ["iris@production#1"]);
}
