//! Every file in events/orchestrator is understood as what it is.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used)]

use weir_orchestrator::envelope::{Asked, TakeUp, read};
use weir_orchestrator::load::What;

fn asked(name: &str) -> Asked {
    let path = format!("{}/../../events/orchestrator/{name}.json", env!("CARGO_MANIFEST_DIR"));
    read(&serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

#[test]
fn objects_by_either_road_have_their_keys_as_they_are() {
    let Asked::Landed(bridged, odd) = asked("object-created") else { panic!() };
    assert_eq!((bridged.len(), odd.len()), (1, 0));
    assert_eq!(bridged[0].key, "page_logs/2026/11/12/ü +1.json");
    assert_eq!((bridged[0].size, bridged[0].sequencer.as_str()), (513, "00617F08299329D189"));
    assert_eq!(bridged[0].landed_ms, 1_794_441_600_000);
    let Asked::Landed(native, odd) = asked("s3-notification") else { panic!() };
    let keys: Vec<&str> = native.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["page_logs/2026/11/12/ü +1.json", "page_logs/2026/11/12/", "orders/a=1.csv"]);
    assert_eq!(odd.len(), 1, "what is no creation is named");
    assert_eq!(asked("s3-test"), Asked::Test);
}

#[test]
fn the_end_of_a_run_names_the_run() {
    for name in ["glue-succeeded", "glue-failed"] {
        let Asked::GlueChanged { job, run } = asked(name) else { panic!() };
        assert!(job == "weir-batch" && run.starts_with("jr_"), "{name}");
    }
}

#[test]
fn the_end_of_a_load_names_the_load() {
    for name in ["redshift-finished", "redshift-failed"] {
        assert_eq!(asked(name), Asked::LoadEnded { name: "weir:page_logs".into() }, "{name}");
    }
}

#[test]
fn what_people_and_schedules_ask() {
    assert_eq!(asked("load"), Asked::Load { dataset: "page_logs".into(), what: What::OnS3(None) });
    assert_eq!(asked("sweep"), Asked::Sweep);
    assert_eq!(asked("run"), Asked::Run { dataset: "page_logs".into(), take_up: TakeUp::Nothing });
    let between = TakeUp::Between(1_793_491_200_000, 1_794_463_200_000);
    assert_eq!(asked("backfill"), Asked::Run { dataset: "page_logs".into(), take_up: between });
    assert_eq!(asked("retry"), Asked::Retry { dataset: "page_logs".into(), replace: true });
}

#[test]
fn what_is_not_ours_is_named_and_so_is_the_way_out() {
    let Asked::Unknown(reason) = asked("not-ours") else { panic!() };
    assert!(reason.contains("aws.ec2"), "{reason}");
    for (wrong, word) in [
        (serde_json::json!({"dataset": 7}), "dataset"),
        (serde_json::json!({"dataset": "x", "backfil": {}}), "`backfil`"),
        (serde_json::json!({"dataset": "x", "backfill": {"from": "1st May"}}), "1st May"),
        (serde_json::json!({"dataset": "x", "backfill": {"from": "2024-02-01", "to": "2024-01-01"}}), "after"),
        (serde_json::json!({"dataset": "x", "backfill": {}, "retry": {}}), "an invocation each"),
        (serde_json::json!("text"), "no object"),
    ] {
        let Asked::Unknown(reason) = read(&wrong) else { panic!("{wrong}") };
        assert!(reason.contains(word), "{wrong}: {reason}");
    }
}
