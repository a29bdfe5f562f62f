//! The description of the topics is valid, names every kind, and fits the records that there are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use annals_events::kind::{About, Kind};

fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `tests/run`, which provides it"))
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("events/asyncapi.yaml")
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn validate(file: &Path) -> Output {
    Command::new(tool("ANNALS_TEST_ASYNCAPI_VALIDATOR")).arg(file).output().unwrap()
}

#[test]
fn the_asyncapi_document_is_valid() {
    let output = validate(&document());
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let text = std::fs::read_to_string(document()).unwrap();
    for (right, wrong, said) in [
        ("action: receive", "action: receives", "'receives' is not one of"),
        ("/schemas/verdict'", "/schemas/verdicts'", "#/components/schemas/verdicts is not there"),
        ("alias.set.v1.data.json", "alias.sat.v1.data.json", "alias.sat.v1.data.json is not there"),
    ] {
        let broken = text.replacen(right, wrong, 1);
        assert_ne!(broken, text, "{right}");
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(document().with_file_name("schemas"), folder.path().join("schemas")).unwrap();
        std::fs::write(folder.path().join("asyncapi.yaml"), broken).unwrap();
        let output = validate(&folder.path().join("asyncapi.yaml"));
        assert!(!output.status.success() && told(&output).contains(said), "{said}: {}", told(&output));
    }
}

#[test]
fn every_kind_has_its_messages() {
    let text = std::fs::read_to_string(document()).unwrap();
    for kind in Kind::ALL {
        let is_proposed = kind.about() != About::Engine;
        assert_eq!(text.contains(&format!("\n    proposal.{kind}:\n")), is_proposed, "{kind}");
        assert!(text.contains(&format!("\n    record.{kind}:\n      name: {}\n", kind.name())), "{kind}");
        assert!(text.contains(&format!("      record.{kind}: {{$ref: '#/components/messages/record.{kind}'}}\n")), "{kind}");
    }
}

/// Runs the check of messages over files of records.
fn check(files: &[PathBuf]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/asyncapi_check.py");
    Command::new(tool("ANNALS_TEST_PYTHON")).args([script, "--records"]).args(files).output().unwrap()
}

#[test]
fn every_golden_record_fits_the_description_and_a_spoilt_one_does_not() {
    let golden = document().with_file_name("golden");
    let files: Vec<PathBuf> = Kind::ALL.iter().map(|kind| golden.join(format!("{kind}.v1.json"))).collect();
    let output = check(&files);
    assert!(output.status.success(), "{}", told(&output));
    let text = std::fs::read_to_string(golden.join("version.promoted.v1.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spoilt = folder.path().join("spoilt.json");
    for (right, wrong, said) in [
        ("\"ce_rules\"", "\"ce_rulez\"", "'ce_rules' is a required property"),
        ("\"7\"", "\"07\"", "does not match"),
        ("\"default/iris\"", "\"iris\"", "key $"),
        (r#"\"channel\":\"production\""#, r#"\"channel\":7"#, "payload $.data.channel"),
        (r#"\"restored\":false"#, r#"\"restored\":0"#, "payload $.decided.restored"),
        ("version.promoted.v1\"", "version.renamed.v1\"", "fits no message"),
    ] {
        let broken = text.replacen(right, wrong, 1);
        assert_ne!(broken, text, "{right}");
        std::fs::write(&spoilt, broken).unwrap();
        let output = check(std::slice::from_ref(&spoilt));
        assert!(!output.status.success() && told(&output).contains(said), "{said}: {}", told(&output));
    }
}
