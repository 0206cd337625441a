//! One job, from its claim to what comes of it.

use std::sync::Arc;

use async_trait::async_trait;
use weir_alerts::{Notice, Publisher, Unheard, notify};
use weir_command::{Action, Command, Mode};
use weir_contract::{Contract, contract};
use weir_delivery::{Failure, Fault, Outcome};
use weir_formats::Settings;
use weir_lake::{Lake, ObjectInfo, Page};
use weir_ledger::protocol::{Claim, Decision};
use weir_ledger::{Held, Job, Ledger, Progress, Report, Speed, State};
use weir_records::sha256;
use weir_telemetry::{Event, Telemetry, Trouble, now_ms};
use weir_work::convert::{self, Converted, Lease, Making, is_data, output_of};
use weir_work::copy::{self, Copied};

use crate::config::{Config, Role};
use crate::event::JobChanged;
use crate::plan::{self, Plan, Size};
use crate::time::Invocation;

/// Calls the worker.
#[async_trait]
pub trait Worker: Send + Sync {
    /// Asks for a job to be done, asynchronously.
    async fn call(&self, job_id: &str) -> Result<(), Failure>;
}

/// Everything a job needs, made once per process.
pub struct Runner {
    /// The function's settings.
    pub config: Config,
    /// S3.
    pub lake: Arc<dyn Lake>,
    /// Jobs.
    pub ledger: Ledger,
    /// Where notices go.
    pub publisher: Arc<dyn Publisher>,
    /// Who does what takes longer.
    pub worker: Arc<dyn Worker>,
    /// Log and metrics.
    pub telemetry: Telemetry,
}

/// The most objects one conversion reads; a listing of more belongs on the batch side.
const MOST_OBJECTS: usize = 50_000;

/// What doing a job came to.
enum Done {
    Finished(Report),
    Hand(Option<Progress>),
    Defer(String),
}

impl Runner {
    /// Does the job of a record, or sees that it is done.
    pub async fn run(&self, id: &str, command: &Command, origin: &str, invocation: &Invocation) -> Outcome {
        let canonical = command.to_json();
        let claim = Claim {
            id: id.to_owned(),
            payload_hash: sha256(canonical.as_bytes()),
            command: canonical,
            origin: origin.to_owned(),
            owner: invocation.request_id.clone(),
            speed: self.speed(),
            lease_until_ms: invocation.deadline_ms + self.config.lease_grace_ms,
            now_ms: now_ms(),
        };
        match self.ledger.claim(&claim).await {
            Err(failure) => Outcome::Retry(failure.while_(format!("claim job {id}"))),
            Ok((_, Some(held))) => self.run_held(held, command, invocation).await,
            Ok((decision, None)) => self.not_ours(decision, id, command, invocation).await,
        }
    }

    fn speed(&self) -> Speed {
        match self.config.role {
            Role::Stream => Speed::Stream,
            Role::Worker => Speed::Worker,
        }
    }

    async fn not_ours(&self, decision: Decision, id: &str, command: &Command, invocation: &Invocation) -> Outcome {
        match decision {
            Decision::Finished(job) => Outcome::Skipped(format!("job {id} is {} already", job.state)),
            // The sweep looks at it again when the lease is over; holding up the shard would not make it sooner.
            Decision::Held { until_ms } => {
                Outcome::Skipped(format!("another invocation has job {id}, until {until_ms} at most"))
            }
            Decision::Elsewhere(state) => Outcome::Skipped(format!("job {id} is {state}")),
            Decision::Mismatch => Outcome::Poison(weir_delivery::Poison {
                reason: format!("job_id `{id}` was used before with another command; use a new id"),
                raw: Vec::new(),
            }),
            Decision::Take(job) | Decision::GiveUp(job) => {
                self.announce(&job, Some(command), invocation).await;
                Outcome::Done
            }
        }
    }

    /// Does a job that this invocation holds.
    async fn run_held(&self, held: Held, command: &Command, invocation: &Invocation) -> Outcome {
        let begun = now_ms();
        let id = held.job().id.clone();
        let result = self.work(held.job(), command, invocation).await;
        let now = now_ms();
        let (changed, retried) = match result {
            Ok(Done::Finished(report)) => {
                let report = Report { ms: now.saturating_sub(begun), ..report };
                (self.ledger.finish(held, report, now).await, None)
            }
            Ok(Done::Hand(progress)) => (self.ledger.hand(held, progress, now).await, None),
            Ok(Done::Defer(why)) => (self.ledger.defer(held, &why, now).await, None),
            Err(failure) if failure.passes() => (self.ledger.release(held, failure.clone(), now).await, Some(failure)),
            Err(failure) => (self.ledger.fail(held, failure, now).await, None),
        };
        match changed {
            Ok(job) => {
                self.announce(&job, Some(command), invocation).await;
                if job.state == State::Handed {
                    self.call_worker(&job.id, invocation).await;
                }
                match retried {
                    Some(failure) if job.state == State::Waiting => Outcome::Retry(failure),
                    _ => Outcome::Done,
                }
            }
            Err(failure) if failure.code == "Lost" => Outcome::Skipped(failure.reason),
            Err(failure) => Outcome::Retry(failure.while_(format!("record what became of job {id}"))),
        }
    }

    async fn work(&self, job: &Job, command: &Command, invocation: &Invocation) -> Result<Done, Failure> {
        self.allowed(command)?;
        if command.mode == Mode::Batch {
            return Ok(Done::Defer("the record asks for batch".to_owned()));
        }
        let after = job.progress.as_ref().map(|progress| progress.after_key.clone());
        let first = self.look(command, after.as_deref()).await?;
        let size = Size {
            objects: first.objects.len() as u64,
            bytes: first.objects.iter().map(|object| object.size).sum(),
            more: first.more,
        };
        match plan::decide(command, size, self.config.role, self.config.realtime_max_bytes) {
            Plan::Batch(why) => return Ok(Done::Defer(why)),
            Plan::Worker => return Ok(Done::Hand(None)),
            Plan::Here => {}
        }
        let stop_ms = invocation.stop_ms();
        let stop = Arc::new(move || now_ms() >= stop_ms);
        let making = match command.action {
            Action::Copy => {
                return match copy::run(&self.lake, command, first, job.progress.clone(), stop).await? {
                    Copied::Done(report) => Ok(Done::Finished(report)),
                    Copied::Unfinished(progress) => Ok(self.outlived(command, Some(progress), job)),
                };
            }
            Action::Convert { format, compression } => Making::Convert(format, compression),
            Action::Clean => Making::Clean(dataset(command)?),
            Action::Aggregate => Making::Aggregate(dataset(command)?),
        };
        let Some(objects) = self.all_data(command, first).await? else {
            return Ok(Done::Defer(format!("there are more than {MOST_OBJECTS} objects")));
        };
        let settings = Settings { stop, ..Settings::for_machine() };
        let output = output_of(command, &job.id);
        let lease = Lease { now_ms, until_ms: job.lease_until_ms };
        match convert::run(&self.lake, objects, making, output, settings, lease).await? {
            Converted::Done(report) => Ok(Done::Finished(report)),
            Converted::OutOfTime if command.mode == Mode::Realtime && self.config.role == Role::Worker => {
                Err(Failure::user(
                    "OutOfTime",
                    "the job does not finish in the worker's time; leave out `mode`: `realtime`",
                ))
            }
            Converted::OutOfTime => Ok(self.outlived(command, None, job)),
            Converted::TooLarge(why) => Ok(Done::Defer(why)),
        }
    }

    /// A job that does not end in this invocation goes on in the worker, and one that can't end there in batch.
    fn outlived(&self, command: &Command, progress: Option<Progress>, job: &Job) -> Done {
        let ahead = progress.is_some() && progress != job.progress;
        match self.config.role {
            Role::Stream => Done::Hand(progress),
            Role::Worker if ahead => Done::Hand(progress),
            Role::Worker => Done::Defer(format!("{} does not finish in the worker's time", command.verb())),
        }
    }

    fn allowed(&self, command: &Command) -> Result<(), Failure> {
        let refuse = |member: &str, place, list: &str| {
            let reason =
                format!("`{member}` {place} is outside what this stack may use; the parameter {list} names that");
            Err(Failure::user("NotAllowed", reason))
        };
        if !self.config.sources.permits(&command.source) {
            return refuse("source", &command.source, "SourceAllowList");
        }
        if !self.config.dests.permits(&command.dest) {
            return refuse("dest", &command.dest, "DestAllowList");
        }
        Ok(())
    }

    /// The source's first page, or its one object.
    async fn look(&self, command: &Command, after: Option<&str>) -> Result<Page, Failure> {
        let source = &command.source;
        if !source.is_prefix() {
            return match self.lake.head(source).await {
                Ok(object) => Ok(Page { objects: vec![object], more: false }),
                Err(failure) if failure.code == "NoSuchKey" => Err(self.perhaps_a_prefix(command, failure).await),
                Err(failure) => Err(failure),
            };
        }
        let page = self.lake.list(source, after).await?;
        if page.objects.is_empty() && after.is_none() {
            return Err(Failure::user("NoSuchKey", format!("there is nothing under {source}")));
        }
        Ok(page)
    }

    /// The commonest slip: a folder's name without its slash.
    async fn perhaps_a_prefix(&self, command: &Command, failure: Failure) -> Failure {
        let prefix = command.source.as_prefix();
        match self.lake.list(&prefix, None).await {
            Ok(page) if !page.objects.is_empty() => Failure {
                reason: format!(
                    "{}; there are objects under {prefix}: end the source with `/` to mean them",
                    failure.reason
                ),
                ..failure
            },
            // S3 says 404 for a key in a bucket that isn't there, too.
            Err(other) if other.code == "NoSuchBucket" => other,
            _ => failure,
        }
    }

    async fn all_data(&self, command: &Command, first: Page) -> Result<Option<Vec<ObjectInfo>>, Failure> {
        let mut objects = Vec::new();
        let mut page = first;
        loop {
            let last = page.objects.last().map(|object| object.location.key().to_owned());
            objects.extend(page.objects.into_iter().filter(|object| is_data(object, &command.source)));
            if objects.len() > MOST_OBJECTS {
                return Ok(None);
            }
            if !page.more {
                return Ok(Some(objects));
            }
            page = self.lake.list(&command.source, last.as_deref()).await?;
        }
    }

    pub(crate) async fn call_worker(&self, id: &str, invocation: &Invocation) {
        if let Err(failure) = self.worker.call(id).await {
            // It is recorded; the sweep calls again.
            self.say(invocation, &Trouble { doing: "call the worker", failure: &failure });
        }
    }

    /// Logs a job's change, and tells people of a failure.
    pub(crate) async fn announce(&self, job: &Job, command: Option<&Command>, invocation: &Invocation) {
        self.say(invocation, &JobChanged(job));
        let (State::Failed, Some(failure)) = (job.state, &job.failure) else { return };
        let notice = Notice {
            what: command.map_or("a command".to_owned(), |command| command.verb().to_owned()),
            place: command.map_or(job.origin.clone(), |command| format!("{} -> {}", command.source, command.dest)),
            failure: failure.clone(),
            job_id: Some(job.id.clone()),
            next_step: match failure.fault {
                Fault::User => {
                    "Mend what is named above and send the command again, with a new job_id if it had one.".to_owned()
                }
                Fault::External => {
                    format!("Look at `weir job {}`; when the service is well, send the command again.", job.id)
                }
                Fault::Internal => format!(
                    "This is a defect. Keep `weir job {} --json` and the function's log for the report.",
                    job.id
                ),
            },
        };
        self.tell(&notice, invocation).await;
    }

    pub(crate) async fn tell(&self, notice: &Notice, invocation: &Invocation) {
        if let Err(failure) = notify(self.ledger.store(), self.publisher.as_ref(), notice, now_ms()).await {
            self.say(invocation, &Unheard(&failure));
        }
    }

    pub(crate) fn say(&self, invocation: &Invocation, event: &dyn Event) {
        self.telemetry.emit(&invocation.request_id, event);
    }
}

/// The contract of the dataset that a command names.
fn dataset(command: &Command) -> Result<Arc<Contract>, Failure> {
    let name = command.dataset.as_deref().unwrap_or_default();
    contract(name).map(Arc::new).map_err(|error| Failure::user("UnknownDataset", error.to_string()))
}
