//! Kafka's function as its pollers see it: processes that are killed and stalled while they work.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{BillingMode, GlobalSecondaryIndex};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_ledger::DynamoStore;
use weir_local::kafka::Invoker;
use weir_local::runtime::{Answer, Bootstrap, variables_of};

use crate::{Failed, Stack};

/// What an invocation is told to live.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// How long a process that stalled is left so: until its lease is over, and another has had the time to take over.
const STALLS: Duration = Duration::from_secs(8);

/// Processes of the function, each for one invocation at a time, as Lambda has them.
#[derive(Clone)]
pub struct Processes(Arc<Inner>);

/// How many there were.
#[derive(Debug, Default)]
pub struct Fates {
    /// How many were killed while they worked.
    pub killed: AtomicUsize,
    /// How many were stalled while they worked, and went on later.
    pub stalled: Arc<AtomicUsize>,
    /// How many invocations there were.
    pub invoked: AtomicUsize,
}

struct Inner {
    binary: PathBuf,
    variables: Vec<(String, String)>,
    idle: Mutex<Vec<Arc<Bootstrap>>>,
    dice: Mutex<StdRng>,
    chance: Mutex<f64>,
    fates: Fates,
}

impl Processes {
    /// Of the function as it is deployed, with variables of the test's own.
    ///
    /// # Errors
    /// If it isn't deployed.
    pub async fn new(stack: &Stack, more: &[(&str, String)]) -> Result<Self, Failed> {
        let mut variables = variables_of(&stack.aws, "weir-ingest").await?;
        variables.retain(|(name, _)| more.iter().all(|(own, _)| own != name));
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Ok(Self(Arc::new(Inner {
            binary: crate::function::built("IngestFunction"),
            variables,
            idle: Mutex::default(),
            dice: Mutex::new(StdRng::seed_from_u64(5)),
            chance: Mutex::new(0.0),
            fates: Fates::default(),
        })))
    }

    /// How often one is killed, and as often stalled.
    pub fn suffer(&self, chance: f64) {
        *self.0.chance.lock().unwrap_or_else(PoisonError::into_inner) = chance;
    }

    /// Asks a process of its own for a compaction of page logs; kills it after so long, if that is said.
    ///
    /// # Errors
    /// If it can't be started.
    pub async fn compact(&self, lives: Duration, killed_after: Option<Duration>) -> Result<Answer, Failed> {
        let process = self.0.process().await?;
        let asked = r#"{"compact":{"dataset":"page_logs","seconds":20}}"#;
        let invoked = process.invoke(asked, lives, Duration::ZERO);
        tokio::pin!(invoked);
        let killed = async {
            match killed_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = &mut invoked => Ok(answer?),
            () = killed => {
                signal(&process, "-9")?;
                Ok(invoked.await?)
            }
        }
    }

    /// What became of them.
    pub fn fates(&self) -> &Fates {
        &self.0.fates
    }
}

impl Inner {
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
    /// A function goes on when its poller dies.
    async fn invoke(&self, event: &str) -> Result<Answer, Failed> {
        let (inner, event) = (Arc::clone(&self.0), event.to_owned());
        Ok(tokio::spawn(async move { inner.invoke(&event).await }).await??)
    }
}

impl Inner {
    async fn invoke(&self, event: &str) -> io::Result<Answer> {
        let process = self.process().await?;
        let (kills, stalls, after) = self.fate();
        self.fates.invoked.fetch_add(1, Ordering::Relaxed);
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
            self.fates.killed.fetch_add(1, Ordering::Relaxed);
            signal(&process, "-9")?;
            return invoked.await;
        }
        signal(&process, "-STOP")?;
        // Its deadline passes.
        let answer = invoked.await?;
        let stalled = Arc::clone(&self.fates.stalled);
        tokio::spawn(async move {
            tokio::time::sleep(STALLS).await;
            if signal(&process, "-CONT").is_ok() {
                stalled.fetch_add(1, Ordering::Relaxed);
            }
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

/// A ledger of a test's own, as the stack's is: what it hands on is nobody's to work on.
///
/// # Errors
/// DynamoDB's.
pub async fn own_ledger(stack: &Stack) -> Result<(String, DynamoStore), Failed> {
    let (client, name) = (aws_sdk_dynamodb::Client::new(&stack.aws), format!("ledger-{}", stack.run));
    let there = client.describe_table().table_name("weir-ledger").send().await?;
    let there = there.table().ok_or("there is no ledger")?;
    let mut made = client
        .create_table()
        .table_name(&name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(there.key_schema().to_vec()))
        .set_attribute_definitions(Some(there.attribute_definitions().to_vec()));
    for index in there.global_secondary_indexes() {
        let index = GlobalSecondaryIndex::builder()
            .set_index_name(index.index_name().map(str::to_owned))
            .set_key_schema(Some(index.key_schema().to_vec()))
            .set_projection(index.projection().cloned());
        made = made.global_secondary_indexes(index.build()?);
    }
    made.send().await?;
    Ok((name.clone(), DynamoStore::new(client, name)))
}

/// A database of a test's own in the catalog.
///
/// # Errors
/// Glue's.
pub async fn own_database(stack: &Stack) -> Result<String, Failed> {
    let name = stack.run.replace('-', "_");
    let input = aws_sdk_glue::types::DatabaseInput::builder().name(&name).build()?;
    aws_sdk_glue::Client::new(&stack.aws).create_database().database_input(input).send().await?;
    Ok(name)
}
