use super::*;
use proptest::prelude::*;

fn problems(record: &str) -> String {
    Command::parse(record.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_shape_in_the_readme_is_a_copy() {
    let command =
        Command::parse(br#"{"source":"s3://in-bucket/trips.csv","dest":"s3://out-bucket/trips/","command":"copy"}"#)
            .unwrap();
    assert_eq!(command.action, Action::Copy);
    assert_eq!((command.mode, command.when, command.job_id), (Mode::Auto, When::OffPeak, None));
}

#[test]
fn convert_defaults_to_snappy_parquet() {
    let command =
        Command::parse(br#"{"source":"s3://in-bucket/a","dest":"s3://out-bucket/b","command":"convert"}"#).unwrap();
    assert_eq!(command.action, Action::Convert { format: Format::Parquet, compression: Compression::Snappy });
}

#[test]
fn cleaning_needs_a_contract_and_writes_parquet() {
    let record = |rest: &str| format!(r#"{{"source":"s3://in-bucket/a","dest":"s3://out-bucket/b",{rest}}}"#);
    let clean = Command::parse(record(r#""command":"clean","dataset":"trips""#).as_bytes()).unwrap();
    assert_eq!((clean.action, clean.dataset.as_deref()), (Action::Clean, Some("trips")));
    assert!(problems(&record(r#""command":"aggregate""#)).contains("member `dataset` is missing"));
    let said = problems(&record(r#""command":"clean","dataset":"trips","format":"csv""#));
    assert!(said.contains("belong to `convert`; `clean` writes Parquet"), "{said}");
}

#[test]
fn every_problem_is_named_at_once() {
    let said = problems(r#"{"sorce":"s3://in-bucket/a","dest":7,"command":"cpoy","mode":"fast"}"#);
    for word in [
        "unknown member `sorce`; did you mean `source`?",
        "`source` is missing",
        "`dest` must be a string, but is the number `7`",
        "did you mean `copy`?",
        "`mode` is `fast`, but must be one of `auto`, `realtime`, `batch`",
    ] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn what_is_not_an_object_is_said_shortly() {
    for (record, word) in [
        ("", "empty"),
        (" \n", "empty"),
        ("[1]", "not an object"),
        ("\"copy\"", "not an object"),
        ("{", "not JSON"),
        ("copy a b", "not JSON"),
    ] {
        assert!(problems(record).contains(word), "{record}: {}", problems(record));
    }
    let garbage = vec![0xffu8; 1 << 20];
    assert!(Command::parse(&garbage).unwrap_err().to_string().len() < 500);
    let many: String = (0..50_000).map(|n| format!("\"m{n}\":1,")).collect();
    assert!(problems(&format!("{{{}\"x\":1}}", many)).len() < 2000);
    assert!(problems(&"[".repeat(1 << 20)).len() < 500);
}

#[test]
fn members_given_twice_and_contradictions_are_refused() {
    let twice =
        r#"{"source":"s3://in-bucket/a","dest":"s3://out-bucket/b","dest":"s3://out-bucket/c","command":"copy"}"#;
    assert!(problems(twice).contains("given twice"));
    let base = r#""source":"s3://in-bucket/a","dest":"s3://out-bucket/b""#;
    assert!(problems(&format!(r#"{{{base},"command":"copy","format":"csv"}}"#)).contains("belong to `convert`"));
    assert!(
        problems(&format!(r#"{{{base},"command":"convert","format":"csv","compression":"snappy"}}"#))
            .contains("csv takes")
    );
    assert!(
        problems(&format!(r#"{{{base},"command":"copy","mode":"realtime","when":"off-peak"}}"#))
            .contains("contradicts")
    );
    assert!(
        problems(r#"{"source":"s3://in-bucket/a/","dest":"s3://in-bucket/a","command":"copy"}"#).contains("same place")
    );
    assert!(
        problems(r#"{"source":"s3://in-bucket/a/","dest":"s3://in-bucket/a/b/","command":"copy"}"#)
            .contains("lies inside")
    );
}

#[test]
fn the_id_survives_a_wrong_record() {
    let error = Command::parse(br#"{"job_id":"j-1","command":"copy"}"#).unwrap_err();
    assert_eq!(error.job_id, Some(JobId::new("j-1").unwrap()));
    let error = Command::parse(br#"{"job_id":"../x","command":"copy"}"#).unwrap_err();
    assert_eq!(error.job_id, None);
    assert!(error.to_string().contains("not a job id"));
}

#[test]
fn off_peak_asks_for_batch() {
    let record = br#"{"source":"s3://in-bucket/a","dest":"s3://out-bucket/b","command":"copy","when":"off-peak"}"#;
    assert_eq!(Command::parse(record).unwrap().mode, Mode::Batch);
}

fn any_command() -> impl Strategy<Value = Command> {
    let format = prop::sample::select(vec![Format::Parquet, Format::NdJson, Format::Csv, Format::Avro]);
    let action = prop_oneof![
        Just(Action::Copy),
        Just(Action::Clean),
        Just(Action::Aggregate),
        format.prop_flat_map(|format| prop::sample::select(format.compressions().to_vec())
            .prop_map(move |compression| Action::Convert { format, compression })),
    ];
    let mode = prop::sample::select(vec![Mode::Auto, Mode::Realtime, Mode::Batch]);
    let id = prop::option::of("[A-Za-z0-9_:-]{1,20}");
    (id, "[a-z]{1,9}(/[a-z ü%+]{1,9}){0,3}/?", action, mode, any::<bool>(), prop::option::of("[a-z_]{1,9}")).prop_map(
        |(id, key, action, mode, now, dataset)| Command {
            job_id: id.map(|id| JobId::new(&id).unwrap()),
            source: Location::parse(&format!("s3://in-bucket/{key}")).unwrap(),
            dest: Location::parse(&format!("s3://out-bucket/{key}")).unwrap(),
            action,
            mode,
            when: if now { When::Now } else { When::OffPeak },
            dataset: match action {
                Action::Clean | Action::Aggregate => Some(dataset.unwrap_or_else(|| "trips".to_owned())),
                _ => dataset,
            },
        },
    )
}

proptest! {
    #[test]
    fn what_is_stored_reads_back(command in any_command()) {
        prop_assert_eq!(Command::parse(command.to_json().as_bytes()).unwrap(), command);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&bytes);
    }
}
