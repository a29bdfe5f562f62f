//! Records that somebody has written by hand become registered versions, once, and those that cannot are named.

use serde_json::{Value, json};

use super::{Index, found, home, indexed, plain, search, version};

#[test]
fn records_by_hand_are_imported_once_and_bad_ones_are_named() {
    for index in Index::both() {
        let mut lines = String::new();
        for n in 0..450 {
            let record = json!({"name": format!("churn-{}", n % 30), "version": format!("{}.0", n / 30), "description": "written by hand",
                "data": "customers.csv", "algorithm": "xgboost", "performance": {"auc": 0.9}});
            lines += &format!("{}\n{record}\n", json!({"index": {"_id": format!("r{n}")}}));
        }
        for (id, bad) in
            [("b1", json!({"version": "1"})), ("b2", json!({"name": "a/b"})), ("b3", json!({"name": "churn-0", "version": "0.0"}))]
        {
            lines += &format!("{}\n{bad}\n", json!({"index": {"_id": id}}));
        }
        let sent =
            ureq::post(format!("{}/{}/_bulk?refresh=true", index.cluster, index.name)).header("content-type", "application/x-ndjson");
        assert_eq!(sent.send(&lines).unwrap().body_mut().read_json::<Value>().unwrap()["errors"], false);
        let (_dir, engine) = plain();
        let import = || {
            let output = engine.annals(&["import", "elasticsearch", &index.cluster, "--index", &index.name, "--actor", "ada", "--json"]);
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
            (output.status.code(), told, String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, told, said) = import();
        assert_eq!((code, &told["accepted"], &told["duplicates"], &told["bad"]), (Some(1), &json!(450), &json!(0), &json!(3)), "{said}");
        for says in ["b1: it has no `name`", "b2: model `a/b`", "b3: "] {
            assert!(said.contains(&format!("{}/{says}", index.name)), "{says}: {said}");
        }
        assert_eq!(found(&search(&engine, "xgboost").ok(200)).len(), 450);
        let one = search(&engine, "name:7 label:14").ok(200);
        assert_eq!(found(&one), ["churn-7/15"]);
        let one = &one["items"][0];
        assert_eq!(
            (&one["label"], &one["data"], &one["created_by"]),
            (&json!("14.0"), &json!([{"name": "customers.csv"}]), &json!("unverified:ada"))
        );
        assert_eq!(one["performance"], json!([{"name": "auc", "value": 0.9}]));
        let (code, told, _) = import();
        assert_eq!((code, &told["accepted"], &told["duplicates"], &told["bad"]), (Some(1), &json!(0), &json!(450), &json!(3)));
        let none = engine.annals(&["import", "elasticsearch", &index.cluster, "--index", "there-is-none"]);
        assert!(none.status.code() == Some(1) && String::from_utf8_lossy(&none.stderr).contains("no such index"), "{none:?}");
    }
    let (_dir, engine) = plain();
    let away = engine.annals(&["import", "elasticsearch", "http://127.0.0.1:1"]);
    assert_eq!(away.status.code(), Some(69), "{away:?}");
}

#[test]
fn what_annals_has_indexed_itself_is_not_imported() {
    let [index, _] = Index::both();
    let dir = home();
    let engine = index.engine(&dir, &[]);
    version(&engine, "iris", 1, "flowers");
    indexed(&engine);
    for name in [index.name.clone(), format!("{}-000001", index.name)] {
        let told = engine.annals(&["import", "elasticsearch", &index.cluster, "--index", &name]);
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(
            told.status.code() == Some(1) && said.contains(&format!("`{}-000001` is an index that Annals keeps", index.name)),
            "{said}"
        );
    }
    assert_eq!(found(&search(&engine, "flowers").ok(200)), ["iris/1"]);
}
