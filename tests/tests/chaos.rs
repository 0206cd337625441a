//! What the real mapping does now and then, done all the time: every record comes twice, from two pollers, in batches cut
//! anew, again and late. In a binary of its own: it disturbs the neighbours.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use serde_json::json;
use weir_ledger::State;
use weir_local::chaos::Dice;
use weir_local::poller;
use weir_tests::{Failed, Stack};

#[tokio::test]
async fn under_duplicates_recuts_and_delays_every_record_has_one_outcome() -> Result<(), Failed> {
    const JOBS: usize = 60;
    let stack = Stack::open("chaos").await?;
    stack.put("a.csv", "id,name\n1,Ann\n2,Bob\n").await?;
    let dice = Arc::new(Dice::new("duplicate=0.5,recut=0.7,delay=300".parse()?, 42));
    let (aws, thrown) = (stack.aws.clone(), Arc::clone(&dice));
    let second = tokio::spawn(async move { poller::run(&aws, "weir-realtime", ShardIteratorType::Latest, dice).await });
    // It must have its place in the shard before anything is sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = |n: usize| format!("{}-{n}", stack.run);
    let record = |n: usize| -> Result<Vec<u8>, Failed> {
        let record = json!({
            "job_id": id(n), "command": if n.is_multiple_of(2) { "copy" } else { "convert" },
            "source": stack.input("a.csv")?.to_string(), "dest": stack.output(&format!("{n}/"))?.to_string(),
        });
        Ok(if n.is_multiple_of(7) { format!("poison {n}").into_bytes() } else { record.to_string().into_bytes() })
    };
    let records = (0..JOBS).map(record).collect::<Result<Vec<_>, _>>()?;
    let mut numbers = Vec::new();
    for (n, some) in records.chunks(5).enumerate() {
        numbers.extend(stack.send(some).await?);
        // A batch of its own, with a throw of its own: the poller may otherwise take all of them at once.
        let drawn = async {
            while thrown.thrown().len() <= n {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), drawn).await.map_err(|_| format!("batch {n} was not polled"))?;
    }
    for (n, number) in numbers.iter().enumerate() {
        if n.is_multiple_of(7) {
            stack.dead_letter(number).await?;
            continue;
        }
        let job = stack.settled(&id(n)).await?;
        assert_eq!((job.state, job.attempts, job.fence), (State::Done, 1, 1), "job {n}");
    }
    // What comes again now must find all of it done.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for n in (0..JOBS).filter(|n| !n.is_multiple_of(7)) {
        assert_eq!(stack.settled(&id(n)).await?.version, 2, "job {n}: claimed once, completed once");
    }
    assert!(!second.is_finished(), "the second poller went on to the end");
    let thrown = thrown.thrown();
    let (again, split) =
        (thrown.iter().filter(|one| one.again).count(), thrown.iter().filter(|one| one.split.is_some()).count());
    assert!(again > 0 && split > 0, "there was chaos: {thrown:?}");
    second.abort();
    Ok(())
}
