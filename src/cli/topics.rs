//! `annals topics`: makes the topics of an engine on Kafka, or says what is wrong with them.

use serde_json::json;

use super::output::Output;
use super::{Exit, Failure};
use crate::config::kafka::{Check, Create, Delete, Kafka, Topics};
use crate::journal::kafka::connect::Connection;
use crate::journal::kafka::topics::{self, Shape, TopicsError};
use crate::journal::open;

/// Runs the command.
///
/// # Errors
/// [`Failure`]; `create` may be run again after any.
pub fn run(args: &Topics, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Topics::Create(args) => create(args, out),
        Topics::Check(args) => check(args, out),
        Topics::Delete(args) => delete(args, out),
    }
}

fn create(args: &Create, out: &mut Output) -> Result<Exit, Failure> {
    args.check().map_err(Failure::Usage)?;
    let connection = connection(&args.kafka)?;
    let shape = Shape { partitions: args.partitions, replication: args.replication_factor, in_sync: args.min_insync_replicas };
    let runtime = runtime()?;
    let made = if args.for_import {
        runtime.block_on(topics::make(&connection, shape))
    } else {
        runtime.block_on(topics::create(&connection, shape))
    };
    let made = made.map_err(failure)?;
    if args.json {
        out.json(&json!({"made": made, "partitions": args.partitions}))?;
    } else {
        made.iter().try_for_each(|name| out.line(&format!("{name}: made")))?;
        out.line(&format!(
            "{}: {}, with {} partitions",
            connection.topic(crate::journal::kafka::connect::Topic::Journal),
            if args.for_import { "to be filled by `annals import`" } else { "open" },
            args.partitions
        ))?;
    }
    Ok(Exit::Done)
}

fn check(args: &Check, out: &mut Output) -> Result<Exit, Failure> {
    args.kafka.check().map_err(Failure::Usage)?;
    let found = runtime()?.block_on(topics::check(&connection(&args.kafka)?)).map_err(failure)?;
    if args.json {
        out.json(&json!({"findings": found}))?;
    } else if found.is_empty() {
        out.line("the topics are as they should be")?;
    }
    for finding in found.iter().filter(|_| !args.json) {
        out.line(&format!("{}: {}: {}", finding.subject, finding.problem, finding.remedy))?;
    }
    Ok(if found.is_empty() { Exit::Done } else { Exit::No })
}

fn delete(args: &Delete, out: &mut Output) -> Result<Exit, Failure> {
    args.kafka.check().map_err(Failure::Usage)?;
    let gone = runtime()?.block_on(topics::delete(&connection(&args.kafka)?)).map_err(failure)?;
    gone.iter().try_for_each(|name| out.line(&format!("{name}: deleted")))?;
    Ok(Exit::Done)
}

fn connection(kafka: &Kafka) -> Result<Connection, Failure> {
    Ok(open::connection(kafka).map_err(anyhow::Error::from)?)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?)
}

fn failure(error: TopicsError) -> Failure {
    match error {
        TopicsError::Kafka(_) => Failure::Unavailable(error.to_string()),
        TopicsError::FewBrokers { .. } => Failure::Usage(error.to_string()),
        other => Failure::Failed(other.into()),
    }
}
