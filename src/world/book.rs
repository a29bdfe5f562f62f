//! The book of rules: what the journal has said of them so far, read once for all who look.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals_events::kind::Kind;
use annals_projections::ops::{RuleKind, RuleRow};
use serde_json::{Map, Value};

use super::Event;
use super::rule::read::Named;
use super::rule::{Endpoint, Family, Rule, State};

/// Members of the events' data that are not what the rule says.
const ABOUT: [&str; 7] = ["trigger", "subscription", "state", "reason", "ticket", "evidence", "labels"];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pages: BTreeMap<String, Page>,
}

/// A rule in the book.
#[derive(Clone, Debug)]
pub struct Page {
    /// As it is stored.
    pub row: RuleRow,
    /// As it is meant, or why it cannot be.
    pub rule: Result<Arc<Rule>, String>,
}

impl Page {
    fn of(row: RuleRow) -> Self {
        let rule = parse(&row).map(Arc::new);
        Self { row, rule }
    }
}

/// Which family a stored rule is of.
#[must_use]
pub fn family(kind: RuleKind) -> Family {
    match kind {
        RuleKind::Trigger => Family::Trigger,
        RuleKind::Subscription => Family::Subscription,
    }
}

fn parse(row: &RuleRow) -> Result<Rule, String> {
    let state = State::parse(&row.state).ok_or_else(|| format!("`{}` is no state of a rule", row.state))?;
    let spec: Value = serde_json::from_str(&row.spec).map_err(|e| e.to_string())?;
    let named = Named { family: family(row.kind), workspace: &row.workspace, name: &row.name, revision: row.revision, state };
    Rule::read(&named, &spec).map_err(|e| e.to_string())
}

impl Book {
    /// The rules that are stored.
    #[must_use]
    pub fn of(rows: Vec<RuleRow>) -> Self {
        Self { pages: rows.into_iter().map(|row| (row.rule(), Page::of(row))).collect() }
    }

    /// Takes in an event about a rule; what is to be stored, if it is one.
    pub fn learn(&mut self, event: &Event) -> Option<RuleRow> {
        let (kind, member) = match event.kind {
            Kind::TriggerChanged => (RuleKind::Trigger, "trigger"),
            Kind::SubscriptionChanged => (RuleKind::Subscription, "subscription"),
            _ => return None,
        };
        let text = |name: &str| event.decided.get(name).and_then(Value::as_str).map(str::to_owned);
        let (name, state) = (text(member)?, text("state")?);
        let revision = event.decided.get("revision").and_then(Value::as_u64)?;
        let mut row =
            RuleRow { workspace: event.workspace.clone(), kind, name, revision, state, spec: String::new(), since: event.recorded };
        let known = self.pages.get(&row.rule());
        if known.is_some_and(|page| page.row.revision > revision) {
            return None;
        }
        // one that says nothing new stays what it was
        row.spec = match (event.data.get("when"), known) {
            (None, Some(page)) => page.row.spec.clone(),
            _ => said(&event.data),
        };
        self.pages.insert(row.rule(), Page::of(row.clone()));
        Some(row)
    }

    /// Every rule, removed ones too.
    pub fn pages(&self) -> impl Iterator<Item = (&str, &Page)> {
        self.pages.iter().map(|(id, page)| (id.as_str(), page))
    }

    /// A rule by what the operational store calls it.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Page> {
        self.pages.get(id)
    }

    /// The rules that may be about an event of this kind.
    pub fn listening(&self, kind: Kind) -> impl Iterator<Item = &Arc<Rule>> {
        let rules = self.pages.values().filter_map(|page| page.rule.as_ref().ok());
        rules.filter(move |rule| rule.state != State::Removed && rule.when.kinds.contains(&kind))
    }

    /// Where a subscription is, if there is one of this name.
    #[must_use]
    pub fn endpoint(&self, workspace: &str, name: &str) -> Option<Arc<Endpoint>> {
        let page = self.pages.get(&super::rule::rule_id(Family::Subscription, workspace, name))?;
        let rule = page.rule.as_ref().ok().filter(|rule| rule.state != State::Removed)?;
        rule.endpoint.clone().map(Arc::new)
    }
}

/// What a rule says, out of the data of its event.
#[must_use]
pub fn said(data: &Value) -> String {
    let members = data.as_object().cloned().unwrap_or_default();
    let spec: Map<String, Value> = members.into_iter().filter(|(name, _)| !ABOUT.contains(&name.as_str())).collect();
    Value::Object(spec).to_string()
}
