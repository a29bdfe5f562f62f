//! The real servers that tests talk to: those that `tests/run` started, and those that a test starts for itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What `tests/run` exports under this name.
#[track_caller]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start the tests with tests/run, which provides it"))
}

/// Bootstrap of the Kafka that all tests share: each takes a [`prefix`] of its own.
#[track_caller]
pub fn kafka() -> String {
    variable("ANNALS_TEST_KAFKA")
}

/// URL of the schema registry's Confluent API, which all tests share.
#[track_caller]
pub fn schema_registry() -> String {
    variable("ANNALS_TEST_SCHEMA_REGISTRY")
}

/// URL of the Elasticsearch that all tests share: each takes an index of its own.
#[track_caller]
pub fn elasticsearch() -> String {
    variable("ANNALS_TEST_ELASTICSEARCH")
}

/// URL of the OpenSearch that all tests share, likewise.
#[track_caller]
pub fn opensearch() -> String {
    variable("ANNALS_TEST_OPENSEARCH")
}

/// What a Java program needs on its class path to speak to Kafka.
#[track_caller]
pub fn java_class_path() -> String {
    variable("ANNALS_TEST_JAVA_CLASSPATH")
}

/// A kubeconfig of the cluster that all tests share: each takes a namespace of its own.
#[track_caller]
pub fn kubeconfig() -> String {
    variable("ANNALS_TEST_KUBECONFIG")
}

/// A prefix for the topics of one test.
pub fn prefix() -> String {
    format!("t-{}", uuid::Uuid::now_v7().simple())
}

/// A Python with clients of Kafka, of the schema registry and of PostgreSQL.
#[track_caller]
pub fn python() -> Command {
    let mut command = Command::new(variable("ANNALS_TEST_PYTHON"));
    command.arg("-B").stdin(Stdio::null());
    command
}

/// A Python with the libraries that watch models for drift.
#[track_caller]
pub fn drift_python() -> Command {
    let mut command = Command::new(variable("ANNALS_TEST_DRIFT_PYTHON"));
    command.arg("-B").stdin(Stdio::null());
    command
}

/// A Python with `ml-metadata`, and with the client of this tree; `bin` on its path is where it lies.
#[track_caller]
pub fn mlmd_python() -> PathBuf {
    variable("ANNALS_TEST_MLMD_PYTHON").into()
}

/// A Python with the official clients of Elasticsearch and OpenSearch.
#[track_caller]
pub fn search_python() -> Command {
    let mut command = Command::new(variable("ANNALS_TEST_SEARCH_PYTHON"));
    command.arg("-B").stdin(Stdio::null());
    command
}

/// Runs a piece of Python with these arguments and returns what it printed; it fails when the Python fails.
#[track_caller]
pub fn run_python(code: &str, arguments: &[&str]) -> String {
    said(python().arg("-c").arg(code).args(arguments))
}

/// Runs it to its end, which must be good, and returns what it printed.
#[track_caller]
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A script of `tests/services`.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services").join(name));
    command.stdin(Stdio::null());
    command
}

/// A directory for a server's state, below that of `tests/run`, which ends what lies there when a test cannot.
fn state(name: &str) -> TempDir {
    let parent = std::env::var_os("ANNALS_TEST_RUN").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(parent).unwrap();
    // PostgreSQL does not run as root, and must be able to pass through.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    dir
}

/// A database of its own, dropped at the end.
pub struct Database {
    server: String,
    name: String,
    pub url: String,
}

const STATEMENT: &str = "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2])";

/// An empty database on the PostgreSQL that all tests share.
#[track_caller]
pub fn database() -> Database {
    Database::on(&variable("ANNALS_TEST_DATABASE"))
}

impl Database {
    /// An empty database on this server.
    #[track_caller]
    pub fn on(server: &str) -> Self {
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        run_python(STATEMENT, &[server, &format!("CREATE DATABASE {name}")]);
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { server: server.into(), url: format!("{base}/{name}"), name }
    }

    /// Runs statements, all or none of them.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        run_python(STATEMENT, &[&self.url, sql]);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test that broke may have taken the server with it: no panic on top of its own.
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = python().args(["-c", STATEMENT, &self.server, &drop]).stderr(Stdio::null()).status();
    }
}

/// A server of one process for one test, which may kill it; ended when it goes out of scope.
pub struct Server {
    script: &'static str,
    dir: TempDir,
    /// HOST:PORT or URL, as its script prints it.
    pub address: String,
}

impl Server {
    /// One of `kafka`, `schema-registry`, `postgres`, `kubernetes`, `elasticsearch` and `opensearch`.
    #[track_caller]
    pub fn up(script: &'static str) -> Self {
        Self::configured(script, &[])
    }

    /// `prometheus` or `alertmanager` with these files: name and text.
    #[track_caller]
    pub fn configured(script: &'static str, files: &[(&str, &str)]) -> Self {
        let mut server = Self { script, dir: state(script), address: String::new() };
        files.iter().for_each(|(name, text)| std::fs::write(server.dir.path().join(name), text).unwrap());
        server.address = server.say("up");
        server
    }

    /// kill -9.
    #[track_caller]
    pub fn kill(&self) {
        self.say("kill");
    }

    /// Brings it back, with its data and at its address.
    #[track_caller]
    pub fn back(&self) {
        assert_eq!(self.say("up"), self.address);
    }

    #[track_caller]
    fn say(&self, verb: &str) -> String {
        said(script(self.script).arg(verb).arg(self.dir.path()))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        pid(self.dir.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        down(self.dir.path());
    }
}

fn down(dir: &Path) {
    if std::thread::panicking() {
        for log in [dir.join("log"), dir.join("1/log"), dir.join("2/log"), dir.join("3/log")] {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().rev().take(20).collect::<Vec<_>>();
            last.iter().rev().for_each(|line| eprintln!("{}: {line}", log.display()));
        }
    }
    let _ = script("down").arg(dir).status();
}

/// From the first word of the file that the scripts keep.
fn pid(dir: &Path) -> u32 {
    let text = std::fs::read_to_string(dir.join("pid")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Three brokers for one test; two must have a record before it counts.
pub struct Cluster {
    dir: TempDir,
    /// All three, for `--kafka`.
    pub bootstrap: String,
}

impl Cluster {
    #[track_caller]
    pub fn up() -> Self {
        let mut cluster = Self { dir: state("kafka-cluster"), bootstrap: String::new() };
        cluster.bootstrap = said(script("kafka-cluster").arg("up").arg(cluster.dir.path()));
        cluster
    }

    /// kill -9 of broker 1, 2 or 3. The others take nine seconds to know.
    #[track_caller]
    pub fn kill(&self, broker: u32) {
        self.say("kill", broker);
    }

    /// Brings a killed broker back.
    #[track_caller]
    pub fn start(&self, broker: u32) {
        self.say("start", broker);
    }

    /// Process id of a broker.
    pub fn pid(&self, broker: u32) -> u32 {
        pid(&self.dir.path().join(broker.to_string()))
    }

    #[track_caller]
    fn say(&self, verb: &str, broker: u32) {
        said(script("kafka-cluster").arg(verb).arg(self.dir.path()).arg(broker.to_string()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        down(self.dir.path());
    }
}

/// A broker that asks who one is, over TLS, and allows nothing that no ACL allows.
pub struct SaslKafka {
    server: Server,
}

impl SaslKafka {
    #[track_caller]
    pub fn up() -> Self {
        Self { server: Server::up("kafka-sasl") }
    }

    /// HOST:PORT.
    pub fn bootstrap(&self) -> &str {
        &self.server.address
    }

    /// librdkafka's settings for a user, as `--kafka-properties` takes them: `admin` (may do all), `arbiter` (the
    /// engine), `pipeline` and `stranger`.
    pub fn properties(&self, user: &str) -> PathBuf {
        self.server.dir.path().join(format!("{user}.properties"))
    }

    /// Lets the engine and pipelines use the topics with this prefix, each as it must; strangers may do nothing.
    #[track_caller]
    pub fn grant(&self, prefix: &str) {
        let acls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka_acls.py");
        said(python().arg(acls).arg(self.properties("admin")).arg(self.bootstrap()).arg(prefix));
    }
}

/// Makes a topic, and produces to it and reads back: `make`, `put` (with what became of it) or `count`.
const TALK: &str = r#"
import json, sys, time, uuid
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

verb, bootstrap, settings, topic = sys.argv[1:5]
client = {"bootstrap.servers": bootstrap, "log_level": 0}
if settings:
    client |= dict(line.rstrip("\n").split("=", 1) for line in open(settings))
if verb == "make":
    admin = AdminClient(client)
    admin.create_topics([NewTopic(topic, 1, -1)], operation_timeout=60)[topic].result(60)
    # Another broker than the one that made it may answer, and hear of it a moment later.
    deadline = time.time() + 60
    while not (partitions := admin.list_topics(topic, timeout=60).topics[topic].partitions) and time.time() < deadline:
        time.sleep(0.1)
    print(len(partitions[0].replicas))
elif verb == "put":
    said = []
    producer = Producer(client | {"acks": "all", "message.timeout.ms": 60000})
    producer.produce(topic, sys.argv[5], on_delivery=lambda error, _: said.append(error.name() if error else "ok"))
    producer.flush(90)
    print(*said)
elif verb == "count":
    consumer = Consumer(client | {"group.id": "pipeline-" + str(uuid.uuid4()), "auto.offset.reset": "earliest", "enable.partition.eof": True})
    consumer.subscribe([topic])
    values = []
    while (message := consumer.poll(60)) is not None and not message.error():
        values.append(message.value().decode())
    consumer.close()
    print(json.dumps(values))
"#;

#[track_caller]
fn talk(verb: &str, bootstrap: &str, settings: &str, topic: &str, value: &str) -> String {
    run_python(TALK, &[verb, bootstrap, settings, topic, value])
}

#[test]
fn the_shared_kafka_keeps_a_record() {
    let (kafka, topic) = (kafka(), prefix());
    assert_eq!(talk("make", &kafka, "", &topic, ""), "1");
    assert_eq!(talk("put", &kafka, "", &topic, "iris"), "ok");
    assert_eq!(talk("count", &kafka, "", &topic, ""), r#"["iris"]"#);
}

#[test]
fn a_database_is_empty_and_goes_with_its_test() {
    let rows = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";
    let (url, server, name) = {
        let database = database();
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
        assert_eq!(run_python(rows, &[&database.url, tables]), "0");
        assert_eq!(run_python(rows, &[&database.url, "SELECT current_database()"]), database.name);
        (database.url.clone(), database.server.clone(), database.name.clone())
    };
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(run_python(rows, &[&server, &left]), "0", "{url} is left");
}

#[test]
fn the_schema_registry_speaks_confluents_api() {
    let code = "
import sys
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
registry, subject = SchemaRegistryClient({'url': sys.argv[1]}), sys.argv[2]
schema = '{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"type\": \"object\", \"properties\": {\"model\": {\"type\": \"string\"}}}'
number = registry.register_schema(subject, Schema(schema, 'JSON'))
print(registry.get_latest_version(subject).schema_id == number)
";
    assert_eq!(run_python(code, &[&schema_registry(), &prefix()]), "True");
}

#[test]
fn a_server_that_was_killed_comes_back_with_what_it_had() {
    let server = Server::up("postgres");
    let database = Database::on(&server.address);
    let pid = server.pid();
    server.kill();
    let asked = python().args(["-c", STATEMENT, &database.url, "SELECT 1"]).output().unwrap();
    assert!(!asked.status.success(), "it answers after kill -9");
    server.back();
    run_python(STATEMENT, &[&database.url, "SELECT 1"]);
    assert_ne!(server.pid(), pid);
}

#[test]
fn three_brokers_go_on_without_one() {
    let (cluster, topic) = (Cluster::up(), prefix());
    assert_eq!(talk("make", &cluster.bootstrap, "", &topic, ""), "3");
    assert_eq!(talk("put", &cluster.bootstrap, "", &topic, "all"), "ok");
    cluster.kill(1);
    assert_eq!(talk("put", &cluster.bootstrap, "", &topic, "two"), "ok");
    let pid = cluster.pid(2);
    cluster.start(1);
    cluster.kill(2);
    // The broker that came back must hold the records before the next one may count.
    assert_eq!(talk("put", &cluster.bootstrap, "", &topic, "other two"), "ok");
    assert_eq!(talk("count", &cluster.bootstrap, "", &topic, ""), r#"["all", "two", "other two"]"#);
    cluster.start(2);
    assert_ne!(cluster.pid(2), pid);
}

#[test]
fn java_finds_the_kafka_client() {
    let class = said(Command::new("javap").args(["-cp", &java_class_path(), "org.apache.kafka.clients.producer.KafkaProducer"]));
    assert!(class.contains("initTransactions"), "{class}");
    assert!(Command::new("javac").arg("-version").output().unwrap().status.success());
}

#[test]
fn only_the_engine_may_write_the_journal() {
    let (kafka, prefix) = (SaslKafka::up(), prefix());
    kafka.grant(&prefix);
    let put = |user: &str, topic: &str| {
        talk("put", kafka.bootstrap(), kafka.properties(user).to_str().unwrap(), &format!("{prefix}.{topic}"), user)
    };
    for topic in ["proposals", "journal", "verdicts"] {
        let name = format!("{prefix}.{topic}");
        assert_eq!(talk("make", kafka.bootstrap(), kafka.properties("arbiter").to_str().unwrap(), &name, ""), "1");
        assert_eq!(put("arbiter", topic), "ok");
        let refused = "TOPIC_AUTHORIZATION_FAILED";
        assert_eq!(put("pipeline", topic), if topic == "proposals" { "ok" } else { refused }, "{topic}");
        assert_eq!(put("stranger", topic), refused, "{topic}");
    }
    let read = talk("count", kafka.bootstrap(), kafka.properties("pipeline").to_str().unwrap(), &format!("{prefix}.journal"), "");
    assert_eq!(read, r#"["arbiter"]"#);
}
