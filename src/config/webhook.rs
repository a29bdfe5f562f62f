//! The flags of `annals webhook`, and of the engine that delivers.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use serde_json::Value;

use super::{Remote, Workspace};

/// Where the engine may deliver.
#[derive(Clone, Debug, Default, Args)]
pub struct Delivery {
    /// Networks inside that webhooks may reach, also over http://, such as 10.1.0.0/16,127.0.0.1; none unless named
    #[arg(long = "webhook-allow", env = "ANNALS_WEBHOOK_ALLOW", value_name = "CIDR,...", value_delimiter = ',', value_parser = network)]
    pub allow: Vec<IpNet>,
    /// File of certificate authorities (PEM) that webhooks trust beside the system's
    #[arg(long = "webhook-ca", env = "ANNALS_WEBHOOK_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Events that are delivered to a URL.
#[derive(Clone, Debug, Subcommand)]
pub enum Webhook {
    /// Deliver events to a URL, or change how
    Add(Add),
    /// List the webhooks
    List(All),
    /// Show one, with the public keys that its messages are verified with
    Show(One),
    /// Hold deliveries back; events are kept for them
    Pause(Change),
    /// Let deliveries go on, with what was kept
    Resume(Change),
    /// End a webhook: what waits is skipped, and its keys are forgotten
    Remove(Change),
    /// Make a new key; those before it sign too for a while
    Rotate(Rotate),
    /// Send a signed test message now, and say what was answered
    Test(One),
    /// List deliveries, the newest first: how they are, and what was answered last
    Deliveries(Deliveries),
    /// Deliver again
    Replay(Replay),
}

/// How messages are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Signing {
    /// The receiver gets a public key
    Ed25519,
    /// The receiver gets a secret, printed once
    Hmac,
}

/// In which words events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Words {
    /// Our own
    #[value(name = "cloudevents")]
    CloudEvents,
    /// CDEvents: promoted, deployed, rolled-back and deployment-removed alone
    #[value(name = "cdevents")]
    CdEvents,
}

/// A webhook.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  annals webhook add deployer --to https://deploy.example/hook --type promoted --channel production\n  \
    annals webhook add pager --to https://pager.example/hook --type drifted --signing hmac\n  \
    annals webhook add tracker --to https://delivery.example/cdevents --type promoted,deployed --format cdevents\n\
    \nMessages follow the Standard Webhooks spec: verify them with its libraries, and tell copies by `webhook-id`."
)]
pub struct Add {
    /// Its name; one that is there already is changed
    pub name: String,
    /// Where events go
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Which events.
    #[command(flatten)]
    pub when: When,
    /// How messages are signed
    #[arg(long, value_enum, default_value = "ed25519")]
    pub signing: Signing,
    /// In which words events are told
    #[arg(long, value_enum, default_value = "cloudevents")]
    pub format: Words,
    /// Deliver nothing until it is resumed
    #[arg(long)]
    pub paused: bool,
    /// Who, and why.
    #[command(flatten)]
    pub why: Why,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// Which events.
#[derive(Clone, Debug, Args)]
pub struct When {
    /// Events of these types, comma-separated
    #[arg(long = "type", value_name = "TYPE,...", value_delimiter = ',', required = true)]
    pub kinds: Vec<String>,
    /// Only events of this model; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only events about this channel; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Only events that say this, such as /data/severity=high; may be repeated
    #[arg(long = "where", value_name = "POINTER=VALUE", value_parser = member)]
    pub members: Vec<(String, Value)>,
}

/// Who, and why.
#[derive(Clone, Debug, Args)]
pub struct Why {
    /// Who asks for it
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// All webhooks.
#[derive(Clone, Debug, Args)]
pub struct All {
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// One webhook.
#[derive(Clone, Debug, Args)]
pub struct One {
    /// The webhook
    pub name: String,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A change of one.
#[derive(Clone, Debug, Args)]
pub struct Change {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Who, and why.
    #[command(flatten)]
    pub why: Why,
}

/// A new key.
#[derive(Clone, Debug, Args)]
pub struct Rotate {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// How long the keys before it sign too: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
    pub overlap: u64,
}

/// Deliveries.
#[derive(Clone, Debug, Args)]
pub struct Deliveries {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Only those in this state: pending, running, done, parked or skipped
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only those of this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value = "100")]
    pub max: u64,
}

/// Deliveries again.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").args(["parked", "waiting", "since", "delivery"]).required(true)))]
pub struct Replay {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// All that are parked: they failed for good
    #[arg(long)]
    pub parked: bool,
    /// All that failed and wait for another try: now
    #[arg(long)]
    pub waiting: bool,
    /// All done and parked ones whose event was recorded since then
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The one of this number
    #[arg(long, value_name = "NUMBER")]
    pub delivery: Option<u64>,
}

fn network(text: &str) -> Result<IpNet, String> {
    let net = text.trim().parse::<IpNet>().or_else(|_| text.trim().parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| "say an address and how many of its bits count, such as 10.1.0.0/16".into())
}

fn member(text: &str) -> Result<(String, Value), String> {
    let (pointer, value) = text.split_once('=').ok_or("must be POINTER=VALUE")?;
    let value = serde_json::from_str(value).ok().filter(|v: &Value| !v.is_object() && !v.is_array()).unwrap_or_else(|| value.into());
    Ok((pointer.to_owned(), value))
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time such as 90s, 30m, 24h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!((seconds("90s"), seconds("30m"), seconds("24h"), seconds("0d")), (Ok(90), Ok(1_800), Ok(86_400), Ok(0)));
        for bad in ["", "h", "24", "1w", "-1h", "1.5h", "99999999999999999999d", "1é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_member_has_the_kind_of_value_that_it_looks_like() {
        let of = |text: &str| member(text).unwrap().1;
        assert_eq!((of("/data/a=1"), of("/data/a=true"), of("/data/a=high")), (1.into(), true.into(), "high".into()));
        assert_eq!((of("/data/a=\"1\""), of("/data/a={}"), of("/data/a=b=c")), ("1".into(), "{}".into(), "b=c".into()));
        assert!(member("/data/a").is_err());
    }
}
