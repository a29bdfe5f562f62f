//! `docker-compose.yml`, as far as it can be judged without docker: against the specification, and against what the tests run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::services::{python, run_python, said, script};
use crate::stage::directory;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compose() -> Value {
    let code = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    serde_json::from_str(&run_python(code, &[root().join("docker-compose.yml").to_str().unwrap()])).unwrap()
}

/// The specification's own schema, as `check-jsonschema` carries it.
fn judge(file: &Path) -> Output {
    python().args(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]).arg(file).output().unwrap()
}

#[test]
fn the_file_fits_the_compose_specification() {
    let file = root().join("docker-compose.yml");
    let good = judge(&file);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    let text = std::fs::read_to_string(file).unwrap();
    let dir = directory();
    for (from, to) in
        [("service_healthy", "service_well"), ("dockerfile_inline:", "dockerfile_in_line:"), ("interval: 5s", "intervals: 5s")]
    {
        assert!(text.contains(from));
        let broken = dir.path().join("docker-compose.yml");
        std::fs::write(&broken, text.replace(from, to)).unwrap();
        assert!(!judge(&broken).status.success(), "`{to}` was not found");
    }
}

#[test]
fn every_port_is_open_to_this_machine_only() {
    let compose = compose();
    let ports: Vec<&Value> = compose["services"].as_object().unwrap().values().filter_map(|s| s["ports"].as_array()).flatten().collect();
    assert!(ports.len() > 5, "{ports:?}");
    for port in ports {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{port}");
    }
}

/// The lines of a Java properties file.
fn properties(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(key, value)| (key.trim().into(), value.trim().into())).collect()
}

/// A value with `${NAME:-default}` in it, where no NAME is set.
fn interpolated(text: &str) -> String {
    let mut rest = text.to_owned();
    while let Some((before, behind)) = rest.split_once("${") {
        let (variable, after) = behind.split_once('}').unwrap();
        rest = format!("{before}{}{after}", variable.split_once(":-").map_or("", |(_, default)| default));
    }
    rest
}

/// What says where a broker is and what it is called, not how it behaves.
const OWN: [&str; 9] = [
    "process.roles",
    "node.id",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.listener.names",
    "controller.quorum.voters",
    "log.dirs",
];

/// The image's own program turns the service's variables into settings and prepares the data with them.
#[test]
fn kafka_has_the_settings_of_the_tests() {
    let (compose, dir) = (compose(), directory());
    let folder = |name: &str| -> PathBuf {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let (given, mounted, made, data) = (folder("default"), folder("mounted"), folder("made"), folder("data"));
    for file in ["server.properties", "log4j2.yaml", "tools-log4j2.yaml"] {
        std::fs::write(given.join(file), "").unwrap();
    }
    let jars = said(script("kafka").arg("jars"));
    let mut setup = Command::new("java");
    setup.args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{jars}/*"), "kafka.docker.KafkaDockerWrapper", "setup"]);
    setup.arg("--default-configs-dir").arg(given).arg("--mounted-configs-dir").arg(mounted).arg("--final-configs-dir").arg(&made);
    for (name, value) in compose["services"]["kafka"]["environment"].as_object().unwrap() {
        setup.env(name, interpolated(value.as_str().unwrap()));
    }
    said(setup.env("KAFKA_LOG_DIRS", &data));
    assert!(data.join("meta.properties").is_file(), "the data is not prepared");

    let mut found = properties(&std::fs::read_to_string(made.join("server.properties")).unwrap());
    found.retain(|key, _| !OWN.contains(&key.as_str()));
    assert_eq!(found, properties(&std::fs::read_to_string(root().join("tests/services/kafka.properties")).unwrap()));
}

#[test]
fn the_servers_have_the_versions_of_the_tests() {
    let compose = compose();
    let version = |service: &str| {
        let image = compose["services"][service]["image"].as_str().unwrap().to_owned();
        image.rsplit_once(':').unwrap().1.to_owned()
    };
    for (service, file, artifact) in [
        ("kafka", "kafka.sh", "org.apache.kafka:kafka_2.13:"),
        ("schema-registry", "schema-registry", "io.apicurio:apicurio-registry-app:"),
    ] {
        let text = std::fs::read_to_string(root().join("tests/services").join(file)).unwrap();
        let (_, rest) = text.split_once(artifact).unwrap();
        assert!(rest.starts_with(&version(service)), "{service} is {}, and in the tests {}", version(service), &rest[..8]);
    }
}

/// What a build copies must be there, and what a service mounts must be ours.
#[test]
fn the_image_is_built_from_what_is_there() {
    let compose = compose();
    let recipe = compose["services"]["annals"]["build"]["dockerfile_inline"].as_str().unwrap();
    let copied: Vec<&str> = recipe.lines().filter_map(|l| l.strip_prefix("COPY ")).filter(|l| !l.starts_with("--from")).collect();
    assert!(copied.len() >= 6, "{copied:?}");
    for words in copied {
        let mut sources: Vec<&str> = words.split_whitespace().collect();
        sources.pop();
        for source in sources {
            assert!(root().join(source).exists(), "COPY {words}: there is no `{source}`");
        }
    }
    for needed in ["gcc", "make", "pkg-config", "libssl-dev", "zlib1g-dev", "libssl3", "zlib1g"] {
        assert!(recipe.contains(needed), "librdkafka needs {needed}");
    }
}
