//! The published schemas are schemas, and say what the code says.

use serde_json::{Value, json};

use super::*;

fn parsed(kind: Kind, half: Half) -> Value {
    serde_json::from_str(text(kind, half)).unwrap()
}

fn halves() -> impl Iterator<Item = (Kind, Half)> {
    Kind::ALL.iter().flat_map(|kind| [(*kind, Half::Data), (*kind, Half::Decided)])
}

/// Calls `visit` with every subschema that is an object's property, and its path.
fn properties(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        visit(&path, property);
        properties(property, &path, visit);
        properties(&property["items"], &path, visit);
    }
}

#[test]
fn every_compiled_in_schema_is_a_valid_2020_12_schema() {
    for (kind, half) in halves() {
        let schema = parsed(kind, half);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{kind}");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{kind} {half:?}");
        compile(text(kind, half));
    }
}

#[test]
fn every_schema_says_which_it_is_and_describes_each_property() {
    for (kind, half) in halves() {
        let schema = parsed(kind, half);
        let word = if half == Half::Data { "data" } else { "decided" };
        assert_eq!(schema["$id"], format!("https://annals.dev/schemas/{}.{word}.json", kind.name()));
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{kind} {half:?}");
        properties(&schema, "", &mut |path, property| {
            assert!(property["description"].is_string(), "{kind} {half:?} {path} has no description");
        });
    }
}

#[test]
fn an_unknown_member_is_named() {
    for kind in Kind::ALL.iter().filter(|k| **k != Kind::ProposalRefused) {
        let found = violations(*kind, Half::Data, &json!({ "artefact": 1 }));
        assert!(found.iter().any(|v| v.message.contains("artefact")), "{kind}: {found:?}");
    }
    let nested = json!({ "artifact": { "uri": "s3://iris/model.pkl", "diggest": "x" } });
    let found = violations(Kind::VersionRegistered, Half::Data, &nested);
    assert!(found.iter().any(|v| v.field == "/artifact" && v.message.contains("diggest")), "{found:?}");
}

#[test]
fn a_violation_is_named_by_field_and_stays_short_whatever_the_value() {
    let long = json!({ "artifact": { "digest": "x".repeat(100_000) } });
    let found = violations(Kind::VersionRegistered, Half::Data, &long);
    assert_eq!(found.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["/artifact/digest"]);
    assert!(found[0].message.len() <= MESSAGE_BYTES_MAX, "{}", found[0].message.len());
}

#[test]
fn a_reason_is_required_where_something_is_taken_away_or_judged() {
    use Kind::{AliasRemoved, ApprovalDecided, DeploymentRemoved, DeploymentRolledBack, VersionDemoted, VersionRetired};
    for kind in Kind::ALL {
        let required = parsed(*kind, Half::Data)["required"].as_array().is_some_and(|r| r.contains(&json!("reason")));
        let taken = [AliasRemoved, ApprovalDecided, DeploymentRemoved, DeploymentRolledBack, VersionDemoted, VersionRetired];
        let wanted = taken.contains(kind);
        assert_eq!(required, wanted, "{kind}");
    }
}

#[test]
fn times_and_control_characters_are_checked() {
    let trained = |run: &str, started: &str| {
        let data = json!({ "run": { "id": run }, "artifact": { "uri": "s3://iris/model.pkl" }, "started": started });
        violations(Kind::RunTrained, Half::Data, &data).iter().map(|v| v.field.clone()).collect::<Vec<_>>()
    };
    assert!(trained("run-1", "2026-03-01T12:00:00Z").is_empty());
    assert!(trained("læring/1 ü", "2026-03-01T12:00:00+01:00").is_empty());
    assert_eq!(trained("run\n1", "2026-03-01T12:00:00Z"), ["/run/id"]);
    assert_eq!(trained("run\u{85}1", "2026-03-01T12:00:00Z"), ["/run/id"]);
    assert_eq!(trained("", "2026-03-01T12:00:00Z"), ["/run/id"]);
    assert_eq!(trained("run-1", "yesterday"), ["/started"]);
}
