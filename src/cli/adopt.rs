//! `annals adopt`: what somebody made on a cluster by hand becomes a deployment.

use serde_json::json;

use super::client::{Client, Method, Path};
use super::output::Output;
use super::{Exit, Failure};
use crate::config::kubernetes::Adopt;

/// Runs the command.
///
/// # Errors
/// [`Failure`] in the words of the engine.
pub fn run(args: &Adopt, out: &mut Output) -> Result<Exit, Failure> {
    let parts: Vec<&str> = args.object.split('/').collect();
    let [cluster, namespace, name] = parts[..] else {
        return Err(Failure::Usage(format!("`{}` is not CLUSTER/NAMESPACE/NAME", args.object)));
    };
    let mut body = json!({"cluster": cluster, "namespace": namespace, "name": name, "model": args.model, "version": args.version});
    for (member, value) in [("channel", &args.channel), ("actor", &args.actor)] {
        if let Some(value) = value {
            body[member] = json!(value);
        }
    }
    let path = Path::new(&["v1", "clusters", "adopt"]).with("workspace", &args.workspace.workspace);
    let taken = Client::new(&args.remote.url).change(Method::Post, &path, &body)?;
    if args.remote.json {
        out.json(&taken)?;
    } else {
        let deployment = taken["deployment"].as_str().unwrap_or_default();
        out.line(&format!("{} is the deployment {} of version {} of {}", args.object, deployment, args.version, args.model))?;
    }
    Ok(Exit::Done)
}
