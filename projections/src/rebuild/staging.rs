//! Tables beside the tables: made like them, given their indexes, put in their place.
//!
//! Their shape is read from the database, so that only the migrations say what a table looks like.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::store::STAGING;
use crate::table::Projection;

/// An index's name cannot be changed, so a rebuilt view has the other one of two.
const OTHER: &str = "_b";

/// What follows the name in the statement that made a table or an index: columns and options.
fn shape(sql: &str) -> Result<&str, sqlx::Error> {
    sql.find('(').and_then(|at| sql.get(at..)).ok_or_else(|| sqlx::Error::Protocol(format!("`{sql}` has no columns")))
}

async fn run(connection: &mut SqliteConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(connection).await.map(|_| ())
}

/// Makes the new tables, empty and without indexes.
pub(super) async fn create(connection: &mut SqliteConnection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let select = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = $1";
        let sql: String = sqlx::query_scalar(select).bind(table.name).fetch_one(&mut *connection).await?;
        run(connection, format!("CREATE TABLE {STAGING}{} {}", table.name, shape(&sql)?)).await?;
    }
    Ok(())
}

/// Makes the new tables' indexes: once, when the rows are there.
pub(super) async fn index(connection: &mut SqliteConnection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let select = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = $1 AND sql IS NOT NULL";
        for row in sqlx::query(select).bind(table.name).fetch_all(&mut *connection).await? {
            let (name, sql): (String, String) = (row.try_get("name")?, row.try_get("sql")?);
            let name = name.strip_suffix(OTHER).map_or_else(|| format!("{name}{OTHER}"), ToOwned::to_owned);
            run(connection, format!("CREATE INDEX {name} ON {STAGING}{} {}", table.name, shape(&sql)?)).await?;
        }
    }
    Ok(())
}

/// Puts the new tables and their position in the place of the old ones, within the caller's transaction.
pub(super) async fn switch(transaction: &mut SqliteConnection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let name = table.name;
        run(transaction, format!("DROP TABLE {name}")).await?;
        run(transaction, format!("ALTER TABLE {STAGING}{name} RENAME TO {name}")).await?;
    }
    sqlx::query("DELETE FROM positions WHERE view = $1").bind(projection.name()).execute(&mut *transaction).await?;
    let rename = sqlx::query("UPDATE positions SET view = $1 WHERE view = $2").bind(projection.name());
    rename.bind(format!("{STAGING}{}", projection.name())).execute(transaction).await?;
    Ok(())
}
