//! A batch: every record shaped, the response fitted, bad documents stored, and then everything answered.

use bytes::Bytes;
use weir_delivery::firehose::{self, Answer, Batch, MOST_RESPONSE_BYTES};
use weir_lake::Lake;

use crate::config::Config;
use crate::event::BatchShaped;
use crate::letters::Letters;
use crate::shape::{Fate, Shaped, Shaper};

/// A record between being read and being answered.
struct Handled {
    data: Bytes,
    /// `None` where it could not even be opened.
    shaped: Option<Shaped>,
    fate: Fate,
}

/// Why a record is given back though nothing is wrong with it.
const FULL: &str = "the response is full; Firehose keeps the record, and a redrive sends it again";

/// Answers a batch: the response's JSON, and what there is to say.
pub async fn answer(config: &Config, lake: &dyn Lake, batch: Batch, now_micros: i64) -> (String, BatchShaped) {
    answer_within(MOST_RESPONSE_BYTES, config, lake, batch, now_micros).await
}

async fn answer_within(
    most_bytes: usize,
    config: &Config,
    lake: &dyn Lake,
    mut batch: Batch,
    now_micros: i64,
) -> (String, BatchShaped) {
    let mut event = BatchShaped { stream: batch.stream.clone(), ..BatchShaped::default() };
    let contract = config.contracts.get(&batch.stream);
    let mut shaper = contract.map(|contract| Shaper::new(contract, now_micros));
    let mut handled = Vec::with_capacity(batch.records.len());
    for record in &mut batch.records {
        handled.push(match std::mem::replace(&mut record.data, Ok(Vec::new())) {
            Err(reason) => Handled { data: Bytes::new(), shaped: None, fate: Fate::Failed(reason) },
            Ok(data) => {
                let data = Bytes::from(data);
                event.bytes_in += data.len() as u64;
                match &mut shaper {
                    None => {
                        let reason = format!(
                            "no contract is set for the delivery stream `{}`; the variable CONTRACTS does that",
                            batch.stream
                        );
                        Handled { data, shaped: None, fate: Fate::Failed(reason) }
                    }
                    // Nothing more fits; and what unpacks to more than a response must not pile up here.
                    Some(shaper) if shaper.lines().len() > most_bytes => {
                        Handled { data, shaped: None, fate: Fate::Failed(FULL.to_owned()) }
                    }
                    Some(shaper) => {
                        let shaped = shaper.shape(&data);
                        let fate = shaped.fate.clone();
                        Handled { data, shaped: Some(shaped), fate }
                    }
                }
            }
        });
    }
    let lines = shaper.as_ref().map_or(&[][..], Shaper::lines);
    let shed = firehose::too_much(&batch.records, &answers(&handled, lines), most_bytes);
    event.shed = shed.len() as u64;
    for index in shed {
        if let Some(handled) = handled.get_mut(index) {
            handled.fate = Fate::Failed(FULL.to_owned());
        }
    }
    store_letters(config, lake, &batch, &mut handled, &mut event).await;
    for one in &handled {
        let [ok, dropped, failed] = &mut event.records;
        match one.fate {
            Fate::Ok(..) => *ok += 1,
            Fate::Dropped => *dropped += 1,
            Fate::Failed(_) => *failed += 1,
        }
        if let Some(shaped) = &one.shaped {
            let counts = [shaped.clean, shaped.dropped, shaped.bad.len() as u64];
            event.documents.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    (firehose::respond(&batch, &answers(&handled, lines)), event)
}

fn answers<'a>(handled: &'a [Handled], lines: &'a [u8]) -> Vec<Answer<'a>> {
    let answer = |handled: &'a Handled| match &handled.fate {
        Fate::Ok(range, keys) => Answer::Ok(lines.get(range.clone()).unwrap_or_default(), keys),
        Fate::Dropped => Answer::Dropped,
        Fate::Failed(_) => Answer::ProcessingFailed,
    };
    handled.iter().map(answer).collect()
}

/// Before anything is answered. A document that can't be stored is left to Firehose with its whole record.
async fn store_letters(
    config: &Config,
    lake: &dyn Lake,
    batch: &Batch,
    handled: &mut [Handled],
    event: &mut BatchShaped,
) {
    let mut letters = Letters::default();
    for (record, one) in batch.records.iter().zip(handled.iter()) {
        match (&one.fate, &one.shaped) {
            (Fate::Failed(reason), shaped) => {
                letters.explain(&batch.stream, record, &one.data, reason, shaped.as_ref());
            }
            (_, Some(shaped)) => shaped.bad.iter().for_each(|bad| letters.keep(&batch.stream, record, bad)),
            (_, None) => {}
        }
    }
    if letters.is_empty() {
        return;
    }
    match letters.store(lake, &config.dead_letter_bucket, &batch.stream).await {
        Ok(at) => event.letters = Some(at.to_string()),
        Err(failure) => {
            for one in handled.iter_mut().filter(|one| one.shaped.as_ref().is_some_and(|shaped| !shaped.bad.is_empty()))
            {
                one.fate = Fate::Failed("its bad documents could not be stored".to_owned());
            }
            event.letters_failed = Some(failure.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use weir_command::Location;
    use weir_lake::MemoryLake;

    const GOOD: &str =
        r#"{"event_timestamp":"2024-03-01T12:34:56Z","session_id":"s","page_url":"/a","TTI":1,"TTAR":2}"#;

    fn config() -> Config {
        Config::read(|name| {
            Some(match name {
                "CONTRACTS" => "logs=page_logs".to_owned(),
                _ => "dead-letters".to_owned(),
            })
        })
        .unwrap()
    }

    fn event(stream: &str, records: &[&str]) -> String {
        let records = records.iter().enumerate().map(|(index, data)| {
            json!({"recordId": index.to_string(), "approximateArrivalTimestamp": 1_709_296_496_000u64,
                "data": base64_simd::STANDARD.encode_to_string(data.as_bytes())})
        });
        let records: Vec<Value> = records.collect();
        json!({"invocationId": "i", "deliveryStreamArn": format!("arn:x/{stream}"), "region": "r", "records": records})
            .to_string()
    }

    async fn run(lake: &MemoryLake, most: usize, event: &str) -> (Vec<(String, String)>, BatchShaped) {
        let batch = serde_json::from_str(event).unwrap();
        let (response, said) = answer_within(most, &config(), lake, batch, 0).await;
        let value: Value = serde_json::from_str(&response).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let results = value["records"].as_array().unwrap().iter();
        (results.map(|record| (text(&record["recordId"]), text(&record["result"]))).collect(), said)
    }

    async fn letters(lake: &MemoryLake) -> Vec<Value> {
        let all = lake
            .list(&Location::parse("s3://dead-letters/poison/firehose/logs/2024-03-01/").unwrap(), None)
            .await
            .unwrap();
        let mut lines = Vec::new();
        for object in all.objects {
            let text = lake.get(&object.location, None, 0, object.size).await.unwrap();
            lines.extend(
                text.split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .map(|line| serde_json::from_slice(line).unwrap()),
            );
        }
        lines
    }

    #[tokio::test]
    async fn each_record_is_answered_once_in_order_and_each_bad_document_kept_once() {
        let lake = MemoryLake::default();
        lake.make_bucket("dead-letters");
        let two = format!("{GOOD}{{\"TTI\":\"x\"}}");
        let event = event("logs", &[GOOD, "{}", &two, "nope", GOOD]);
        for _ in 0..2 {
            let (results, said) = run(&lake, MOST_RESPONSE_BYTES, &event).await;
            let results: Vec<_> = results.iter().map(|(id, result)| (id.as_str(), result.as_str())).collect();
            assert_eq!(
                results,
                [("0", "Ok"), ("1", "ProcessingFailed"), ("2", "Ok"), ("3", "ProcessingFailed"), ("4", "Ok")]
            );
            assert_eq!((said.records, said.documents), ([3, 0, 2], [3, 0, 3]));
        }
        let letters = letters(&lake).await;
        assert_eq!(letters.len(), 3, "the second time overwrites: {letters:?}");
        let kept: Vec<_> = letters
            .iter()
            .map(|letter| (letter["record_id"].as_str().unwrap(), letter["kept"].as_str().unwrap()))
            .collect();
        assert_eq!(kept, [("1", "firehose"), ("2", "here"), ("3", "firehose")]);
        assert!(letters[0].get("raw_base64").is_none() && letters[0]["raw_sha256"].is_string());
        let raw = base64_simd::STANDARD.decode_to_vec(letters[1]["raw_base64"].as_str().unwrap()).unwrap();
        assert_eq!(raw, b"{\"TTI\":\"x\"}");
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_left_to_firehose_whole() {
        // No such bucket.
        let lake = MemoryLake::default();
        let two = format!("{GOOD}{{}}");
        let (results, said) = run(&lake, MOST_RESPONSE_BYTES, &event("logs", &[GOOD, &two, "{}"])).await;
        let results: Vec<_> = results.iter().map(|(_, result)| result.as_str()).collect();
        assert_eq!(results, ["Ok", "ProcessingFailed", "ProcessingFailed"]);
        assert!(said.letters_failed.is_some() && said.letters.is_none());
    }

    #[tokio::test]
    async fn a_full_response_gives_records_back_instead_of_failing() {
        let lake = MemoryLake::default();
        lake.make_bucket("dead-letters");
        let (results, said) = run(&lake, 1000, &event("logs", &[GOOD; 5])).await;
        let results: Vec<_> = results.iter().map(|(_, result)| result.as_str()).collect();
        assert_eq!(results, ["Ok", "Ok", "ProcessingFailed", "ProcessingFailed", "ProcessingFailed"]);
        assert_eq!(said.shed, 3);
        assert!(letters(&lake).await.iter().all(|letter| letter["reason"].as_str().unwrap().contains("full")));
    }

    #[tokio::test]
    async fn a_stream_without_a_contract_loses_nothing() {
        let lake = MemoryLake::default();
        lake.make_bucket("dead-letters");
        let (results, said) = run(&lake, MOST_RESPONSE_BYTES, &event("other", &[GOOD])).await;
        assert_eq!((results[0].1.as_str(), said.records), ("ProcessingFailed", [0, 0, 1]));
    }
}
