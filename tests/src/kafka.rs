//! Kafka's function as its pollers see it: processes that are killed and stalled while they work.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_local::kafka::Invoker;
use weir_local::runtime::{Answer, Bootstrap, variables_of};

use crate::{Failed, Stack};

/// What an invocation is told to live.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// How long a process that stalled is left so: until its lease is over, and another has had the time to take over.
const STALLS: Duration = Duration::from_secs(8);

/// Processes of the function, each for one invocation at a time, as Lambda has them.
pub struct Processes {
    binary: PathBuf,
    variables: Vec<(String, String)>,
    idle: Mutex<Vec<Arc<Bootstrap>>>,
    dice: Mutex<StdRng>,
    chance: Mutex<f64>,
    /// How many were killed while they worked.
    pub killed: AtomicUsize,
    /// How many were stalled while they worked, and went on later.
    pub stalled: AtomicUsize,
    /// How many invocations there were.
    pub invoked: AtomicUsize,
}

impl Processes {
    /// Of the function as it is deployed, with variables of the test's own.
    ///
    /// # Errors
    /// If it isn't deployed.
    pub async fn new(stack: &Stack, more: &[(&str, String)]) -> Result<Arc<Self>, Failed> {
        let mut variables = variables_of(&stack.aws, "weir-ingest").await?;
        variables.retain(|(name, _)| more.iter().all(|(own, _)| own != name));
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Ok(Arc::new(Self {
            binary: crate::function::built("IngestFunction"),
            variables,
            idle: Mutex::default(),
            dice: Mutex::new(StdRng::seed_from_u64(5)),
            chance: Mutex::new(0.0),
            killed: AtomicUsize::new(0),
            stalled: AtomicUsize::new(0),
            invoked: AtomicUsize::new(0),
        }))
    }

    /// How often one is killed, and as often stalled.
    pub fn suffer(&self, chance: f64) {
        *self.chance.lock().unwrap_or_else(PoisonError::into_inner) = chance;
    }

    /// What happens to the next invocation, and when.
    fn fate(&self) -> (bool, bool, Duration) {
        let chance = *self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let after = Duration::from_micros(dice.random_range(500..60_000));
        (dice.random_bool(chance), dice.random_bool(chance), after)
    }

    async fn process(&self) -> io::Result<Arc<Bootstrap>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(idle) => Ok(idle),
            None => Bootstrap::start(&self.binary, "weir-ingest", &self.variables, Stdio::null()).await.map(Arc::new),
        }
    }
}

fn signal(process: &Bootstrap, name: &str) -> io::Result<()> {
    std::process::Command::new("kill").args([name, &process.pid().to_string()]).status().map(|_| ())
}

#[async_trait]
impl Invoker for Processes {
    async fn invoke(&self, event: &str) -> Result<Answer, Failed> {
        let process = self.process().await?;
        let (kills, stalls, after) = self.fate();
        self.invoked.fetch_add(1, Ordering::Relaxed);
        let worker = Arc::clone(&process);
        let invoked = async move { worker.invoke(event, TIMEOUT, Duration::ZERO).await };
        tokio::pin!(invoked);
        // Some are done before anything happens to them.
        let answer = tokio::select! {
            answer = &mut invoked => Some(answer?),
            () = tokio::time::sleep(after), if kills || stalls => None,
        };
        if let Some(answer) = answer {
            if matches!(answer, Answer::Response(_)) {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
            }
            return Ok(answer);
        }
        if kills {
            self.killed.fetch_add(1, Ordering::Relaxed);
            signal(&process, "-9")?;
            return Ok(invoked.await?);
        }
        self.stalled.fetch_add(1, Ordering::Relaxed);
        signal(&process, "-STOP")?;
        // Its deadline passes.
        let answer = invoked.await?;
        tokio::spawn(async move {
            tokio::time::sleep(STALLS).await;
            let _ = signal(&process, "-CONT");
            // What it was about to do, it does now.
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(process);
        });
        Ok(answer)
    }
}

/// Where Kafka is.
///
/// # Errors
/// If it was not started.
pub fn brokers() -> Result<String, Failed> {
    std::env::var("WEIR_KAFKA")
        .map_err(|_| "WEIR_KAFKA is not set: run `make test`, or `make kafka-up` and `source target/local/env`".into())
}
