//! The manifest of a deployment: a template with `{…}`, filled in for one version and checked.
//!
//! What is filled in comes from whoever registers versions. So the template is parsed first, and the
//! values go into its strings: no value can become a member, a list or another object.

use serde_json::{Map, Value, json};

use crate::world::rule::{Format, Kubernetes};

/// The built-in template of a Deployment.
pub const DEPLOYMENT: &str = include_str!("template/deployment.yaml");
/// The built-in template of a KServe InferenceService.
pub const INFERENCE_SERVICE: &str = include_str!("template/inferenceservice.yaml");
/// The group of KServe.
pub const KSERVE: &str = "serving.kserve.io";
/// The namespace unless the rule names one.
pub const NAMESPACE: &str = "default";

/// Around a placeholder's number while the template is parsed: no template has use for these characters.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// What is filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// `{model}`.
    pub model: String,
    /// `{version}`.
    pub version: u64,
    /// `{channel}`.
    pub channel: String,
    /// `{digest}`; a version may have none.
    pub digest: Option<String>,
    /// `{uri}`.
    pub uri: Option<String>,
    /// `{name}`.
    pub name: String,
    /// `{namespace}`.
    pub namespace: String,
}

/// Why there is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template cannot be used: {0}")]
pub struct BadTemplate(pub String);

/// What a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A Deployment.
    Deployment,
    /// An InferenceService.
    InferenceService,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What it makes.
    pub made: Made,
    /// `apiVersion`.
    pub api_version: String,
    /// The whole object.
    pub object: Map<String, Value>,
}

const NAMES: [&str; 9] = ["model", "version", "channel", "digest", "uri", "image", "replicas", "name", "namespace"];

/// The manifest that a rule makes of a version.
///
/// # Errors
/// What is wrong with the template, and where.
pub fn manifest(rule: &Kubernetes, values: &Values) -> Result<Manifest, BadTemplate> {
    let text = match (&rule.template, rule.format) {
        (Some(template), _) => template.clone(),
        (None, Some(Format::InferenceService)) => INFERENCE_SERVICE.to_owned(),
        (None, Some(Format::Deployment) | None) => deployment(values),
    };
    let mut object = filled(&text, &|name| value(rule, values, name))?;
    let (made, api_version) = kind(&object)?;
    let metadata = member(&mut object, "metadata");
    for (name, wanted) in [("name", &values.name), ("namespace", &values.namespace)] {
        match metadata.get(name) {
            None => drop(metadata.insert(name.into(), json!(wanted))),
            Some(Value::String(found)) if found == wanted => {}
            Some(found) => return Err(BadTemplate(format!("metadata.{name} is {found} and must be {{{name}}}, here `{wanted}`"))),
        }
    }
    match made {
        Made::Deployment => check_containers(&object)?,
        Made::InferenceService => check_predictor(&object)?,
    }
    if let (Made::Deployment, Some(deadline)) = (made, rule.deadline_s) {
        member(&mut object, "spec").entry("progressDeadlineSeconds").or_insert(json!(deadline));
    }
    Ok(Manifest { made, api_version, object })
}

/// The built-in Deployment, without what this version does not have.
fn deployment(values: &Values) -> String {
    let mut text = DEPLOYMENT.to_owned();
    for (name, is_missing) in [("uri", values.uri.is_none()), ("digest", values.digest.is_none())] {
        let lines = format!("        - name: MODEL_{}\n          value: {{{name}}}\n", name.to_uppercase());
        if is_missing {
            text = text.replace(&lines, "");
        }
    }
    text
}

fn value(rule: &Kubernetes, values: &Values, name: &str) -> Result<Value, String> {
    let missing = |what: &str| format!("version {} has no {what}", values.version);
    Ok(match name {
        "model" => json!(values.model),
        "version" => json!(values.version.to_string()),
        "channel" => json!(values.channel),
        "digest" => json!(values.digest.as_ref().ok_or_else(|| missing("digest"))?),
        "uri" => json!(values.uri.as_ref().ok_or_else(|| missing("uri"))?),
        "image" => json!(image(rule, values)?),
        "replicas" => json!(rule.replicas.unwrap_or(1)),
        "name" => json!(values.name),
        "namespace" => json!(values.namespace),
        other => return Err(format!("`{{{other}}}` is not known; there are {}", NAMES.map(|n| format!("{{{n}}}")).join(", "))),
    })
}

/// The rule's image, which has places to fill in of its own.
fn image(rule: &Kubernetes, values: &Values) -> Result<String, String> {
    let text = rule.image.as_ref().ok_or("the rule names no `image`")?;
    let inner = |name: &str| match name {
        "image" => Err("`image` cannot stand in itself".into()),
        other => value(rule, values, other),
    };
    let (marked, found) = marked(text, &inner).map_err(|bad| format!("in `image`, {}", bad.0))?;
    Ok(filled_text(&marked, &found))
}

/// Parses the template and fills in its strings.
fn filled(text: &str, value: &dyn Fn(&str) -> Result<Value, String>) -> Result<Map<String, Value>, BadTemplate> {
    let (marked, found) = marked(text, value)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&marked).map_err(|e| {
        let said = e.to_string();
        BadTemplate(format!("it is neither YAML nor JSON: {}", unmarked(said.lines().next().unwrap_or_default(), &found)))
    })?;
    let mut documents = documents.into_iter().filter(|document| !document.is_null());
    match (documents.next(), documents.next()) {
        (Some(mut document), None) => {
            fill(&mut document, &found);
            match document {
                Value::Object(object) => Ok(object),
                other => Err(BadTemplate(format!("it must be an object, not {}", shape(&other)))),
            }
        }
        (None, _) => Err(BadTemplate("it is empty".into())),
        (Some(_), Some(_)) => Err(BadTemplate("it holds several objects: give each a rule of its own".into())),
    }
}

type Found = Vec<(String, Value)>;

/// The text with a mark for each `{word}`, and what each mark stands for.
fn marked(text: &str, value: &dyn Fn(&str) -> Result<Value, String>) -> Result<(String, Found), BadTemplate> {
    if text.contains([OPEN, CLOSE]) {
        return Err(BadTemplate("it holds characters for private use (U+E000, U+E001)".into()));
    }
    let (mut out, mut found, mut rest) = (String::with_capacity(text.len()), Vec::new(), text);
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let end = behind.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(behind.len());
        if end > 0 && behind[end..].starts_with('}') {
            let word = &behind[..end];
            let line = text[..text.len() - rest.len() + at].matches('\n').count() + 1;
            let value = value(word).map_err(|why| BadTemplate(format!("line {line}: {why}")))?;
            out.push_str(&format!("{OPEN}{}{CLOSE}", found.len()));
            found.push((word.to_owned(), value));
            rest = &behind[end + 1..];
        } else {
            out.push('{');
            rest = behind;
        }
    }
    out.push_str(rest);
    Ok((out, found))
}

fn unmarked(text: &str, found: &Found) -> String {
    found
        .iter()
        .enumerate()
        .fold(text.to_owned(), |text, (n, (word, _))| text.replace(&format!("{OPEN}{n}{CLOSE}"), &format!("{{{word}}}")))
}

fn fill(value: &mut Value, found: &Found) {
    match value {
        Value::String(text) => {
            // Alone it is what it stands for, so that a number stays one; in a text it is text.
            if let Some(whole) = text.strip_prefix(OPEN).and_then(|t| t.strip_suffix(CLOSE)).and_then(|n| n.parse::<usize>().ok()) {
                *value = found[whole].1.clone();
            } else if text.contains(OPEN) {
                *text = filled_text(text, found);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, found)),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, mut value)| {
                    fill(&mut value, found);
                    (filled_text(&name, found), value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled_text(text: &str, found: &Found) -> String {
    let mut out = String::new();
    for part in text.split(OPEN) {
        match part.split_once(CLOSE).and_then(|(n, rest)| Some((found.get(n.parse::<usize>().ok()?)?, rest))) {
            Some(((_, Value::String(value)), rest)) => out.extend([value, rest]),
            Some(((_, value), rest)) => out.extend([&value.to_string(), rest]),
            None => out.push_str(part),
        }
    }
    out
}

fn kind(object: &Map<String, Value>) -> Result<(Made, String), BadTemplate> {
    let text = |name: &str| match object.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(BadTemplate(format!("`{name}` is missing"))),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    match (version.split_once('/').map_or("", |(group, _)| group), kind) {
        ("apps", "Deployment") => Ok((Made::Deployment, version.into())),
        (KSERVE, "InferenceService") => Ok((Made::InferenceService, version.into())),
        _ => Err(BadTemplate(format!(
            "it makes a {kind} of {version}; it must make a Deployment of apps/v1 or an InferenceService of {KSERVE}/v1beta1"
        ))),
    }
}

fn check_containers(object: &Map<String, Value>) -> Result<(), BadTemplate> {
    const WHERE: &str = "spec.template.spec.containers";
    let spec = object.get("spec").and_then(|spec| spec.pointer("/template/spec/containers"));
    let containers = spec.and_then(Value::as_array).filter(|list| !list.is_empty());
    let containers = containers.ok_or_else(|| BadTemplate(format!("{WHERE} is missing: a Deployment must name a container")))?;
    for (n, container) in containers.iter().enumerate() {
        for name in ["name", "image"] {
            if container[name].as_str().is_none_or(str::is_empty) {
                return Err(BadTemplate(format!("{WHERE}[{n}].{name} is missing")));
            }
        }
    }
    Ok(())
}

fn check_predictor(object: &Map<String, Value>) -> Result<(), BadTemplate> {
    let predictor = object.get("spec").and_then(|spec| spec.get("predictor")).and_then(Value::as_object);
    match predictor {
        Some(predictor) if !predictor.is_empty() => Ok(()),
        _ => Err(BadTemplate("spec.predictor is missing: an InferenceService must name a predictor".into())),
    }
}

/// A member that is an object; made if it is missing, replaced if it is none.
pub(super) fn member<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = object.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one above")
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "template/tests.rs"]
mod tests;
