//! Tables beside the tables: made like them, given their indexes, put in their place.
//!
//! Their shape is read from the database, so that only the migrations say what a table looks like.

use crate::database::{Connection, Statement};
use crate::store::STAGING;
use crate::table::{Projection, Table};

/// An index keeps its name, so a rebuilt view has the other one of two.
const OTHER: &str = "_b";

/// Makes the new tables, empty and without indexes.
pub(super) async fn create(connection: &mut dyn Connection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let create = connection.alike(table.name, &format!("{STAGING}{}", table.name)).await?;
        connection.run(Statement::once(create)).await?;
    }
    Ok(())
}

/// Makes the new tables' indexes: once, when the rows are there. Then they are tables like any other.
pub(super) async fn index(connection: &mut dyn Connection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        for (name, shape) in connection.indexes(table.name).await? {
            let name = name.strip_suffix(OTHER).map_or_else(|| format!("{name}{OTHER}"), ToOwned::to_owned);
            connection.run(Statement::once(format!("CREATE INDEX {name} ON {STAGING}{} {shape}", table.name))).await?;
        }
        connection.filled(&format!("{STAGING}{}", table.name)).await?;
    }
    Ok(())
}

/// Puts the new tables and their position in the place of the old ones, within the caller's transaction.
pub(super) async fn switch(transaction: &mut dyn Connection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    // a question may look into a history and then into its steps, never the other way round: taken
    // in this order, its locks and ours cannot wait for each other
    let (histories, others): (Vec<&Table>, Vec<&Table>) = projection.tables().iter().partition(|table| table.identity.is_some());
    for Table { name, .. } in histories.into_iter().chain(others) {
        transaction.run(Statement::once(format!("DROP TABLE {name}"))).await?;
        transaction.run(Statement::once(format!("ALTER TABLE {STAGING}{name} RENAME TO {name}"))).await?;
    }
    let (name, new) = (projection.name(), format!("{STAGING}{}", projection.name()));
    transaction.run(Statement::new("DELETE FROM positions WHERE view = ?", [name.into()])).await?;
    transaction.run(Statement::new("UPDATE positions SET view = ? WHERE view = ?", [name.into(), new.as_str().into()])).await
}
