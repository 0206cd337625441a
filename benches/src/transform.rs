//! `bench-transform DATASET SECONDS`: the Firehose transformation of the batch that comes on standard input, again and
//! again, from the event's text to the response's, as between the runtime and the network. Prints records and seconds.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;
use serde_json::value::RawValue;
use weir_delivery::firehose::Batch;
use weir_lake::MemoryLake;
use weir_transform::batch::answer;
use weir_transform::config::Config;

/// As in the function.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dataset), Some(seconds)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bench-transform DATASET SECONDS".into());
    };
    let config = Config::read(|name| {
        Some(match name {
            "CONTRACTS" => format!("bench={dataset}"),
            other => other.to_lowercase(),
        })
    })?;
    let mut event = String::new();
    std::io::stdin().read_to_string(&mut event)?;
    let (limit, lake) = (Duration::from_secs_f64(seconds.parse()?), MemoryLake::default());
    let (begun, mut records, mut ok) = (Instant::now(), 0u64, 0u64);
    while begun.elapsed() < limit {
        // What lambda_runtime does with the event and with the response is part of it.
        let batch: Batch = serde_json::from_str(&event)?;
        records += batch.records.len() as u64;
        let (response, said) = futures::executor::block_on(answer(&config, &lake, batch, 1_700_000_000_000_000));
        ok += said.records[0];
        serde_json::to_vec(&RawValue::from_string(response)?)?;
    }
    println!("{}", json!({"records": records, "ok": ok, "seconds": begun.elapsed().as_secs_f64()}));
    Ok(())
}
