//! `bench-kpl FILE`: a file of aggregates, each with its length before it (4 bytes, big endian), opened and made again in
//! memory. Prints bytes and seconds both ways.

use std::time::Instant;

use serde_json::json;
use weir_kpl::{Aggregate, open};

/// What is made comes and goes, as in the functions that use it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: bench-kpl FILE")?;
    let bytes = bytes::Bytes::from(std::fs::read(file)?);
    let (mut aggregates, mut at) = (Vec::new(), 0);
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_be_bytes(*length) as usize;
        aggregates.push(bytes.slice(at + 4..at + 4 + length));
        at += 4 + length;
    }
    let total: usize = aggregates.iter().map(bytes::Bytes::len).sum();
    let (mut opened, mut records, mut opening) = (Vec::new(), 0usize, 0.0);
    let mut rounds = 0;
    while opening < 1.0 {
        let begun = Instant::now();
        opened = aggregates.iter().filter_map(open).collect();
        opening += begun.elapsed().as_secs_f64();
        records = opened.iter().map(Vec::len).sum();
        rounds += 1;
    }
    let (mut making, mut made, mut again) = (0.0, 0usize, 0);
    while making < 1.0 {
        let begun = Instant::now();
        for records in &opened {
            let mut aggregate = Aggregate::new();
            records.iter().for_each(|record| aggregate.push(record.clone()));
            made += aggregate.finish().len();
        }
        making += begun.elapsed().as_secs_f64();
        again += 1;
    }
    println!(
        "{}",
        json!({"bytes": total, "records": records, "open_bytes_per_s": (total * rounds) as f64 / opening,
            "make_bytes_per_s": made as f64 / making, "same_size": made == total * again})
    );
    Ok(())
}
