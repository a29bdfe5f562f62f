//! What we write on an object, so that it says which deployment it is: on the object itself, never on
//! its pods, which would be restarted by each event.

use serde_json::{Map, Value, json};

use super::template::{Manifest, member};

/// Who made it, as a label: `kubectl get deployments -l app.kubernetes.io/managed-by=annals`.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "annals");
/// Before the name of each annotation.
const PREFIX: &str = "annals.dev/";

/// What an object says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// `workspace/model`.
    pub model: String,
    /// The version that it runs.
    pub version: u64,
    /// Its digest.
    pub digest: Option<String>,
    /// The channel that it serves.
    pub channel: Option<String>,
    /// The deployment's id.
    pub deployment: String,
    /// The event that made it so.
    pub event: String,
    /// Its place, `partition:seq`.
    pub position: String,
    /// Its count among the model's events: what is older never goes over it.
    pub modelseq: u64,
    /// The deployment that failed here, if this is what it was rolled back to.
    pub rolled_back: Option<String>,
}

impl Mark {
    /// What is written on an object; `None` if it is none of ours.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let annotations = object.pointer("/metadata/annotations")?;
        let text = |name: &str| annotations.get(format!("{PREFIX}{name}")).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            model: text("model")?,
            version: text("version")?.parse().ok()?,
            digest: text("digest"),
            channel: text("channel"),
            deployment: text("deployment")?,
            event: text("event")?,
            position: text("position")?,
            modelseq: text("modelseq")?.parse().ok()?,
            rolled_back: text("rolled-back"),
        })
    }

    fn annotations(&self) -> Map<String, Value> {
        [
            ("model", Some(self.model.clone())),
            ("version", Some(self.version.to_string())),
            ("digest", self.digest.clone()),
            ("channel", self.channel.clone()),
            ("deployment", Some(self.deployment.clone())),
            ("event", Some(self.event.clone())),
            ("position", Some(self.position.clone())),
            ("modelseq", Some(self.modelseq.to_string())),
            ("rolled-back", self.rolled_back.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{PREFIX}{name}"), json!(value?))))
        .collect()
    }

    /// Writes it on a manifest.
    pub fn put_on(&self, manifest: &mut Manifest) {
        let metadata = member(&mut manifest.object, "metadata");
        member(metadata, "annotations").extend(self.annotations());
        member(metadata, "labels").insert(MANAGED_BY.0.into(), json!(MANAGED_BY.1));
    }

    /// Whether this may go over what is there.
    ///
    /// # Errors
    /// Why not.
    pub fn may_replace(&self, found: &Self) -> Result<(), NotOver> {
        let elsewhere = |(ours, theirs): (&String, &String)| ours != theirs;
        if found.model != self.model {
            return Err(NotOver::Others(found.model.clone()));
        }
        if self.channel.as_ref().zip(found.channel.as_ref()).is_some_and(elsewhere) {
            return Err(NotOver::Others(format!("{} in {}", found.model, found.channel.as_deref().unwrap_or_default())));
        }
        if found.modelseq > self.modelseq {
            return Err(NotOver::Newer { version: found.version, modelseq: found.modelseq });
        }
        if found.modelseq == self.modelseq && found.rolled_back.as_ref() == Some(&self.deployment) {
            return Err(NotOver::RolledBack);
        }
        Ok(())
    }
}

/// Why something may not go over what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOver {
    /// It serves another model, or this one in another channel.
    Others(String),
    /// It is there by a newer event.
    Newer {
        /// The version there.
        version: u64,
        /// That event's count.
        modelseq: u64,
    },
    /// The same deployment failed there and was rolled back.
    RolledBack,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::kubernetes::template::Made;

    fn mark(modelseq: u64) -> Mark {
        Mark {
            model: "default/iris".into(),
            version: 2,
            deployment: format!("d-{modelseq}"),
            event: "e".into(),
            position: "1:2".into(),
            modelseq,
            ..Mark::default()
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_pod_has_it() {
        let object = json!({"spec": {"template": {"metadata": {"labels": {"app": "x"}}}}});
        let mut manifest = Manifest { made: Made::Deployment, api_version: "apps/v1".into(), object: object.as_object().unwrap().clone() };
        mark(4).put_on(&mut manifest);
        let written = Value::Object(manifest.object);
        assert_eq!(Mark::of(&written), Some(mark(4)));
        assert_eq!(
            (&written["spec"], &written["metadata"]["labels"]),
            (&object["spec"], &json!({"app.kubernetes.io/managed-by": "annals"}))
        );
        assert_eq!(Mark::of(&json!({"metadata": {"annotations": {"annals.dev/model": "default/iris"}}})), None);
    }

    #[test]
    fn nothing_older_and_no_other_model_goes_over_it() {
        assert_eq!(mark(4).may_replace(&mark(4)), Ok(()));
        assert_eq!(mark(4).may_replace(&mark(3)), Ok(()));
        assert_eq!(mark(3).may_replace(&mark(4)), Err(NotOver::Newer { version: 2, modelseq: 4 }));
        assert_eq!(mark(9).may_replace(&Mark { model: "default/other".into(), ..mark(4) }), Err(NotOver::Others("default/other".into())));
        let staging = Mark { channel: Some("staging".into()), ..mark(4) };
        let production = Mark { channel: Some("production".into()), ..mark(9) };
        assert_eq!(production.may_replace(&staging), Err(NotOver::Others("default/iris in staging".into())));
        assert_eq!((production.may_replace(&mark(4)), mark(9).may_replace(&staging)), (Ok(()), Ok(())));
        let back = Mark { version: 1, deployment: "d-1".into(), rolled_back: Some("d-4".into()), ..mark(4) };
        assert_eq!(mark(4).may_replace(&back), Err(NotOver::RolledBack));
    }
}
