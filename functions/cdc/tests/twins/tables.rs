//! What becomes of tables: made, widened, held, shown.

use std::sync::Arc;

use arrow_schema::DataType;
use serde_json::{Value, json};
use weir_catalog::{Catalog, Format};
use weir_ledger::backlog::Backlogs;
use weir_mortal::Fate;
use weir_mortal::clock::pass;

use crate::database::{Sent, definition};
use crate::world::World;

fn message(operation: &str, table: &str, data: Value) -> Value {
    json!({"data": data, "metadata": {"operation": operation, "record-type": "data", "schema-name": "public", "table-name": table}})
}

/// Sends messages as one batch.
async fn send(world: &World, from: u64, messages: &[Value]) {
    let sent: Vec<Sent> = messages
        .iter()
        .zip(from..)
        .map(|(message, sequence)| Sent {
            sequence,
            data: message.as_str().map_or_else(|| message.to_string(), str::to_owned),
        })
        .collect();
    assert_eq!(world.deliver(&Arc::new(Fate::default()), 0, &sent).await.unwrap(), None);
}

fn alive() -> Arc<Fate> {
    Arc::default()
}

#[tokio::test]
async fn a_table_is_made_of_its_definition_and_widens_with_it() {
    let world = World::new("public.*", false);
    send(&world, 1, &[definition(&[]), message("insert", "people", json!({"id": 1, "name": "a"}))]).await;
    world.settle(&alive()).await;
    let first = world.table("public_people").await;
    assert_eq!(first.settings.key, ["id"]);
    assert_eq!(first.schema.field_with_name("id").unwrap().data_type(), &DataType::Int32);
    // A column that was said, one that was not, and a wider key.
    let mut wider = definition(&[("sum", "NUMERIC"), ("ok", "BOOLEAN")]);
    wider["control"]["table-def"]["columns"]["id"]["type"] = json!("INT64");
    wider["metadata"]["operation"] = json!("add-column");
    let more = json!({"id": 5_000_000_000_i64, "name": "b", "sum": 1.5, "ok": true, "visits": 3});
    send(&world, 10, &[wider, message("insert", "people", more)]).await;
    pass(60_000);
    world.settle(&alive()).await;
    let table = world.table("public_people").await;
    let kind = |name: &str| table.schema.field_with_name(name).unwrap().data_type().clone();
    let kinds = ["id", "sum", "ok", "visits"].map(kind);
    assert_eq!(kinds, [DataType::Int64, DataType::Utf8, DataType::Boolean, DataType::Utf8], "what is not said is text");
    assert_eq!(world.rows("public_people", None).await.keys().copied().collect::<Vec<_>>(), [1, 5_000_000_000]);
    let shown = world.catalog.table("public_people").unwrap();
    assert_eq!(shown.format, Format::Hudi);
    let types: Vec<_> = shown.columns.iter().filter(|(name, _)| ["id", "visits"].contains(&name.as_str())).collect();
    assert_eq!(types.iter().map(|(_, kind)| kind.as_str()).collect::<Vec<_>>(), ["bigint", "string"]);
    // As of the first commit it is what it was.
    let then = table.view.timeline.commits().nth(1).cloned().unwrap();
    assert_eq!(world.rows("public_people", Some(&then)).await.len(), 1);
}

#[tokio::test]
async fn a_table_that_is_held_holds_back_no_other() {
    let world = World::new("public.*,public.customers=customers", false);
    let good = message("insert", "customers", json!({"id": 1, "name": "a"}));
    let unknown = message("insert", "mystery", json!({"id": 1}));
    send(&world, 1, &[unknown, good]).await;
    let report = world.commit(&alive()).await.unwrap();
    assert_eq!((report.commits, report.held), (1, 1));
    assert_eq!(world.table("customers").await.rows(None).await.unwrap().len(), 1);
    // Not tried again at once, and told if it lasts: its definition may be under way.
    assert_eq!(world.commit(&alive()).await.unwrap().held, 0);
    assert_eq!(world.told.all(), Vec::<String>::new());
    for _ in 0..2 {
        pass(100_000);
        assert_eq!(world.commit(&alive()).await.unwrap().held, 1);
    }
    let told = world.told.all();
    assert!(
        told.len() == 1 && told[0].contains("public.mystery") && told[0].contains("IncludeTableAlterOperations"),
        "{told:?}"
    );
    // Once it comes, nothing is missing.
    let control = json!({"control": {"table-def": {"columns": {"id": {"type": "INT32", "nullable": false}}, "primary-key": ["id"]}},
        "metadata": {"operation": "create-table", "record-type": "control", "schema-name": "public", "table-name": "mystery"}});
    send(&world, 10, &[control]).await;
    world.settle(&alive()).await;
    assert_eq!(world.table("public_mystery").await.rows(None).await.unwrap()[0].num_rows(), 1);
}

#[tokio::test]
async fn what_is_no_change_is_kept_and_what_is_no_row_is_put_aside() {
    let world = World::new("public.customers=customers", false);
    let messages = [
        message("insert", "customers", json!({"id": 1, "name": "a", "time_stamp": "2024-07-29T00:59:07Z"})),
        json!("no json"),
        message("insert", "customers", json!({"id": 2, "name": "b", "time_stamp": "whenever"})),
        message("insert", "customers", json!({"name": "nobody"})),
        message("insert", "elsewhere", json!({"id": 1})),
        message("insert", "awsdms_status", json!({"id": 1})),
        message("insert", "customers", json!({"id": 3, "name": "c"})),
    ];
    send(&world, 1, &messages).await;
    world.settle(&alive()).await;
    let rows = world.rows("customers", None).await;
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(world.keys("s3://dead-letters/").await.len(), 2, "no JSON, no key");
    let aside = world.keys("s3://tables/changes/_quarantine/customers/").await;
    assert_eq!(aside.len(), 1);
    // The same again: nothing more.
    send(&world, 1, &messages).await;
    pass(60_000);
    world.settle(&alive()).await;
    assert_eq!(world.keys("s3://tables/changes/_quarantine/").await, aside);
    assert_eq!(world.table("customers").await.view.timeline.commits().count(), 2);
}

#[tokio::test]
async fn partitions_are_shown_before_their_rows() {
    let order = |id: &str, day: &str| {
        let row = json!({"transactionId": id, "customerId": 1, "productId": 2, "quantity": 3, "price": 4.5,
            "transactionTime": format!("{day}T10:00:00"), "shippingAddress": "a\nb", "paymentMethod": "card"});
        message("insert", "o", row)
    };
    // Whatever fails, the catalog when they are to be shown, too: what is committed is shown.
    let mut world = World::new("public.o=orders", false);
    for n in 1.. {
        world = World::new("public.o=orders", false);
        send(&world, 1, &[order("a", "2024-05-01"), order("b", "2024-05-02")]).await;
        let fate = alive();
        fate.fail(n, false);
        let _ = world.commit(&fate).await;
        let shown = world.catalog.partitions("orders").len();
        let committed = match weir_hudi::Table::open(&world.place("orders")).await.unwrap() {
            Some(table) => table.rows(None).await.unwrap().iter().map(|rows| rows.num_rows()).sum(),
            None => 0,
        };
        assert!(committed <= shown, "call {n}: {committed} rows, {shown} partitions");
        pass(1_000_000);
        if !fate.has_come() {
            assert!(n > 20, "there were {n} calls");
            break;
        }
    }
    world.settle(&alive()).await;
    let partitions = world.catalog.partitions("orders");
    let places: Vec<_> = partitions.values().map(|at| at.key().to_owned()).collect();
    assert_eq!(places, ["changes/orders/event_date=2024-05-01/", "changes/orders/event_date=2024-05-02/"]);
    // A delete says its key alone.
    send(&world, 10, &[message("delete", "o", json!({"transactionId": "a", "price": null}))]).await;
    world.settle(&alive()).await;
    let left: usize = world.table("orders").await.rows(None).await.unwrap().iter().map(|rows| rows.num_rows()).sum();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_table_goes_on_from_what_its_commits_say_and_a_new_one_from_the_ledger() {
    let world = World::new("public.customers=customers", false);
    let row = |id: u64, name: &str| message("insert", "customers", json!({"id": id, "name": name}));
    send(&world, 1, &[row(1, "a")]).await;
    world.settle(&alive()).await;
    // The ledger forgets: what is staged already is in the table, and is known to be.
    let fresh = World { backlogs: Arc::default(), ..world };
    send(&fresh, 2, &[row(2, "b")]).await;
    pass(60_000);
    fresh.settle(&alive()).await;
    let commit = fresh.table("customers").await;
    let last = commit.view.timeline.commits().next_back().unwrap();
    assert_eq!(
        commit.rows_between(commit.view.timeline.commits().nth(1).unwrap(), Some(last)).await.unwrap()[0].num_rows(),
        1
    );
    // The table is deleted, to be loaded anew: what was staged before does not come back.
    for key in fresh.keys("s3://tables/changes/customers/").await {
        let at = weir_command::Location::parse(&format!("s3://tables/{key}")).unwrap();
        weir_lake::Lake::delete(&*fresh.lake, &[at]).await.unwrap();
    }
    send(&fresh, 3, &[row(3, "c")]).await;
    pass(60_000);
    fresh.settle(&alive()).await;
    assert_eq!(fresh.rows("customers", None).await.keys().copied().collect::<Vec<_>>(), [3]);
    assert!(fresh.catalog.columns_of("customers").await.unwrap().is_some());
    assert!(fresh.backlogs.backlog("public.customers").await.unwrap().unwrap().staged.is_empty());
}

#[tokio::test]
async fn staged_changes_that_are_gone_are_said() {
    let world = World::new("public.customers=customers", false);
    send(&world, 1, &[message("insert", "customers", json!({"id": 1, "name": "a"}))]).await;
    for key in world.keys("s3://tables/changes/_staged/").await {
        let at = weir_command::Location::parse(&format!("s3://tables/{key}")).unwrap();
        weir_lake::Lake::delete(&*world.lake, &[at]).await.unwrap();
    }
    world.settle(&alive()).await;
    let told = world.told.all();
    assert!(told.len() == 1 && told[0].contains("StagedGone") && told[0].contains("public.customers"), "{told:?}");
}

#[tokio::test]
async fn two_sources_of_one_table_are_refused() {
    let world = World::new("public.*,pub.*", false);
    let definition = |schema: &str, table: &str| {
        let columns = json!({"columns": {"id": {"type": "INT32"}, "name": {"type": "STRING"}, "gender": {"type": "STRING"}}, "primary-key": ["id"]});
        json!({"control": {"table-def": columns}, "metadata": {"operation": "create-table", "record-type": "control", "schema-name": schema, "table-name": table}})
    };
    let row = |schema: &str, table: &str, id: u64| json!({"data": {"id": id, "name": table}, "metadata": {"operation": "insert", "record-type": "data", "schema-name": schema, "table-name": table}});
    send(&world, 1, &[definition("public", "Line Items"), row("public", "Line Items", 1)]).await;
    world.settle(&alive()).await;
    send(&world, 10, &[definition("public", "line_items"), row("public", "line_items", 2)]).await;
    let report = world.commit(&alive()).await.unwrap();
    assert_eq!((report.commits, report.held), (0, 1));
    assert!(world.told.all()[0].contains("OtherSource"), "{:?}", world.told.all());
    assert_eq!(world.rows("public_line_items", None).await.len(), 1);
}

#[tokio::test]
async fn a_column_that_goes_stays_as_it_was() {
    let world = World::new("public.*", false);
    let row = |id: u64, more: Value| {
        let mut row = json!({"id": id, "name": "a"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message("insert", "people", row)
    };
    let money = json!({"type": "NUMERIC", "precision": 12, "scale": 2});
    let mut with = definition(&[("at", "DATETIME")]);
    with["control"]["table-def"]["columns"]["price"] = money;
    send(&world, 1, &[with, row(1, json!({"price": 1.5, "at": "2024-05-01T00:00:00Z"}))]).await;
    world.settle(&alive()).await;
    // In one commit: rows that still have them, and that they are gone; on another shard what comes of it may be behind.
    send(
        &world,
        10,
        &[row(2, json!({"price": 2.5, "at": null})), definition(&[]), row(3, json!({"at": "2024-05-02T00:00:00Z"}))],
    )
    .await;
    pass(60_000);
    world.settle(&alive()).await;
    assert_eq!(world.rows("public_people", None).await.len(), 3);
    let table = world.table("public_people").await;
    let kind = |name: &str| table.schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(kind("price"), DataType::Decimal128(12, 2));
    assert!(matches!(kind("at"), DataType::Timestamp(..)));
    assert_eq!(world.keys("s3://tables/changes/_quarantine/").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_column_that_comes_before_it_is_said_is_text_and_stays_so() {
    let world = World::new("public.*", false);
    send(&world, 1, &[definition(&[]), message("insert", "people", json!({"id": 1, "name": "a", "at": "2024-05-01"}))])
        .await;
    world.settle(&alive()).await;
    send(
        &world,
        10,
        &[
            definition(&[("at", "DATE")]),
            message("insert", "people", json!({"id": 2, "name": "b", "at": "2024-05-02"})),
        ],
    )
    .await;
    pass(60_000);
    world.settle(&alive()).await;
    assert_eq!(world.rows("public_people", None).await.len(), 2);
}

#[tokio::test]
async fn staged_changes_that_are_gone_in_part_are_said() {
    let world = World::new("public.customers=customers", false);
    for id in 1..4 {
        send(&world, id, &[message("insert", "customers", json!({"id": id, "name": "a"}))]).await;
    }
    let first = world.keys("s3://tables/changes/_staged/").await[0].clone();
    let at = weir_command::Location::parse(&format!("s3://tables/{first}")).unwrap();
    weir_lake::Lake::delete(&*world.lake, &[at]).await.unwrap();
    world.settle(&alive()).await;
    assert_eq!(world.rows("customers", None).await.keys().copied().collect::<Vec<_>>(), [2, 3]);
    let told = world.told.all();
    assert!(told.len() == 1 && told[0].contains("StagedGone"), "{told:?}");
}

#[tokio::test]
async fn a_table_that_went_back_is_brought_forward() {
    let world = World::new("public.customers=customers", false);
    let alive = alive();
    let row = |id: u64| Sent {
        sequence: id,
        data: message("insert", "customers", json!({"id": id, "name": "a"})).to_string(),
    };
    for (shard, id) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        world.deliver(&alive, shard, &[row(id)]).await.unwrap();
        pass(60_000);
        world.settle(&alive).await;
    }
    // Its last two commits are taken back, as a restore does.
    let commits: Vec<_> = world.table("customers").await.view.timeline.commits().rev().take(2).cloned().collect();
    for instant in &commits {
        for key in world.keys("s3://tables/changes/customers/").await {
            if key.contains(&instant.to_string()) {
                let at = weir_command::Location::parse(&format!("s3://tables/{key}")).unwrap();
                weir_lake::Lake::delete(&*world.lake, &[at]).await.unwrap();
            }
        }
    }
    assert_eq!(world.rows("customers", None).await.keys().copied().collect::<Vec<_>>(), [1, 2]);
    // Anything new of it, on one shard, brings the other along.
    world.deliver(&alive, 0, &[row(5)]).await.unwrap();
    world.settle(&alive).await;
    assert_eq!(world.rows("customers", None).await.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_table_does_not_begin_anew_elsewhere_by_itself() {
    let world = World::new("public.*", false);
    send(&world, 1, &[definition(&[]), message("insert", "people", json!({"id": 1, "name": "a"}))]).await;
    world.settle(&alive()).await;
    let world = World { tables: "public.people=customers", ..world };
    send(&world, 10, &[message("insert", "people", json!({"id": 2, "name": "b"}))]).await;
    let report = world.commit(&alive()).await.unwrap();
    assert_eq!((report.commits, report.held), (0, 1));
    assert!(world.told.all()[0].contains("ChangeTables as it was"), "{:?}", world.told.all());
}

#[tokio::test]
async fn what_comes_while_a_table_is_committed_is_the_next_minutes() {
    let world = Arc::new(World::new("public.customers=customers", false));
    let row = |id: u64| message("insert", "customers", json!({"id": id, "name": "a"}));
    send(&world, 1, &[row(1)]).await;
    let fate = alive();
    fate.stall(12);
    let (stalled_world, stalled_fate) = (Arc::clone(&world), Arc::clone(&fate));
    let stalled = tokio::spawn(async move { stalled_world.commit(&stalled_fate).await });
    fate.stalled().await;
    send(&world, 2, &[row(2)]).await;
    fate.go_on();
    assert_eq!(stalled.await.unwrap().unwrap().commits, 1);
    assert_eq!(world.commit(&alive()).await.unwrap().commits, 1);
    assert_eq!(world.rows("customers", None).await.len(), 2);
}

#[tokio::test]
async fn a_table_of_which_the_committer_dies_holds_back_no_other() {
    let world = World::new("public.*", false);
    let table = |name: &str| {
        let mut said = definition(&[]);
        said["metadata"]["table-name"] = json!(name);
        [said, message("insert", name, json!({"id": 1, "name": "a"}))]
    };
    send(&world, 1, &[table("deadly"), table("other")].concat()).await;
    let fate = alive();
    // Amid its commit.
    fate.set(12, false);
    let _ = world.commit(&fate).await;
    assert!(fate.has_come());
    let deadly = world.backlogs.backlog("public.deadly").await.unwrap().unwrap();
    assert_eq!(deadly.failures, 1, "it is known that it was tried");
    assert!(deadly.look_at_ms.unwrap() > weir_mortal::clock::now_ms());
    assert_eq!(world.commit(&alive()).await.unwrap().commits, 1);
    assert_eq!(world.rows("public_other", None).await.len(), 1);
    pass(400_000);
    world.settle(&alive()).await;
    assert_eq!(world.rows("public_deadly", None).await.len(), 1);
    assert_eq!(world.backlogs.backlog("public.deadly").await.unwrap().unwrap().failures, 0);
}
