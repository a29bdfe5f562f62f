//! Every flag and every variable, read once: nothing else in the program looks at either.

pub mod ask;
pub mod git;
pub mod kafka;
pub mod kubernetes;
pub mod offline;
pub mod search;
pub mod trigger;
pub mod webhook;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use ask::{At, Deployments, Drift, Emit, Get, Lineage, List, Replay, Subscribe, Timeline};
use kafka::{Kafka, Role, Topics};
use offline::{Import, Partition};
use trigger::Trigger;
use webhook::{Delivery, Webhook};

/// Where a server listens, and clients look for it, unless told otherwise.
pub const URL: &str = "http://127.0.0.1:8400";

const AFTER_HELP: &str = "Exit codes: 0 accepted or duplicate; 1 refused, or verification failed; 2 usage; \
                          69 unavailable; 75 not settled yet.\n\
                          Times are RFC 3339 (2026-03-01T12:00:00Z); a position is what answers name, such as 3:17.";

/// An event-sourced lifecycle engine for machine-learning models.
#[derive(Debug, Parser)]
#[command(name = "annals", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Config {
    /// How log lines look; they go to standard error, and RUST_LOG chooses which
    #[arg(long, global = true, env = "ANNALS_LOG_FORMAT", value_enum, default_value = "text", hide_env_values = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the engine: the journal, its views and the HTTP door
    Serve(Serve),
    /// Propose an event and wait for the verdict
    Emit(Emit),
    /// Tell of drift as other tools report it
    #[command(subcommand)]
    Drift(Drift),
    /// Show one thing: a model, a version, what a channel or an alias names, a deployment, a proposal
    Get(Get),
    /// List models, or what a model has
    List(List),
    /// Show what happened, one line an event
    Timeline(Timeline),
    /// Find models and versions by words
    Search(search::Search),
    /// Show what is wanted on each target beside what was found there
    Deployments(Deployments),
    /// Show where a version comes from and where it runs
    Lineage(Lineage),
    /// Show what every channel held at a time
    At(At),
    /// Write the journal's events to standard output as CloudEvents, one a line
    Replay(Replay),
    /// Follow the events as they happen
    Subscribe(Subscribe),
    /// Deliver events to a URL
    #[command(subcommand)]
    Webhook(Webhook),
    /// Act when something happens
    #[command(subcommand)]
    Trigger(Trigger),
    /// Take over what somebody made on a cluster by hand: it is a deployment from then on
    Adopt(kubernetes::Adopt),
    /// Look commits up, and have commits of a model's file told
    #[command(subcommand)]
    Git(git::Git),
    /// Check the journal
    #[command(subcommand)]
    Audit(Audit),
    /// Write the journal into one file that anybody can check
    Export(Export),
    /// Make a new journal from an exported one, with all its hashes; or register what another system has
    Import(Import),
    /// Copy the journal of an engine, running or not, into a directory
    Backup(Backup),
    /// Build a view anew from the journal, beside the old one, then switch
    Rebuild(Rebuild),
    /// List the event types, or show the JSON Schema of one
    Schemas(Schemas),
    /// Decide about a partition that stands still
    #[command(subcommand)]
    Partition(Partition),
    /// Make or check the topics of an engine on Kafka
    #[command(subcommand)]
    Topics(Topics),
    /// Say how the engine is, and what to do about it
    Doctor(Doctor),
}

/// The engine.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Directory of the journal and the views, or with --kafka of the snapshots only; made if it is missing
    #[arg(long, env = "ANNALS_DATA", default_value = "./annals-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Keep the journal on Kafka, not in the directory
    #[command(flatten)]
    pub kafka: Kafka,
    /// Keep the views in this PostgreSQL database, not in the directory: postgres://USER:PASSWORD@HOST/NAME
    #[arg(long, env = "ANNALS_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database: Option<String>,
    /// What this instance does, of: door, arbiter, projector, publisher, actor; all of it unless given, but on Kafka
    /// without --database no actor, since each instance would act for itself
    #[arg(long, env = "ANNALS_ROLES", value_name = "ROLE,...", value_enum, value_delimiter = ',')]
    pub roles: Option<Vec<Role>>,
    /// The clusters.
    #[command(flatten)]
    pub kubernetes: kubernetes::Kubernetes,
    /// The repositories.
    #[command(flatten)]
    pub git: git::Repositories,
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "ANNALS_LISTEN", default_value = "127.0.0.1:8400", value_name = "HOST:PORT", value_parser = address)]
    pub listen: SocketAddr,
    /// Listen on an address that others can reach although nobody is asked who they are
    #[arg(long, env = "ANNALS_ALLOW_UNAUTHENTICATED", value_parser = FalseyValueParser::new())]
    pub allow_unauthenticated: bool,
    /// Where webhooks may go.
    #[command(flatten)]
    pub delivery: Delivery,
    /// The search cluster.
    #[command(flatten)]
    pub search: search::SearchCluster,
    /// Directory of the programs that triggers may run; none unless given
    #[arg(long, env = "ANNALS_COMMANDS", value_name = "DIR")]
    pub commands: Option<PathBuf>,
}

/// Where the engine is, and how to print what it says.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// The engine
    #[arg(long, env = "ANNALS_URL", default_value = URL, value_name = "URL", value_parser = url)]
    pub url: String,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Which workspace.
#[derive(Clone, Debug, Args)]
pub struct Workspace {
    /// The workspace
    #[arg(long, env = "ANNALS_WORKSPACE", default_value = "default", value_name = "NAME")]
    pub workspace: String,
}

/// A question.
#[derive(Clone, Debug, Args)]
pub struct Question {
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Answer as of a time or a position of the past
    #[arg(long, value_name = "TIME|POSITION")]
    pub as_of: Option<String>,
}

/// Checks.
#[derive(Clone, Debug, Subcommand)]
pub enum Audit {
    /// Check the chain of every record, and name the first bad one
    Verify(Verify),
}

/// A journal to be checked.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").args(["file", "data"]).required(true)))]
#[command(after_help = "An edited, dropped, swapped, inserted, repeated or cut-off record is found. Somebody who rewrites everything \
    from one record on makes another journal that is whole in itself: note the heads that this command prints where the operator \
    cannot change them, and compare.")]
pub struct Verify {
    /// An exported journal; - is standard input
    pub file: Option<PathBuf>,
    /// A directory; an engine may run on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The journal as a file.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The file; - is standard output
    pub file: PathBuf,
    /// Read this directory, not a running engine; one may run on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A copy of the journal.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// The directory that the copy goes to; must not hold a journal yet
    pub target: PathBuf,
    /// The directory to copy; an engine may run on it
    #[arg(long, env = "ANNALS_DATA", default_value = "./annals-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A view anew.
#[derive(Clone, Debug, Args)]
pub struct Rebuild {
    /// The view, such as registry; `annals doctor` names them
    pub name: String,
    /// Work on this directory, on which no engine may run
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With --data: the PostgreSQL database that keeps the views, if the directory does not
    #[arg(long, env = "ANNALS_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// The types.
#[derive(Clone, Debug, Args)]
pub struct Schemas {
    /// A type in any form; without it, all are listed
    #[arg(value_name = "TYPE")]
    pub kind: Option<String>,
    /// The schema of what the engine adds, not of what is proposed
    #[arg(long, requires = "kind")]
    pub decided: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A check-up.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Look into this directory, not at a running engine; one may run on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

impl Serve {
    /// How to reach the journal on Kafka, if it is there.
    #[must_use]
    pub fn on_kafka(&self) -> Option<&Kafka> {
        Some(&self.kafka).filter(|kafka| !kafka.bootstrap.is_empty())
    }

    /// Whether this instance does that.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        let by_default = || role != Role::Actor || self.on_kafka().is_none() || self.database.is_some();
        self.roles.as_ref().map_or_else(by_default, |roles| roles.contains(&role))
    }

    /// What is wanted must fit together; and nobody is asked who they are yet, so others must not reach it unless that is wanted.
    ///
    /// # Errors
    /// What to do instead.
    pub fn check(&self) -> Result<(), String> {
        if self.on_kafka().is_none() && Role::ALL.iter().any(|role| !self.has(*role)) {
            return Err("one instance alone has every role: --roles is for several on Kafka (--kafka)".into());
        }
        if self.search.url.is_some() && self.on_kafka().is_some() && self.database.is_none() && self.roles.is_none() {
            return Err("nobody would keep the index: --search on Kafka needs --database, or --roles with actor for one instance".into());
        }
        if self.listen.ip().is_loopback() || self.allow_unauthenticated {
            return Ok(());
        }
        Err(format!(
            "{} can be reached from other machines, and nobody is asked who they are: listen on 127.0.0.1, or say \
             --allow-unauthenticated if something in front of it keeps others out",
            self.listen
        ))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|e| format!("{e}; say HOST:PORT, such as 127.0.0.1:8400"))?;
    found.next().ok_or_else(|| "the name has no address".into())
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").ok_or("must begin with http://, such as http://127.0.0.1:8400")?;
    if rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace) {
        return Err("names no host".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Config, clap::Error> {
        Config::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_grammar_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn serve_listens_on_loopback_unless_told_otherwise() {
        let Command::Serve(serve) = parse("annals serve").unwrap().command else { panic!("not serve") };
        assert_eq!((serve.listen.to_string().as_str(), serve.check()), ("127.0.0.1:8400", Ok(())));
        let Command::Serve(serve) = parse("annals serve --listen 0.0.0.0:1").unwrap().command else { panic!("not serve") };
        assert!(serve.check().unwrap_err().contains("--allow-unauthenticated"));
        let Command::Serve(serve) = parse("annals serve --kafka a:1 --search http://h:9200").unwrap().command else { panic!("not serve") };
        assert!(serve.check().unwrap_err().contains("--database"));
        let Command::Serve(serve) = parse("annals serve --listen 0.0.0.0:1 --allow-unauthenticated").unwrap().command else {
            panic!("not serve")
        };
        assert_eq!(serve.check(), Ok(()));
    }

    #[test]
    fn kafka_is_named_or_the_directory_it_is() {
        let serve = |line: &str| match parse(line).unwrap().command {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        };
        assert!(serve("annals serve").on_kafka().is_none());
        let on_kafka = serve("annals serve --kafka a:1 --roles door");
        assert_eq!((on_kafka.on_kafka().unwrap().prefix.as_str(), on_kafka.check()), ("annals", Ok(())));
        assert!(serve("annals serve --roles door").check().unwrap_err().contains("--kafka"));
        let acts = |line: &str| serve(line).has(Role::Actor);
        assert!(acts("annals serve") && acts("annals serve --kafka a:1 --database postgres://h/d") && !acts("annals serve --kafka a:1"));
        assert!(acts("annals serve --kafka a:1 --roles door,actor") && !on_kafka.has(Role::Arbiter));
        let Command::Topics(Topics::Create(create)) = parse("annals topics create --kafka a:1 --replication-factor 1").unwrap().command
        else {
            panic!("not create")
        };
        assert!(create.check().unwrap_err().contains("1 for both"));
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for line in [
            "annals",
            "annals nonsense",
            "annals serve --listen nowhere",
            "annals emit promoted",
            "annals emit promoted --model iris --expect many",
            "annals emit promoted --model iris --attribute x",
            "annals drift report --model iris report.json",
            "annals drift report --from whylogs --model iris report.json",
            "annals drift report --from nannyml --model iris --version 1 --channel dev -",
            "annals get",
            "annals get iris 1 --channel production",
            "annals get iris --proposal p",
            "annals list",
            "annals search",
            "annals search x --limit 0",
            "annals serve --search-index Models",
            "annals import elasticsearch",
            "annals list nonsense",
            "annals lineage iris",
            "annals at",
            "annals audit verify",
            "annals audit verify file --data dir",
            "annals replay --data dir --file file",
            "annals schemas --decided",
            "annals import",
            "annals partition resume 3",
            "annals partition resume 3 --accept 7",
            "annals partition resume --skip-to 7",
            "annals webhook add w --to https://h/",
            "annals webhook rotate w --overlap 24",
            "annals webhook replay w",
            "annals webhook replay w --parked --delivery 3",
            "annals serve --webhook-allow localhost",
            "annals trigger add t --do {}",
            "annals trigger add t --type promoted",
            "annals trigger add t --type promoted --do not-json",
            "annals trigger dry-run",
            "annals trigger dry-run t --file rules.yaml",
            "annals trigger replay t",
            "annals subscribe -- --to team",
            "annals subscribe --forget",
            "annals git check repository",
            "annals git hook install --model iris",
            "annals git hook run",
            "annals git hook run post-commit --all",
            "annals serve --git-check flag",
            "annals get iris --url https://host",
            "annals get iris --url http://",
        ] {
            assert_eq!(parse(line).map(|_| ()).map_err(|e| e.exit_code()), Err(2), "{line}");
        }
    }

    #[test]
    fn what_can_be_meant_is_understood() {
        for line in [
            "annals emit promoted --model iris --version 1 --data {} --expect 4 --no-wait --json",
            "annals drift report --from evidently --model iris report.json",
            "annals drift report --from nannyml --model iris --channel production --detector x --json -",
            "annals get iris",
            "annals get iris run:abc --as-of 3:17",
            "annals get --proposal p --source /x",
            "annals list models --workspace w",
            "annals list versions iris --url http://host:1/",
            "annals timeline",
            "annals at 2026-03-01T12:00:00Z --model iris --channel production --json",
            "annals replay --until 3:1,4:2 --type promoted,retired",
            "annals subscribe --from beginning --max 3",
            "annals subscribe --name mailer --exec ./mail -- --to team",
            "annals subscribe --exec ./mail",
            "annals list cursors",
            "annals search churn 'algorithm:forest' --limit 3 --json",
            "annals search reindex --json",
            "annals search -- reindex",
            "annals import elasticsearch http://h:9200 --index theirs --workspace w --json",
            "annals serve --search http://h:9200 --search-index team.models --search-auth-file f --search-ca c",
            "annals audit verify - --json",
            "annals export - --data dir",
            "annals backup target",
            "annals import file --data dir",
            "annals import file --kafka a:1 --json",
            "annals partition resume 3 --skip-to 7 --actor ada --reason gone --kafka a:1",
            "annals rebuild registry",
            "annals schemas promoted --decided",
            "annals doctor --log-format json",
            "annals adopt prod/default/model-deployment --model iris --version 1 --channel production",
            "annals serve --kubernetes prod=/etc/kube#eu --kubernetes here=in-cluster",
            "annals topics create --kafka a:1,b:2 --partitions 3 --replication-factor 1 --min-insync-replicas 1",
            "annals topics check --kafka a:1 --kafka-prefix test --json",
            "annals webhook add w --to https://h/ --type promoted,drifted --where /data/severity=high --signing hmac",
            "annals webhook add w --to https://h/ --type promoted --format cdevents",
            "annals webhook rotate w --overlap 7d --json",
            "annals trigger add t --type promoted,drifted --model fraud-* --where /data/severity=high --do {} --cooldown 60 --dedup x --reason r",
            "annals trigger apply rules.yaml --json",
            "annals trigger list --workspace w",
            "annals trigger history t --state parked --max 3",
            "annals trigger dry-run t --from 2026-03-01T12:00:00Z",
            "annals trigger dry-run --file rule.yaml",
            "annals trigger replay t --parked",
            "annals serve --commands dir",
            "annals webhook replay w --since 2026-03-01T12:00:00Z",
            "annals serve --webhook-allow 127.0.0.0/8,::1 --webhook-ca ca.pem",
            "annals serve --kafka a:1 --database postgres://h/d --schema-registry http://h:1 --roles door,arbiter",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn a_list_of_anything_but_models_needs_a_model() {
        let list = |line: &str| match parse(line).unwrap().command {
            Command::List(list) => list.check(),
            other => panic!("{other:?}"),
        };
        assert!(list("annals list versions").unwrap_err().contains("annals list versions MODEL"));
        assert!(list("annals list models iris").is_err());
        assert_eq!((list("annals list models"), list("annals list drifts iris")), (Ok(()), Ok(())));
    }
}
