//! Conversions, judged by reading back what was written.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use weir_command::{Compression, Format};
use weir_formats::{BytesInput, ConvertError, Input, MemoryOutput, Settings, Summary, convert, sniff};

fn settings() -> Settings {
    // Small blocks, so that a few rows already are several units in several threads.
    Settings { threads: 3, block_bytes: 64, ..Settings::for_machine() }
}

fn input(name: &str, bytes: impl Into<Bytes>) -> Arc<dyn Input> {
    Arc::new(BytesInput::new(name, bytes))
}

fn try_to(
    format: Format,
    compression: Compression,
    inputs: &[Arc<dyn Input>],
) -> Result<(Summary, MemoryOutput), ConvertError> {
    let output = MemoryOutput::default();
    convert(inputs, format, compression, &output, &settings()).map(|summary| (summary, output))
}

fn to_parquet(name: &str, bytes: impl Into<Bytes>) -> (Summary, MemoryOutput) {
    try_to(Format::Parquet, Compression::Snappy, &[input(name, bytes)]).unwrap()
}

fn data_error(name: &str, bytes: impl Into<Bytes>) -> String {
    match try_to(Format::Parquet, Compression::Snappy, &[input(name, bytes)]) {
        Err(error @ ConvertError::Data { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The rows of the Parquet output as text, with `∅` for null.
fn rows(output: &MemoryOutput) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (name, bytes) in output.files() {
        if name.starts_with('_') {
            continue;
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        for batch in reader {
            rows.extend(rows_of(&batch.unwrap()));
        }
    }
    rows
}

fn rows_of(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("∅");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()).collect()
}

fn schema(summary: &Summary) -> String {
    summary.columns.describe().replace('\n', "; ")
}

fn quarantine(output: &MemoryOutput) -> String {
    output
        .files()
        .get("_quarantine/part-00000.ndjson")
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        .unwrap_or_default()
}

#[test]
fn csv_becomes_typed_columns() {
    let (summary, output) = to_parquet(
        "t.csv",
        "id,name,price,on,at,zip\n1,Ann,1.5,true,2024-02-29 10:00:00,01234\n2,\"B, \"\"x\"\"\nc\",2,FALSE,2024-03-01T00:00:00.5,99999\n3,,,,,\n",
    );
    assert_eq!(schema(&summary), "id: Int64; name: Utf8; price: Float64; on: Boolean; at: Timestamp(µs); zip: Utf8");
    assert_eq!(
        rows(&output),
        [
            vec!["1", "Ann", "1.5", "true", "2024-02-29T10:00:00", "01234"],
            vec!["2", "B, \"x\"\nc", "2.0", "false", "2024-03-01T00:00:00.500", "99999"],
            vec!["3", "∅", "∅", "∅", "∅", "∅"],
        ]
    );
}

#[test]
fn delimiters_headers_and_line_ends() {
    for (text, names) in [
        ("a;b\r\n1;x\r\n2;y\r\n", "a: Int64; b: Utf8"),
        ("a\tb\n1\tx\n2\ty", "a: Int64; b: Utf8"),
        ("a|b\n1|x\n\n2|y\n\n", "a: Int64; b: Utf8"),
        ("\u{feff}a,b\n1,x\n2,y\n", "a: Int64; b: Utf8"),
        ("1,x\n2,y\n", "column_1: Int64; column_2: Utf8"),
        ("a,a,\n1,2,3\n2,3,4\n", "column_1: Utf8; column_2: Utf8; column_3: Int64"),
    ] {
        let (summary, output) = to_parquet("t.csv", text);
        assert_eq!(schema(&summary), names, "{text:?}");
        assert!(rows(&output).len() >= 2, "{text:?}");
    }
}

#[test]
fn a_quoted_empty_cell_is_an_empty_text_and_an_unquoted_one_null() {
    let (_, output) = to_parquet("t.csv", "a,b\nx,\"\"\ny,\nz,w\n");
    assert_eq!(rows(&output), [["x", ""], ["y", "∅"], ["z", "w"]]);
}

#[test]
fn utf_16_is_read() {
    for little in [true, false] {
        let mark = "\u{feff}";
        let units = format!("{mark}id,name\n1,Zoë\n2,日本\n").encode_utf16().collect::<Vec<_>>();
        let bytes: Vec<u8> =
            units.iter().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect();
        let (_, output) = to_parquet("t.csv", bytes);
        assert_eq!(rows(&output), [["1", "Zoë"], ["2", "日本"]]);
    }
}

#[test]
fn a_contradiction_far_below_widens_the_column_for_every_row() {
    let mut text = String::from("id,n\n");
    for row in 0..60_000 {
        text.push_str(&format!("{row},{row}\n"));
    }
    let (summary, output) = to_parquet("t.csv", format!("{text}x,0.5\n"));
    assert_eq!(schema(&summary), "id: Utf8; n: Float64");
    assert_eq!((summary.rows, summary.restarts), (60_001, 1));
    let rows = rows(&output);
    assert_eq!((&rows[7], &rows[60_000]), (&vec!["7".to_owned(), "7.0".into()], &vec!["x".to_owned(), "0.5".into()]));
}

#[test]
fn a_whole_number_too_large_to_be_a_float_makes_the_column_text() {
    let mut text = String::from("n,m\n9007199254740993,1\n");
    for row in 0..60_000 {
        text.push_str(&format!("{row},1\n"));
    }
    let (summary, output) = to_parquet("t.csv", format!("{text}0.5,1\n"));
    assert_eq!(schema(&summary), "n: Utf8; m: Int64");
    assert_eq!(rows(&output)[0][0], "9007199254740993");
}

#[test]
fn rows_with_too_many_cells_are_put_aside_and_short_ones_filled() {
    let (summary, output) = to_parquet("t.csv", "a,b,c\n1,2,3\n1,2,3,4\n1,2\n\"x\"y,2,3\n5,6,7\n");
    assert_eq!(rows(&output), [["1", "2", "3"], ["1", "2", "∅"], ["5", "6", "7"]]);
    assert_eq!((summary.rows, summary.quarantined), (3, 2));
    let lines = quarantine(&output);
    assert!(
        lines.contains(r#""reason":"it has 4 cells where there are 3 columns""#)
            && lines.contains(r#""raw":"1,2,3,4""#),
        "{lines}"
    );
    assert!(lines.contains("text after a closing quote"), "{lines}");
}

#[test]
fn an_unclosed_quote_costs_its_line_only() {
    let (summary, output) = to_parquet("t.csv", "a,b\n1,x\n2,\"open\n3,y\n4,z\n");
    assert_eq!(rows(&output), [["1", "x"], ["3", "y"], ["4", "z"]]);
    assert_eq!(summary.quarantined, 1);
    assert!(quarantine(&output).contains("never closed"));
}

#[test]
fn bytes_that_are_not_utf_8_cost_their_row_only() {
    let mut text = b"a,b\n1,x\n2,".to_vec();
    text.extend([0xff, 0xfe, b'\n']);
    text.extend(b"3,z\n");
    let (summary, output) = to_parquet("t.csv", text);
    assert_eq!(rows(&output), [["1", "x"], ["3", "z"]]);
    assert_eq!(summary.quarantined, 1);
    assert!(quarantine(&output).contains("raw_hex"));
}

#[test]
fn ndjson_nested_missing_and_new_members() {
    let text = concat!(
        "{\"id\":1,\"tags\":[\"a\",\"b\"],\"who\":{\"name\":\"Ann\",\"age\":3},\"at\":\"2024-01-01T00:00:00Z\"}\n",
        "{\"id\":2,\"who\":{\"name\":\"Bob\"},\"tags\":[],\"at\":null}\n",
        "{\"who\":null,\"id\":3.5,\"new\":true}\n"
    );
    let (summary, output) = to_parquet("t.json", text);
    assert!(schema(&summary).starts_with("id: Float64; tags: List"), "{}", schema(&summary));
    let rows = rows(&output);
    assert_eq!(rows[0], ["1.0", "[a, b]", "{name: Ann, age: 3}", "2024-01-01T00:00:00Z", "∅"]);
    assert_eq!(rows[2], ["3.5", "∅", "∅", "∅", "true"]);
}

#[test]
fn json_values_of_several_kinds_become_text_without_loss() {
    let (summary, output) = to_parquet(
        "t.ndjson",
        "{\"v\":12345678901234567890}\n{\"v\":\"s\"}\n{\"v\":[1, 2]}\n{\"v\":{}}\n{\"v\":null}\n",
    );
    assert_eq!(schema(&summary), "v: Utf8");
    assert_eq!(rows(&output), [["12345678901234567890"], ["s"], ["[1, 2]"], ["{}"], ["∅"]]);
}

#[test]
fn bad_json_lines_are_put_aside_and_do_not_widen_anything() {
    let text = "{\"a\":1}\n{\"a\":\"x\n{\"a\":2,\"a\":3}\n[1]\nnonsense\n{\"a\":\"\\ud800\"}\n{\"a\":4}\n";
    let (summary, output) = to_parquet("t.ndjson", text);
    assert_eq!(schema(&summary), "a: Int64");
    assert_eq!(rows(&output), [["1"], ["4"]]);
    assert_eq!(summary.quarantined, 5);
    let lines = quarantine(&output);
    assert!(
        lines.contains("given twice") && lines.contains("not an object") && lines.contains("\"line\":5"),
        "{lines}"
    );
}

#[test]
fn a_json_array_and_spread_out_objects() {
    for text in [
        "[{\"a\":1,\"s\":\"]},{\"},\n {\"a\":2,\"s\":\"\\\"\"}]",
        "{\n \"a\": 1,\n \"s\": \"]},{\"\n}\n{\n \"a\": 2,\n \"s\": \"\\\"\"\n}\n",
    ] {
        let (_, output) = to_parquet("t.json", text);
        assert_eq!(rows(&output), [["1", "]},{"], ["2", "\""]], "{text}");
    }
    assert!(data_error("t.json", "[{\"a\":1},{\"a\":2").contains("truncated"));
}

#[test]
fn every_format_and_wrapping_reads_back() {
    let text = "id,name,price,day,at\n1,Ann,1.5,2024-02-29,2024-02-29T10:00:00Z\n2,\"x,\"\"y\"\"\",,2024-03-01,2024-02-29T10:00:00.25Z\n3,,-2.0,,\n";
    let (_, expected) = to_parquet("t.csv", text);
    for format in [Format::Parquet, Format::Avro, Format::NdJson, Format::Csv] {
        for compression in format.compressions() {
            let (summary, output) = try_to(format, *compression, &[input("t.csv", text)]).unwrap();
            let (name, bytes) = output.files().into_iter().next().unwrap();
            assert_eq!(summary.bytes_out, bytes.len() as u64, "{name}");
            let (_, back) = to_parquet(&name, bytes);
            assert_eq!(rows(&back), rows(&expected), "{format} {compression}");
        }
    }
}

#[test]
fn wrapped_columnar_files_are_spooled_within_bounds() {
    let (_, output) = to_parquet("t.csv", "a,b\n1,x\n2,y\n");
    let (_, bytes) = output.files().into_iter().next().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let (_, back) = to_parquet("t.parquet.gz", gzip.clone());
    assert_eq!(rows(&back), [["1", "x"], ["2", "y"]]);
    let small = Settings { spool_max_bytes: 100, ..settings() };
    let refused =
        convert(&[input("t.parquet.gz", gzip)], Format::Parquet, Compression::Snappy, &MemoryOutput::default(), &small);
    assert!(matches!(refused, Err(ConvertError::TooLargeToSpool { .. })), "{refused:?}");
}

fn zipped(members: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_zip_with_one_member_is_read_and_others_refused() {
    let (_, output) = to_parquet("t.zip", zipped(&[("in.csv", "a,b\n1,x\n2,y\n")]));
    assert_eq!(rows(&output), [["1", "x"], ["2", "y"]]);
    assert!(data_error("t.zip", zipped(&[("a.csv", "a,b\n1,2\n"), ("b.csv", "a,b\n1,2\n")])).contains("2 members"));
}

#[test]
fn a_prefix_may_mix_formats_where_columns_agree() {
    let (_, output) = to_parquet("x.csv", "id,name\n3,Cid\n");
    let (_, parquet) = output.files().into_iter().next().unwrap();
    let inputs = [
        input("a.csv", "id,name\n1,Ann\n"),
        input("b.ndjson", "{\"name\":\"Bob\",\"id\":2}\n"),
        input("c.parquet", parquet),
        input("d.csv", "name,id\nDan,4\n"),
        input("empty.csv", ""),
    ];
    let (summary, output) = try_to(Format::Parquet, Compression::Snappy, &inputs).unwrap();
    assert_eq!(rows(&output), [["1", "Ann"], ["2", "Bob"], ["3", "Cid"], ["4", "Dan"]]);
    assert!(summary.notes[0].contains("empty.csv is empty"));
    let disagree = [input("a.csv", "id,name\n1,Ann\n"), input("b.csv", "id,nom\n1,Ann\n")];
    let error = try_to(Format::Parquet, Compression::Snappy, &disagree).unwrap_err().to_string();
    assert!(
        error.contains("b.csv") && error.contains("only here: `nom`") && error.contains("only there: `name`"),
        "{error}"
    );
}

#[test]
fn what_is_no_table_says_so() {
    assert!(data_error("e.csv", "").contains("no bytes at all"));
    assert!(data_error("e.csv", " \n\n").contains("nothing but blanks"));
    assert!(data_error("t.parquet", "once upon a time\nthere was a text\n").contains("neither JSON nor a table"));
    assert!(data_error("t.bin", vec![0u8, 1, 2, 3]).contains("binary content"));
    assert!(data_error("t.parquet", "PAR1abcdefghijklmnop").contains("truncated"));
    let (_, output) = to_parquet("t.csv", "a,b\n1,x\n");
    let (_, bytes) = output.files().into_iter().next().unwrap();
    let mut broken = bytes.to_vec();
    let middle = broken.len() / 2;
    broken[middle..middle + 20].fill(0xff);
    let answered = try_to(Format::NdJson, Compression::None, &[input("t.parquet", broken)]);
    assert!(
        answered.is_ok() || matches!(answered, Err(ConvertError::Data { .. })),
        "broken bytes are the data's fault"
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all("a,b\n1,x\n".repeat(1000).as_bytes()).unwrap();
    let mut gzip = gzip.finish().unwrap();
    gzip.truncate(gzip.len() - 9);
    assert!(data_error("t.csv.gz", gzip).contains("truncated"));
}

#[test]
fn a_lone_header_is_a_table_without_rows() {
    let (summary, output) = to_parquet("t.csv", "id,name\n");
    assert_eq!((summary.rows, schema(&summary).as_str()), (0, "id: Utf8; name: Utf8"));
    assert_eq!(rows(&output), Vec::<Vec<String>>::new());
    assert_eq!(output.files().len(), 1);
}

#[test]
fn a_truncated_avro_file_is_no_shorter_table() {
    let text: String =
        std::iter::once("id,name\n".to_owned()).chain((0..9000).map(|n| format!("{n},n{n}\n"))).collect();
    let (_, output) = try_to(Format::Avro, Compression::None, &[input("t.csv", text)]).unwrap();
    let (_, bytes) = output.files().into_iter().next().unwrap();
    let (whole, _) = to_parquet("t.avro", bytes.clone());
    assert_eq!(whole.rows, 9000);
    assert!(data_error("t.avro", bytes.slice(..bytes.len() - 7)).contains("truncated"));
    let mut wrong = bytes.to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(data_error("t.avro", wrong).contains("sync marker"));
}

#[test]
fn a_name_that_lies_is_noticed() {
    let found = sniff(&input("t.parquet", "a,b\n1,2\n3,4\n")).unwrap();
    assert_eq!(found.format.to_string(), "csv");
    assert!(found.saw.contains("though its name says parquet"), "{}", found.saw);
}

#[test]
fn nothing_is_visible_after_a_failure() {
    let output = MemoryOutput::default();
    let inputs = [input("a.csv", "a,b\n1,2\n".repeat(1000)), input("b.avro", b"Obj\x01garbage".to_vec())];
    assert!(convert(&inputs, Format::Parquet, Compression::Snappy, &output, &settings()).is_err());
    let stopped = Settings { stop: Arc::new(|| true), ..settings() };
    let result = convert(&inputs[..1], Format::Parquet, Compression::Snappy, &output, &stopped);
    assert!(matches!(result, Err(ConvertError::Stopped)));
    assert!(output.files().is_empty());
}

fn any_cell() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,3}",
        "-?[0-9]{1,3}\\.[0-9]{1,3}",
        "[a-z ]{0,5}",
        "[a-z,\"\n;|]{0,6}",
        Just("true".to_owned()),
        Just("2024-02-29".to_owned()),
        Just("9007199254740993".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever the cells, a value never becomes null, and a text column keeps every character.
    #[test]
    fn no_value_is_ever_lost(cells in prop::collection::vec([any_cell(), any_cell()], 1..60)) {
        let mut text = String::from("first_name,last_name\n");
        for row in &cells {
            let quoted = row.each_ref().map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
            text.push_str(&format!("{}\n", quoted.join(",")));
        }
        let (summary, output) = to_parquet("t.csv", text);
        prop_assert_eq!(summary.quarantined, 0);
        let back = rows(&output);
        prop_assert_eq!(back.len(), cells.len());
        for (row, cells) in back.iter().zip(&cells) {
            for ((value, cell), (_, kind)) in row.iter().zip(cells).zip(&summary.columns.0) {
                if cell.is_empty() {
                    prop_assert!(value == "∅" || value.is_empty());
                } else if *kind == weir_formats::Kind::Text {
                    prop_assert_eq!(value, cell);
                } else {
                    prop_assert!(value != "∅", "{cell} became null");
                    if let Ok(number) = cell.trim().parse::<f64>() {
                        prop_assert_eq!(value.parse::<f64>().unwrap(), number);
                    }
                }
            }
        }
    }

    /// Hostile bytes are answered, whatever they begin with.
    #[test]
    fn no_bytes_are_too_odd(magic in prop::sample::select(vec![&b""[..], b"PAR1", b"ORC", b"Obj\x01", b"{", b"[", b"a,b\n", b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe"]), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = try_to(Format::Parquet, Compression::Snappy, &[input("x", [magic, &bytes].concat())]);
    }
}

/// A row that would take all of the stack is a bad row, and its neighbours go on; within what parsers take it is a value.
#[test]
fn rows_as_deep_as_can_be_are_put_aside() {
    let begun = std::time::Instant::now();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [100, 199, 1_000, 400_000] {
            let deep = format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
            let text = format!("{{\"a\":null,\"b\":1}}\n{deep}\n{{\"b\":2}}\n");
            let tried = try_to(Format::Parquet, Compression::Snappy, &[input("t.ndjson", text)]);
            let Ok((_, output)) = tried else { panic!("{open} {depth}: {:?}", tried.err()) };
            let found = rows(&output);
            let is_aside = !quarantine(&output).is_empty();
            assert_eq!(found.len() + usize::from(is_aside), 3, "{open} {depth}: {is_aside}");
        }
        // An array of documents, in the place of lines.
        let text = format!("[{{\"b\":1}},{{\"a\":{}1{}}}]", open.repeat(400_000), close.repeat(400_000));
        let _ = try_to(Format::Parquet, Compression::Snappy, &[input("t.json", text)]);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}
