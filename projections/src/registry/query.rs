//! The registry's questions. Each takes the point at which it is meant, and answers from history.

use annals_events::names::VersionRef;
use serde_json::value::RawValue;

use crate::as_of::AsOf;
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::page::{Doc, Listing, Page};
use crate::table::Cell;
use crate::views::Views;

/// A question to one table of the registry.
struct Question<'a> {
    table: &'static str,
    /// The column that tells documents apart and orders them.
    identity: &'static str,
    /// SQL, in which `?` stands for the next of `cells`.
    condition: &'static str,
    cells: Vec<Cell>,
    order: &'static str,
    as_of: &'a AsOf,
    limit: i64,
}

impl Views {
    /// The models of a workspace, by name. The cursor is a name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn models(&self, workspace: &str, as_of: &AsOf, page: &Page) -> Result<Listing<Doc>, Error> {
        // `0` is the character behind `/`
        let cells =
            vec![format!("{workspace}/{}", page.after.as_deref().unwrap_or("")).as_str().into(), format!("{workspace}0").as_str().into()];
        let condition = "t.key > ? AND t.key < ?";
        let models = self.ask(Question { condition, cells, order: "t.key", ..models(as_of, page.fetch()) }).await?;
        let models = models.into_iter().map(|(doc, recorded)| with_sequence(doc, recorded)).collect::<Result<_, _>>()?;
        Ok(Listing::cut(models, page, |doc| doc.cursor.clone()))
    }

    /// One model, by its key `workspace/model`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn model(&self, key: &str, as_of: &AsOf) -> Result<Option<Doc>, Error> {
        let found = self.ask(Question { condition: "t.key = ?", cells: vec![key.into()], ..models(as_of, 1) }).await?;
        found.into_iter().next().map(|(doc, recorded)| with_sequence(doc, recorded)).transpose()
    }

    /// The versions of a model, by number. The cursor is a number.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn versions(&self, key: &str, as_of: &AsOf, page: &Page) -> Result<Listing<Doc>, Error> {
        let cells = vec![key.into(), Cell::Int(page.after_number()?.unwrap_or(0))];
        let condition = "t.key = ? AND t.version > ?";
        self.list(Question { condition, cells, ..versions(as_of, page.fetch()) }, page).await
    }

    /// One version, by number, label or run (the last version of that run).
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn version(&self, key: &str, version: &VersionRef, as_of: &AsOf) -> Result<Option<Doc>, Error> {
        let (condition, named) = match version {
            VersionRef::Number(number) => ("t.key = ? AND t.version = ?", Cell::count(*number)),
            VersionRef::Label(label) => ("t.key = ? AND t.label = ?", Cell::from(&**label)),
            VersionRef::Run(run) => ("t.key = ? AND t.run = ?", Cell::from(&**run)),
        };
        self.one(Question { condition, cells: vec![key.into(), named], order: "t.version DESC", ..versions(as_of, 1) }).await
    }

    /// The channels of a model that hold a version.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn channels(&self, key: &str, as_of: &AsOf) -> Result<Vec<Doc>, Error> {
        self.all(Question { cells: vec![key.into()], ..of_model("registry_channels", "channel", as_of) }).await
    }

    /// What one channel of a model holds.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn channel(&self, key: &str, channel: &str, as_of: &AsOf) -> Result<Option<Doc>, Error> {
        let (condition, cells) = ("t.key = ? AND t.channel = ?", vec![key.into(), channel.into()]);
        self.one(Question { condition, cells, ..of_model("registry_channels", "channel", as_of) }).await
    }

    /// Which version of every model a channel holds: "what was in production on date X" in one
    /// question. All workspaces, unless one is named. By key, which is also the cursor.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn channel_across_models(
        &self,
        workspace: Option<&str>,
        channel: &str,
        as_of: &AsOf,
        page: &Page,
    ) -> Result<Listing<Doc>, Error> {
        // `0` is the character behind `/`, and no key is behind the last character
        let (first, end) = workspace.map_or_else(|| (String::new(), char::MAX.into()), |w| (format!("{w}/"), format!("{w}0")));
        let after = page.after.as_deref().filter(|after| **after > *first).unwrap_or(&first);
        let question = Question {
            identity: "key",
            condition: "t.channel = ? AND t.key > ? AND t.key < ?",
            cells: vec![channel.into(), after.into(), end.as_str().into()],
            order: "t.key",
            limit: page.fetch(),
            ..of_model("registry_channels", "channel", as_of)
        };
        self.list(question, page).await
    }

    /// The aliases of a model.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn aliases(&self, key: &str, as_of: &AsOf) -> Result<Vec<Doc>, Error> {
        self.all(Question { cells: vec![key.into()], ..of_model("registry_aliases", "alias", as_of) }).await
    }

    /// What one alias of a model names.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn alias(&self, key: &str, alias: &str, as_of: &AsOf) -> Result<Option<Doc>, Error> {
        let (condition, cells) = ("t.key = ? AND t.alias = ?", vec![key.into(), alias.into()]);
        self.one(Question { condition, cells, ..of_model("registry_aliases", "alias", as_of) }).await
    }

    /// The deployments of a model, also the ended ones, by id. The cursor is an id.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn deployments(&self, key: &str, as_of: &AsOf, page: &Page) -> Result<Listing<Doc>, Error> {
        let cells = vec![key.into(), page.after.as_deref().unwrap_or("").into()];
        let condition = "t.key = ? AND t.deployment > ?";
        let question = of_model("registry_deployments", "deployment", as_of);
        self.list(Question { condition, cells, limit: page.fetch(), ..question }, page).await
    }

    /// One deployment of a model.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn deployment(&self, key: &str, deployment: &str, as_of: &AsOf) -> Result<Option<Doc>, Error> {
        let (condition, cells) = ("t.key = ? AND t.deployment = ?", vec![key.into(), deployment.into()]);
        self.one(Question { condition, cells, ..of_model("registry_deployments", "deployment", as_of) }).await
    }

    /// The drifts of a model, also the resolved ones, by id. The cursor is an id.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn drifts(&self, key: &str, as_of: &AsOf, page: &Page) -> Result<Listing<Doc>, Error> {
        let cells = vec![key.into(), page.after.as_deref().unwrap_or("").into()];
        let condition = "t.key = ? AND t.drift > ?";
        let question = of_model("registry_drifts", "drift", as_of);
        self.list(Question { condition, cells, limit: page.fetch(), ..question }, page).await
    }

    async fn list(&self, question: Question<'_>, page: &Page) -> Result<Listing<Doc>, Error> {
        let docs = self.all(question).await?;
        Ok(Listing::cut(docs, page, |doc| doc.cursor.clone()))
    }

    async fn one(&self, question: Question<'_>) -> Result<Option<Doc>, Error> {
        Ok(self.all(Question { limit: 1, ..question }).await?.into_iter().next())
    }

    async fn all(&self, question: Question<'_>) -> Result<Vec<Doc>, Error> {
        Ok(self.ask(question).await?.into_iter().map(|(doc, _)| doc).collect())
    }

    /// The documents, each with the time of the model's last event (milliseconds since 1970).
    async fn ask(&self, question: Question<'_>) -> Result<Vec<(Doc, i64)>, Error> {
        let Question { table, identity, condition, cells, order, as_of, limit } = question;
        let (holds, bound) = (as_of.holds("t"), as_of.bound("t"));
        let step = |column| {
            format!("(SELECT s.{column} FROM registry_steps s WHERE s.key = t.key AND s.seq <= {bound} ORDER BY s.seq DESC LIMIT 1)")
        };
        let sql = format!(
            "SELECT t.partition, t.since, CAST(t.{identity} AS TEXT) AS id, t.doc, {} AS modelseq, {} AS stepped \
             FROM {table} t WHERE {condition} AND {holds} ORDER BY {order} LIMIT {limit}",
            step("modelseq"),
            step("recorded"),
        );
        let mut reader = self.reader().await?;
        // a vector of positions makes a statement that is not seen again: it need not be kept
        let rows = reader.rows(Statement::new(sql, cells).kept(*as_of == AsOf::Now)).await;
        rows.and_then(|rows| rows.iter().map(doc).collect()).map_err(|e| self.fault(e))
    }
}

fn of_model<'a>(table: &'static str, identity: &'static str, as_of: &'a AsOf) -> Question<'a> {
    // no model has so many pointers; a limit all the same
    let limit = i64::from(crate::page::LIMIT_MAX);
    Question { table, identity, condition: "t.key = ?", cells: Vec::new(), order: "id", as_of, limit }
}

fn models(as_of: &AsOf, limit: i64) -> Question<'_> {
    Question { limit, order: "t.key", ..of_model("registry_models", "model", as_of) }
}

fn versions(as_of: &AsOf, limit: i64) -> Question<'_> {
    Question { limit, order: "t.version", ..of_model("registry_versions", "version", as_of) }
}

fn doc(row: &Row) -> Result<(Doc, i64), sqlx::Error> {
    let doc = Doc {
        partition: row.partition()?,
        seq: row.count("since")?,
        modelseq: row.count("modelseq")?,
        cursor: row.text("id")?,
        body: RawValue::from_string(row.text("doc")?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
    };
    Ok((doc, row.number("stepped")?))
}

/// Puts what changes with every event at the end of a model's document.
fn with_sequence(mut doc: Doc, recorded: i64) -> Result<Doc, Error> {
    let json = doc.body.get();
    let json = json.strip_suffix('}').unwrap_or(json);
    let updated = annals_events::time::Timestamp(recorded);
    let json = format!("{json},\"modelseq\":{},\"updated\":\"{updated}\"}}", doc.modelseq);
    doc.body = RawValue::from_string(json).map_err(|e| Error::Unavailable(sqlx::Error::Decode(Box::new(e))))?;
    Ok(doc)
}
