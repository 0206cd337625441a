//! A job is interrupted at each of its steps, by a kill, a stall, or an answer that is lost; it is done once.

use std::time::Duration;

use serde_json::json;
use weir_lake::Lake;
use weir_ledger::{Job, Speed, State, Store};
use weir_local::faults::Fault;
use weir_local::runtime::Answer;
use weir_tests::function::{Function, REALTIME, failures, kinesis_event, sequence_number};
use weir_tests::{Failed, Stack};

/// The steps of a job, by the request that begins each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Claim,
    Look,
    Write,
    Complete,
}

const STEPS: [Step; 4] = [Step::Claim, Step::Look, Step::Write, Step::Complete];

impl Step {
    /// What the step's first request holds, for a job that is alone in its run.
    fn request(self, id: &str) -> Vec<String> {
        match self {
            Self::Claim => vec!["PutItem".into(), id.into(), r#""RUNNING""#.into()],
            Self::Look => vec!["HEAD /".into(), format!("{id}.csv")],
            Self::Write => vec!["PUT /".into(), format!("/{id}/job")],
            Self::Complete => vec!["PutItem".into(), id.into(), r#""DONE""#.into()],
        }
    }

    fn fault(self, function: &Function, id: &str, fault: Fault, times: Option<u64>) -> usize {
        let request = self.request(id);
        function.fault(&request.iter().map(String::as_str).collect::<Vec<_>>(), fault, times)
    }
}

/// A deadline short enough to be outlived by a test.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);
const ROWS: &str = "id,name,price\n1,Ann,1.5\n2,Bob,2.5\n3,Cy,\n4,\"D, E\",4.5\n5,Eve,5.5\n";

struct Case {
    stack: Stack,
    id: String,
    event: String,
    function: Function,
}

async fn case(name: String) -> Result<Case, Failed> {
    let mut stack = Stack::open(&name).await?;
    let id = std::mem::replace(&mut stack.run, "steps".to_owned());
    stack.put(&format!("{id}.csv"), ROWS).await?;
    let record = json!({
        "job_id": id, "command": "convert", "format": "csv",
        "source": stack.input(&format!("{id}.csv"))?.to_string(), "dest": stack.output(&format!("{id}/"))?.to_string(),
    });
    let event = kinesis_event(1, &[record.to_string().into_bytes()]);
    let function = stack.function(REALTIME).await?;
    Ok(Case { stack, id, event, function })
}

impl Case {
    /// The job as it ended, after its output was looked at.
    async fn done(&self) -> Result<Job, Failed> {
        let job = self.stack.settled(&self.id).await?;
        assert_eq!(
            (job.state, job.report.as_ref().and_then(|report| report.rows)),
            (State::Done, Some(5)),
            "{}",
            self.id
        );
        let page = self.stack.lake.list(&self.stack.output(&format!("{}/", self.id))?, None).await?;
        let [part] = page.objects.as_slice() else {
            return Err(format!("{}: not one file: {:?}", self.id, page.objects).into());
        };
        assert_eq!(self.stack.lake.get(&part.location, None, 0, part.size).await?, ROWS, "{}", self.id);
        Ok(job)
    }
}

/// A step's request is held, or is done and its answer held, and then the process is killed.
async fn kill(step: Step, fault: Fault) -> Result<(), Failed> {
    let case = case(format!("kill-{step:?}-{fault:?}")).await?;
    let rule = step.fault(&case.function, &case.id, fault.clone(), None);
    let (answer, killed) = tokio::join!(case.function.invoke(&case.event, SHORT), async {
        case.function.held(rule).await?;
        case.function.kill()
    });
    killed?;
    assert_eq!(answer?, Answer::Nothing);
    let claimed = case.stack.ledger.get(&case.id).await?;
    match (step, &fault) {
        // Nothing was done yet: the batch comes again, as it does after any function error.
        (Step::Claim, Fault::Hold) => {
            assert_eq!(claimed, None);
            let again = case.stack.function(REALTIME).await?;
            assert_eq!(again.invoke(&case.event, LONG).await?, failures(&[]));
        }
        _ => {
            let again = case.stack.function(REALTIME).await?;
            assert_eq!(again.invoke(&case.event, LONG).await?, failures(&[]), "the shard is not held up");
            case.stack.taken_over(&case.id).await?;
        }
    }
    let job = case.done().await?;
    let once = (step, fault) == (Step::Claim, Fault::Hold)
        || (step, claimed.map(|job| job.state)) == (Step::Complete, Some(State::Done));
    assert_eq!((job.attempts, job.speed), if once { (1, Some(Speed::Stream)) } else { (2, Some(Speed::Worker)) });
    Ok(())
}

/// A step's request, or its answer, comes only after the lease is over and another has done the job.
async fn stall(step: Step, fault: Fault) -> Result<(), Failed> {
    let case = case(format!("stall-{step:?}-{fault:?}")).await?;
    let rule = step.fault(&case.function, &case.id, fault.clone(), None);
    let (answer, others) = tokio::join!(case.function.invoke(&case.event, SHORT), async {
        case.function.held(rule).await?;
        let (claims_late, completed) =
            ((step, &fault) == (Step::Claim, &Fault::Hold), step == Step::Complete && fault == Fault::HoldAnswer);
        if claims_late {
            let other = case.stack.function(REALTIME).await?;
            assert_eq!(other.invoke(&case.event, LONG).await?, failures(&[]));
        } else if !completed {
            case.stack.taken_over(&case.id).await?;
        }
        let done = case.done().await?;
        case.function.proxy.faults.release(rule);
        Ok::<Job, Failed>(done)
    });
    let others = others?;
    // The late one acknowledges, and changes nothing.
    assert_eq!(answer?, failures(&[]));
    assert_eq!(case.done().await?, others);
    Ok(())
}

/// A request is done and its answer lost; whoever asks again must see that it was his own.
async fn lose(step: Step) -> Result<(), Failed> {
    let case = case(format!("lose-{step:?}")).await?;
    let rule = step.fault(&case.function, &case.id, Fault::LoseAnswer, Some(1));
    assert_eq!(case.function.invoke(&case.event, LONG).await?, failures(&[]));
    assert!(case.function.proxy.faults.seen(rule) >= 2, "{step:?} was asked again");
    let job = case.done().await?;
    assert_eq!((job.attempts, job.speed), (1, Some(Speed::Stream)), "{step:?}");
    Ok(())
}

#[tokio::test]
async fn killed_at_any_step_the_job_is_done_once() -> Result<(), Failed> {
    let cases = STEPS.into_iter().flat_map(|step| [kill(step, Fault::Hold), kill(step, Fault::HoldAnswer)]);
    futures::future::try_join_all(cases).await?;
    Ok(())
}

#[tokio::test]
async fn stalled_at_any_step_and_going_on_after_a_takeover_it_changes_nothing() -> Result<(), Failed> {
    let cases = STEPS.into_iter().flat_map(|step| [stall(step, Fault::Hold), stall(step, Fault::HoldAnswer)]);
    futures::future::try_join_all(cases).await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_lost_at_any_step_is_not_a_second_attempt() -> Result<(), Failed> {
    futures::future::try_join_all(STEPS.into_iter().map(lose)).await?;
    Ok(())
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_batch_keeps_the_order_and_repeats_nothing() -> Result<(), Failed> {
    let stack = Stack::open("middle").await?;
    let function = stack.function(REALTIME).await?;
    let id = |name: &str| format!("{}-{name}", stack.run);
    let mut records = Vec::new();
    for name in ["first", "mid", "last"] {
        stack.put(&format!("{name}.csv"), ROWS).await?;
        let record = json!({
            "job_id": id(name), "command": "convert",
            "source": stack.input(&format!("{name}.csv"))?.to_string(),
            "dest": stack.output(&format!("{name}/"))?.to_string(),
        });
        records.push(record.to_string().into_bytes());
    }
    let puts = |name: &str, fault, times| function.fault(&["PUT /", &format!("/{name}/job")], fault, times);
    // As often as the SDK tries.
    puts("mid", Fault::Status(503), Some(4));
    let counted = [puts("first", Fault::Count, None), puts("last", Fault::Count, None)];
    let answer = function.invoke(&kinesis_event(7, &records), LONG).await?;
    assert_eq!(answer, failures(&[sequence_number(7, 1)]));
    // The mapping sends what was not acknowledged, from the checkpoint on.
    let mut again: serde_json::Value = serde_json::from_str(&kinesis_event(7, &records))?;
    again.get_mut("Records").and_then(|records| records.as_array_mut()).map(|records| records.remove(0));
    assert_eq!(function.invoke(&again.to_string(), LONG).await?, failures(&[]));
    for (name, attempts) in [("first", 1), ("mid", 2), ("last", 1)] {
        let job = stack.settled(&id(name)).await?;
        assert_eq!((job.state, job.attempts), (State::Done, attempts), "{name}");
    }
    assert_eq!(counted.map(|rule| function.proxy.faults.seen(rule)), [1, 1], "each written once");
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_that_can_not_be_kept_comes_again() -> Result<(), Failed> {
    let stack = Stack::open("unkept").await?;
    let function = stack.function(REALTIME).await?;
    function.fault(&["PUT /", "/poison/"], Fault::Status(503), Some(4));
    let run = u64::from(std::process::id());
    let event = kinesis_event(run, &[b"no command".to_vec()]);
    assert_eq!(function.invoke(&event, LONG).await?, failures(&[sequence_number(run, 0)]));
    assert_eq!(function.invoke(&event, LONG).await?, failures(&[]));
    stack.dead_letter(&sequence_number(run, 0)).await?;
    Ok(())
}

#[tokio::test]
async fn out_of_time_it_hands_itself_on_and_leaves_nothing_half_written() -> Result<(), Failed> {
    let stack = Stack::open("outlive").await?;
    for n in 0..150 {
        stack.put(&format!("many/{n:03}.csv"), ROWS).await?;
    }
    let big: String =
        std::iter::once("id,name\n".to_owned()).chain((0..5_000_000).map(|n| format!("{n},name {n}\n"))).collect();
    stack.put("big.csv", &big).await?;
    let record = |id: &str, command: &str, source: &str| {
        Ok::<_, Failed>(json!({
            "job_id": format!("{}-{id}", stack.run), "command": command,
            "source": stack.input(source)?.to_string(), "dest": stack.output(&format!("{id}/"))?.to_string(),
        }))
    };
    let (copy, convert) = (stack.function(REALTIME).await?, stack.function(REALTIME).await?);
    copy.fault(&["PUT /", "copy/"], Fault::Delay(1600), None);
    convert.fault(&["PUT /", "convert/job", "partNumber"], Fault::Delay(1500), None);
    let begun = convert.fault(&["POST /", "convert/job", "?uploads"], Fault::Count, None);
    let given_up = convert.fault(&["DELETE /", "convert/job", "uploadId"], Fault::Count, None);
    let mut to_csv = record("convert", "convert", "big.csv")?;
    to_csv.as_object_mut().map(|record| record.insert("format".to_owned(), "csv".into()));
    let events =
        [record("copy", "copy", "many/")?, to_csv].map(|record| kinesis_event(9, &[record.to_string().into_bytes()]));
    let (copied, converted) = tokio::join!(copy.invoke(&events[0], SHORT), convert.invoke(&events[1], SHORT));
    assert_eq!((copied?, converted?), (failures(&[]), failures(&[])));
    let uploads = [begun, given_up].map(|rule| convert.proxy.faults.seen(rule));
    assert_eq!(uploads, [1, 1], "it was in the middle of an upload, and took it back");
    // What is left is the deployed worker's, which was called at once and meets no faults.
    for (id, objects) in [("copy", 150), ("convert", 1)] {
        let job = stack.settled(&format!("{}-{id}", stack.run)).await?;
        assert_eq!((job.state, job.speed), (State::Done, Some(Speed::Worker)), "{id}");
        assert_eq!(job.report.map(|report| report.objects), Some(objects), "{id}");
        let page = stack.lake.list(&stack.output(&format!("{id}/"))?, None).await?;
        assert_eq!(page.objects.len() as u64, objects, "{id}");
    }
    let open = stack.lake.client().list_multipart_uploads().bucket(stack.output("x")?.bucket()).send().await?;
    let ours: Vec<_> =
        open.uploads().iter().filter_map(|upload| upload.key()).filter(|key| key.contains(&stack.run)).collect();
    assert!(ours.is_empty(), "uploads left open: {ours:?}");
    Ok(())
}
