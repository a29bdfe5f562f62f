//! Secrets of those who are told: several of one owner are valid while they change.

use annals_events::time::Timestamp;

use super::{DOOR, Ops};
use crate::database::{Connection, Row, Statement};
use crate::error::Error;
use crate::table::Cell;

/// A secret that does not expire.
const NEVER: i64 = i64::MAX;

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its id, unique with its owner.
    pub id: String,
    /// What it is, such as `ed25519`.
    pub kind: String,
    /// The secret itself.
    pub bytes: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is not valid any more.
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for Secret {
    /// Without the secret: what is debugged ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, kind, created, expires, .. } = self;
        f.debug_struct("Secret").field("id", id).field("kind", kind).field("created", created).field("expires", expires).finish()
    }
}

impl Secret {
    fn read(row: &Row) -> Result<Self, sqlx::Error> {
        let bytes = from_hex(&row.text("bytes")?).ok_or_else(|| sqlx::Error::Decode("`bytes` does not hold hexadecimal digits".into()))?;
        Ok(Self {
            id: row.text("id")?,
            kind: row.text("kind")?,
            bytes,
            created: Timestamp(row.number("created")?),
            expires: Some(row.number("expires")?).filter(|at| *at != NEVER).map(Timestamp),
        })
    }
}

impl Ops {
    /// Keeps a secret of an owner, in place of one with the same id. Those of the owner that had
    /// expired before it was created are removed.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn put_secret(&self, owner: &str, secret: &Secret) -> Result<(), Error> {
        self.change_secrets(owner, Some(secret), None).await
    }

    /// Makes an owner's secrets expire at this time, unless they do earlier.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn expire_secrets(&self, owner: &str, at: Timestamp) -> Result<(), Error> {
        self.change_secrets(owner, None, Some(at)).await
    }

    /// [`Ops::expire_secrets`] and [`Ops::put_secret`] in one: there is always a valid one.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn rotate_secret(&self, owner: &str, secret: &Secret, old_until: Timestamp) -> Result<(), Error> {
        self.change_secrets(owner, Some(secret), Some(old_until)).await
    }

    async fn change_secrets(&self, owner: &str, put: Option<&Secret>, expire: Option<Timestamp>) -> Result<(), Error> {
        let changing = async {
            let mut writer = self.inner.database.writer(DOOR).await?;
            let mut transaction = writer.begin("").await?;
            if let Some(at) = expire {
                let sql = "UPDATE secrets SET expires = ? WHERE owner = ? AND expires > ?";
                transaction.on().run(Statement::new(sql, [Cell::Int(at.0), owner.into(), Cell::Int(at.0)])).await?;
            }
            if let Some(secret) = put {
                put_in(transaction.on(), owner, secret).await?;
            }
            transaction.commit().await?;
            Ok(())
        };
        self.working(DOOR, changing).await
    }

    /// An owner's secrets, the newest first, expired ones too.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn secrets(&self, owner: &str) -> Result<Vec<Secret>, Error> {
        let mut reader = self.reader().await?;
        let select = "SELECT id, kind, bytes, created, expires FROM secrets WHERE owner = ? ORDER BY created DESC, id DESC";
        let rows = reader.rows(Statement::new(select, [owner.into()])).await.map_err(|e| self.fault(e))?;
        rows.iter().map(Secret::read).collect::<Result<_, _>>().map_err(|e| self.fault(e))
    }

    /// Forgets one secret of an owner.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn forget_secret(&self, owner: &str, id: &str) -> Result<(), Error> {
        self.forget(Statement::new("DELETE FROM secrets WHERE owner = ? AND id = ?", [owner.into(), id.into()])).await
    }

    /// Forgets all secrets of an owner that is no more.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn forget_secrets(&self, owner: &str) -> Result<(), Error> {
        self.forget(Statement::new("DELETE FROM secrets WHERE owner = ?", [owner.into()])).await
    }

    async fn forget(&self, statement: Statement) -> Result<(), Error> {
        let forgetting = async {
            let mut writer = self.inner.database.writer(DOOR).await?;
            Ok(writer.run(statement).await?)
        };
        self.working(DOOR, forgetting).await
    }
}

async fn put_in(connection: &mut dyn Connection, owner: &str, secret: &Secret) -> Result<(), sqlx::Error> {
    let created = Cell::Int(secret.created.0);
    let old = Statement::new("DELETE FROM secrets WHERE owner = ? AND expires <= ?", [owner.into(), created.clone()]);
    connection.run(old).await?;
    let put = "INSERT INTO secrets (owner, id, kind, bytes, created, expires) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner, id)
        DO UPDATE SET kind = excluded.kind, bytes = excluded.bytes, created = excluded.created, expires = excluded.expires";
    let cells = [
        owner.into(),
        secret.id.as_str().into(),
        secret.kind.as_str().into(),
        to_hex(&secret.bytes).into(),
        created,
        Cell::Int(secret.expires.map_or(NEVER, |at| at.0)),
    ];
    connection.run(Statement::new(put, cells)).await
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}
