//! What is kept for others: their secrets and their cursors.

use annals_projections::ops::Secret;
use annals_projections::{Error, Page};

use crate::home::{Base, on_both};
use crate::store::{NOW, later, open};

on_both! {
    several_secrets_are_valid_while_they_rotate
    a_cursor_moves_only_from_where_it_is_expected
    of_two_who_move_a_cursor_at_once_one_is_refused
}

fn secret(id: &str, created: i64) -> Secret {
    Secret { id: id.into(), kind: "ed25519".into(), bytes: (0..=255).collect(), created: later(created), expires: None }
}

async fn several_secrets_are_valid_while_they_rotate(base: Base) {
    let home = base.home().await;
    let ops = open(&home).await;
    assert_eq!(ops.secrets("hook").await.unwrap(), []);
    ops.put_secret("hook", &secret("s1", 0)).await.unwrap();
    ops.put_secret("other", &secret("s1", 0)).await.unwrap();
    assert_eq!(ops.secrets("hook").await.unwrap(), [secret("s1", 0)]);
    ops.rotate_secret("hook", &secret("s2", 10), later(100)).await.unwrap();
    let old = Secret { expires: Some(later(100)), ..secret("s1", 0) };
    assert_eq!(ops.secrets("hook").await.unwrap(), [secret("s2", 10), old.clone()]);
    // a later end does not put off an earlier one
    ops.expire_secrets("hook", later(200)).await.unwrap();
    assert_eq!(ops.secrets("hook").await.unwrap()[1], old);
    assert_eq!(ops.secrets("other").await.unwrap(), [secret("s1", 0)], "another owner's");
    ops.put_secret("hook", &secret("s3", 100)).await.unwrap();
    let ids: Vec<_> = ops.secrets("hook").await.unwrap().into_iter().map(|s| s.id).collect();
    assert_eq!(ids, ["s3", "s2"], "one that has expired is removed");
    assert!(!format!("{:?}", secret("s1", 0)).contains("bytes"), "a secret is not for logs");
    ops.forget_secrets("hook").await.unwrap();
    assert_eq!(ops.secrets("hook").await.unwrap(), []);
}

async fn a_cursor_moves_only_from_where_it_is_expected(base: Base) {
    let home = base.home().await;
    let ops = open(&home).await;
    assert_eq!(ops.cursor("default", "mail").await.unwrap(), None);
    let moved = |result: Result<u64, Error>| match result {
        Err(Error::CursorMoved { found }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(moved(ops.set_cursor("default", "mail", "a", Some(1), NOW).await), None);
    assert_eq!(ops.set_cursor("default", "mail", "a", Some(0), NOW).await.unwrap(), 1);
    assert_eq!(moved(ops.set_cursor("default", "mail", "b", Some(0), NOW).await), Some(1));
    assert_eq!(ops.set_cursor("default", "mail", "b", Some(1), later(1)).await.unwrap(), 2);
    assert_eq!(moved(ops.set_cursor("default", "mail", "c", Some(1), NOW).await), Some(2));
    assert_eq!(ops.set_cursor("default", "mail", "d", None, later(2)).await.unwrap(), 3);
    assert_eq!(ops.set_cursor("other", "mail", "x", None, NOW).await.unwrap(), 1);
    ops.set_cursor("default", "chat", "y", None, NOW).await.unwrap();
    ops.close().await;

    let ops = open(&home).await;
    let row = ops.cursor("default", "mail").await.unwrap().unwrap();
    assert_eq!((row.cursor.as_str(), row.revision, row.updated), ("d", 3, later(2)));
    let mut page = Page { after: None, limit: 1 };
    let first = ops.cursors("default", &page).await.unwrap();
    assert_eq!(first.items[0].name, "chat");
    page.after = first.next;
    let second = ops.cursors("default", &page).await.unwrap();
    assert_eq!((second.items, second.next), (vec![row], None));

    assert!(matches!(ops.forget_cursor("default", "mail", Some(2)).await, Err(Error::CursorMoved { found: Some(3) })));
    assert!(ops.forget_cursor("default", "mail", Some(3)).await.unwrap());
    assert!(!ops.forget_cursor("default", "mail", None).await.unwrap());
    assert!(ops.forget_cursor("default", "chat", None).await.unwrap());
    assert_eq!(ops.cursors("default", &Page::default()).await.unwrap().items, []);
    assert_eq!(ops.cursors("other", &Page::default()).await.unwrap().items.len(), 1);
}

async fn of_two_who_move_a_cursor_at_once_one_is_refused(base: Base) {
    let home = base.home().await;
    let (a, b) = (open(&home).await, if base == Base::Postgres { Some(open(&home).await) } else { None });
    let b = b.as_ref().unwrap_or(&a);
    a.set_cursor("default", "mail", "start", Some(0), NOW).await.unwrap();
    for revision in 1..50 {
        let (one, two) = tokio::join!(
            a.set_cursor("default", "mail", "a", Some(revision), NOW),
            b.set_cursor("default", "mail", "b", Some(revision), NOW)
        );
        let refused = |result: &Result<u64, Error>| matches!(result, Err(Error::CursorMoved { found: Some(now) }) if *now == revision + 1);
        assert!(one.is_ok() && refused(&two) || two.is_ok() && refused(&one), "{one:?} {two:?}");
    }
}
