//! A window's invocations, one after the other, each twice, and what they come to.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use weir_command::Location;
use weir_local::runtime::Answer;
use weir_tests::function::{ANALYTICS, DELIVERS};
use weir_tests::sam::By;
use weir_tests::{Failed, Stack};

use crate::{event, names};

/// What the function that delivers is told: that a mark was left, and by its schedule.
const DELIVERIES: [&str; 2] = ["marked.json", "deliver.json"];

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-live-{by}")).await?;
    let statistics = format!("s3://{}/live/tests/{}/", std::env::var("WEIR_TABLES_BUCKET")?, stack.run);
    let name = stack.run.to_lowercase();
    let own = [("STATISTICS", statistics.as_str()), ("DELIVERS", "true"), ("STACK", &name)];
    let Some(function) = stack.run(by, ANALYTICS, &own).await? else { return Ok(()) };
    // In the order in which Lambda would send them; what the one answers, the next is given.
    let windows = ["window.json", "poison.json", "last.json", "last-empty.json", "early.json"];
    let others = ["no-window.json", "not-ours.json"];
    let known: BTreeSet<String> = windows.iter().chain(&others).chain(&DELIVERIES).map(ToString::to_string).collect();
    assert_eq!(names("analytics")?, known);
    let mut state = json!({});
    for name in windows {
        let mut sent: Value = serde_json::from_str(&event("analytics", name)?)?;
        if let (Some(carried), Some(given)) = (state.as_object(), sent["state"].as_object_mut()) {
            given.extend(carried.clone());
        }
        for _ in 0..2 {
            let answer = function.invoke(&sent.to_string(), Duration::from_secs(60)).await?;
            let Answer::Response(answer) = answer else { return Err(format!("{name}: {answer:?}").into()) };
            let answer: Value = serde_json::from_str(&answer)?;
            assert_eq!(answer["batchItemFailures"], json!([]), "{name}");
            state = answer["state"].clone();
        }
    }
    for name in others {
        let answer = function.invoke(&event("analytics", name)?, Duration::from_secs(60)).await?;
        assert!(
            matches!(&answer, Answer::Error(error) if error.contains("TumblingWindowInSeconds")),
            "{name}: {answer:?}"
        );
    }
    let at = Location::parse(&format!("{statistics}trips/"))?;
    let lines = stack.lines(&at).await?;
    let all = &lines[0];
    let said =
        ["trips", "passengers", "total_duration", "late", "bad", "dropped", "unreadable", "shards", "different_trips"]
            .map(|name| all[name].as_u64().unwrap_or(u64::MAX));
    // Four of the window, one gzipped, one late, two of a shard whose window was ended early.
    let trips = [0, 1, 2, 20, 6, 9, 20, 21];
    let sum = |of: fn(u64) -> u64| trips.iter().map(|n| of(*n)).sum::<u64>();
    assert_eq!(said, [8, sum(|n| 1 + n % 4), sum(|n| 455 + n), 1, 2, 1, 1, 2, 7], "{all}");
    assert_eq!(
        all["dropoff_cells"],
        json!([{"value": "40.77,-73.96", "count": 8, "at_least": 8}]),
        "coordinates are masked"
    );
    assert_eq!(all["peak_hour"], json!([{"value": "9", "count": 8, "at_least": 8}]));
    assert_eq!(lines.len(), 3, "all, and each vendor");
    // To the OpenSearch that runs beside the stack. In a container that is not on the same machine, and such a one is not spoken to without TLS.
    let Some(delivers) = stack.run(By::Ourselves, DELIVERS, &own).await? else { return Ok(()) };
    for (name, windows) in DELIVERIES.iter().zip([1, 0]) {
        let answer = delivers.invoke(&event("analytics", name)?, Duration::from_secs(60)).await?;
        let Answer::Response(answer) = answer else { return Err(format!("{name}: {answer:?}").into()) };
        let answer: Value = serde_json::from_str(&answer)?;
        let (delivered, left) = (&answer["windows"], [&answer["refused"], &answer["waiting"]]);
        assert_eq!((delivered, left), (&json!(windows), [&json!(0); 2]), "{name}: {answer}");
    }
    Ok(())
}
