//! Kubernetes at the door: how the clusters answer, and taking over what somebody made there by hand.

use std::sync::Arc;

use annals_events::names::Key;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Router, routing};
use serde::{Deserialize, Serialize};

use super::App;
use super::extract::Query;
use super::problem::Problem;
use super::rules::{Within, parse};
use crate::world::kubernetes::Deployer;
use crate::world::kubernetes::adopt::{Adopt, NotAdopted};
use crate::world::kubernetes::cluster::{Target, Trouble};
use crate::world::propose::NotProposed;

/// The paths of clusters.
pub fn paths() -> Router<App> {
    Router::new().route("/v1/clusters", routing::get(list)).route("/v1/clusters/adopt", routing::post(adopt))
}

/// The clusters that this instance was told of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Clusters {
    /// By name.
    clusters: Vec<ClusterState>,
    /// What cannot be watched.
    unwatched: Vec<Unwatched>,
}

/// How a cluster answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClusterState {
    /// What rules call it.
    name: String,
    /// The version of its API server, if it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What is wrong, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// A namespace that cannot be watched.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Unwatched {
    /// The cluster.
    cluster: String,
    /// The namespace.
    namespace: String,
    /// Why.
    trouble: String,
}

/// Tells how the clusters answer.
#[utoipa::path(get, operation_id = "clusters_list", path = "/v1/clusters", tag = "world", responses((status = 200, description = "the clusters that this instance was told of", body = Clusters)))]
pub async fn list(State(app): State<App>) -> Response {
    let Some(deployer) = &app.deployer else { return super::json(&Clusters { clusters: Vec::new(), unwatched: Vec::new() }) };
    let clusters = deployer.check().await.into_iter().map(|(name, answer)| match answer {
        Ok(version) => ClusterState { name, version: Some(version), trouble: None },
        Err(trouble) => ClusterState { name, version: None, trouble: Some(trouble.to_string()) },
    });
    let blind = deployer.blind().into_iter();
    let unwatched = blind.map(|(place, trouble)| Unwatched { cluster: place.cluster, namespace: place.namespace, trouble });
    super::json(&Clusters { clusters: clusters.collect(), unwatched: unwatched.collect() })
}

/// What is to be taken over.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The cluster, as the engine was told of it.
    cluster: String,
    /// The namespace.
    namespace: String,
    /// The object's name.
    name: String,
    /// The model that it serves.
    model: String,
    /// The number of the version that it runs.
    version: u64,
    /// The channel that it serves; it must hold the version.
    #[serde(default)]
    channel: Option<String>,
    /// Who says so.
    #[serde(default)]
    actor: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Taken {
    /// The deployment that it is now.
    deployment: String,
    /// Where the journal says so: `partition:seq` of each event.
    positions: Vec<String>,
}

/// Takes over an object that somebody made by hand: it is a deployment from then on.
#[utoipa::path(post, operation_id = "cluster_adopt", path = "/v1/clusters/adopt", tag = "world", params(Within), request_body = Wanted, responses(
    (status = 201, description = "taken over", body = Taken),
    (status = "4XX", description = "there is no such object, or it is one of ours", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "the cluster does not answer", body = Problem, content_type = "application/problem+json"),
))]
pub async fn adopt(State(app): State<App>, Query(within): Query<Within>, body: axum::body::Bytes) -> Result<Response, Problem> {
    let wanted: Wanted = parse(&body)?;
    let deployer: Arc<Deployer> = app.deployer.clone().ok_or_else(|| unknown(&Trouble::Unknown(wanted.cluster.clone())))?;
    let key = Key::new(within.workspace(), &wanted.model).map_err(|e| Problem::bad_request("bad-name", e, "name the model"))?;
    let adopt = Adopt {
        target: Target { cluster: wanted.cluster, namespace: wanted.namespace, name: wanted.name },
        key: key.as_str().to_owned(),
        version: wanted.version,
        channel: wanted.channel,
        actor: wanted.actor.unwrap_or_else(|| "unknown".into()),
    };
    let taken = deployer.adopt(&adopt).await.map_err(problem)?;
    let positions = taken.events.into_iter().filter_map(|event| event.position).collect();
    let mut response = super::json(&Taken { deployment: taken.deployment, positions });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn problem(not: NotAdopted) -> Problem {
    match not {
        NotAdopted::Missing(_) => Problem::not_found("no-such-object", not, "name cluster, namespace and name as `kubectl get` does"),
        NotAdopted::Ours { .. } => Problem::new(StatusCode::CONFLICT, "adopted-already", not, "nothing is left to do"),
        NotAdopted::Trouble(trouble) => unknown(&trouble),
        NotAdopted::NotProposed(NotProposed::Refused(refusal)) => Problem::from(*refusal),
        NotAdopted::NotProposed(NotProposed::Unsettled(_)) | NotAdopted::Unknown(_) => {
            Problem::unavailable("not-settled", not, "do it again")
        }
    }
}

fn unknown(trouble: &Trouble) -> Problem {
    match trouble {
        Trouble::Unknown(_) => Problem::not_found("no-such-cluster", trouble, "name one that `annals doctor` lists"),
        Trouble::Away(_) | Trouble::Moved => Problem::unavailable("cluster-away", trouble, "do it again when the cluster answers"),
        _ => Problem::new(StatusCode::CONFLICT, "cluster-refuses", trouble, "do what the cluster asks for, then do it again"),
    }
}
