//! Opening the store: what is refused and what to do, and who may read it.

use annals_projections::{Error, Ops, Views};

use crate::home::{Base, Home, on_both};
use crate::store::{NOW, leading, open, open_as, position, sql};

on_both! {
    the_store_of_another_journal_a_newer_build_or_another_program_is_refused
    what_is_damaged_says_what_to_do
    views_and_store_lie_beside_each_other
}

async fn refused(home: &Home, journal: &str) -> Error {
    match open_as(home, journal).await {
        Ok(_) => panic!("it was opened"),
        Err(e) => e,
    }
}

async fn the_store_of_another_journal_a_newer_build_or_another_program_is_refused(base: Base) {
    let home = base.home().await;
    open(&home).await.close().await;
    let error = refused(&home, "journal-2").await;
    assert!(matches!(error, Error::OtherJournal { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("journal-1") && said.contains("that store") && said.contains("delivered again"), "{said}");
    sql(
        &home,
        match base {
            Base::Sqlite => "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', 1, x'00', 0)",
            Base::Postgres => "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', true, '', 0)",
        },
    )
    .await;
    let error = refused(&home, "journal-1").await;
    assert!(matches!(error, Error::Newer { .. }), "{error}");

    let home = base.home().await;
    sql(
        &home,
        match base {
            Base::Sqlite => "CREATE TABLE somebody_else (x INTEGER)",
            Base::Postgres => "CREATE SCHEMA annals_ops; CREATE TABLE annals_ops.somebody_else (x INTEGER)",
        },
    )
    .await;
    let error = refused(&home, "journal-1").await;
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("something else than an operational store"), "{error}");
}

async fn what_is_damaged_says_what_to_do(base: Base) {
    let home = base.home().await;
    if let Home::Directory(dir) = &home {
        let file = dir.path().join("ops.db");
        std::fs::write(&file, vec![7; 8192]).unwrap();
        let error = refused(&home, "journal-1").await;
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        std::fs::remove_file(&file).unwrap();
    }
    let ops = leading(&home, &[]).await;
    sql(&home, "DROP TABLE cursors").await;
    let error = ops.cursor("default", "mail").await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let said = error.to_string();
    let remedy = if base == Base::Sqlite { "ops.db*" } else { "DROP SCHEMA annals_ops CASCADE" };
    assert!(said.contains("operational store is damaged") && said.contains("backup") && said.contains(remedy), "{said}");
    let error = ops.set_cursor("default", "mail", "a", None, NOW).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

async fn views_and_store_lie_beside_each_other(base: Base) {
    let home = base.home().await;
    let (views, ops) = (home.open().await, leading(&home, &[]).await);
    if base == Base::Postgres {
        assert!(views.lead("registry").await.unwrap());
    }
    ops.dispatch(&[position(4)], &[], &[]).await.unwrap();
    assert!(views.positions("registry").await.unwrap().is_empty());
    views.close().await;
    ops.close().await;
    let (_, ops): (Views, Ops) = (home.open().await, open(&home).await);
    assert_eq!(ops.dispatched().await.unwrap().positions, [position(4)]);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = Base::Sqlite.home().await;
    let ops = leading(&home, &[]).await;
    ops.dispatch(&[position(1)], &[], &[]).await.unwrap();
    let Home::Directory(dir) = &home else { unreachable!() };
    for name in ["ops.db", "ops.db-wal", "ops.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let error = Ops::open(&dir.path().join("nowhere"), "journal-1").await.err().unwrap();
    assert!(matches!(error, Error::OpsUnavailable(_)), "{error}");
}
