//! A function as what invokes it sees it: processes that are killed and stalled while they work.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_local::invoker::Invoker;
use weir_local::runtime::{Answer, Bootstrap, variables_of};

use crate::function::Setting;
use crate::{Failed, Stack};

/// How long a process that stalled is left so: until its lease is over, and another has had the time to take over.
const STALLS: Duration = Duration::from_secs(8);

/// When something happens to a process, after it was invoked.
const SOONEST: Duration = Duration::from_micros(500);

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
    /// How many there are just now.
    pub running: AtomicUsize,
}

struct Inner {
    name: String,
    lives: Duration,
    binary: PathBuf,
    variables: Vec<(String, String)>,
    idle: Mutex<Vec<Arc<Bootstrap>>>,
    dice: Mutex<StdRng>,
    chance: Mutex<f64>,
    fates: Fates,
}

impl Processes {
    /// Of a function as it is deployed, with variables of the test's own.
    ///
    /// # Errors
    /// If it isn't deployed.
    pub async fn new(
        stack: &Stack,
        setting: Setting,
        lives: Duration,
        more: &[(&str, String)],
    ) -> Result<Self, Failed> {
        let name = format!("weir-{}", setting.name);
        let mut variables = variables_of(&stack.aws, &name).await?;
        variables.retain(|(name, _)| more.iter().all(|(own, _)| own != name));
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Ok(Self(Arc::new(Inner {
            name,
            lives,
            binary: crate::function::built(setting.built),
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

    /// Asks a process of its own, which lives so long; kills it after some time, if that is said.
    ///
    /// # Errors
    /// If it can't be started.
    pub async fn ask(&self, event: &str, lives: Duration, killed_after: Option<Duration>) -> Result<Answer, Failed> {
        let process = self.0.process().await?;
        let invoked = process.invoke(event, lives, Duration::ZERO);
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
        // From half a millisecond to sixty, of every order as often: some functions are done in two, others take long.
        let after = SOONEST.mul_f64(120f64.powf(dice.random()));
        (dice.random_bool(chance), dice.random_bool(chance), after)
    }

    async fn process(&self) -> io::Result<Arc<Bootstrap>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(idle) => Ok(idle),
            None => Bootstrap::start(&self.binary, &self.name, &self.variables, Stdio::null()).await.map(Arc::new),
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
        let invoked = tokio::spawn(async move {
            inner.fates.running.fetch_add(1, Ordering::SeqCst);
            let answer = inner.invoke(&event).await;
            inner.fates.running.fetch_sub(1, Ordering::SeqCst);
            answer
        });
        Ok(invoked.await??)
    }
}

impl Inner {
    async fn invoke(&self, event: &str) -> io::Result<Answer> {
        let process = self.process().await?;
        let (kills, stalls, after) = self.fate();
        self.fates.invoked.fetch_add(1, Ordering::Relaxed);
        let (worker, lives) = (Arc::clone(&process), self.lives);
        let invoked = async move { worker.invoke(event, lives, Duration::ZERO).await };
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
