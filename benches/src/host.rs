//! `bench-host init BOOTSTRAP COUNT` and `bench-host jobs BOOTSTRAP COUNT`: a built bootstrap under the Lambda runtime API.
//!
//! Its variables are this process's own. `jobs` reads events, one a line, from standard input: the first `COUNT / 10` warm it
//! up, and the rest are measured from the event's hand-over to the response. Prints milliseconds, the process' CPU seconds, its peak
//! of memory and what it last answered, if it is a report, as JSON.

use std::io::BufRead;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_local::runtime::{Answer, Bootstrap};

type Failed = Box<dyn std::error::Error>;

/// How long an invocation may take.
const ALIVE: Duration = Duration::from_secs(300);

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let (Some(what), Some(binary), Some(count)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: bench-host init|jobs BOOTSTRAP COUNT".into());
    };
    let (binary, count): (_, usize) = (Path::new(&binary), count.parse()?);
    let variables: Vec<(String, String)> = std::env::vars().collect();
    match what.as_str() {
        "init" => {
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                times.push(ms(Bootstrap::start(binary, "bench", &variables, Stdio::null()).await?.init));
            }
            println!("{}", json!({"ms": times}));
        }
        "jobs" => {
            let function = Bootstrap::start(binary, "bench", &variables, Stdio::null()).await?;
            let mut times = Vec::with_capacity(count);
            let mut cold_cpu = 0.0;
            let mut last = None;
            for event in std::io::stdin().lock().lines().take(count + count / 10) {
                if times.len() == count / 10 {
                    cold_cpu = function.cpu_seconds()?;
                }
                let begun = Instant::now();
                let answer = function.invoke(&event?, ALIVE, Duration::ZERO).await?;
                times.push(ms(begun.elapsed()));
                let done = [r#"{"batchItemFailures":[]}"#, "{}"].map(|text| Answer::Response(text.to_owned()));
                last = match answer {
                    Answer::Response(text) if text.starts_with(r#"{"partitions":"#) => Some(text),
                    Answer::Response(text) if text.starts_with(r#"{"commits":"#) && text.ends_with(r#""held":0}"#) => {
                        Some(text)
                    }
                    Answer::Response(text)
                        if text.starts_with(r#"{"state":"#) && text.ends_with(r#""batchItemFailures":[]}"#) =>
                    {
                        Some(text)
                    }
                    answer if done.contains(&answer) => None,
                    answer => return Err(format!("the function answered {answer:?}").into()),
                };
            }
            let measured: Vec<f64> = times.split_off(count / 10);
            let cpu_s = function.cpu_seconds()? - cold_cpu;
            println!(
                "{}",
                json!({"ms": measured, "cpu_s": cpu_s, "peak_bytes": function.peak_bytes()?, "report": last})
            );
        }
        other => return Err(format!("no measure is called {other}").into()),
    }
    Ok(())
}
