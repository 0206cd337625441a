//! What the real mapping and the real Lambda do now and then, done often, and on request.

use std::io;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often what happens, as probabilities; written as `duplicate=0.2,recut=0.3,kill=0.01,delay=200`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chaos {
    /// A batch that was answered comes again, as when the mapping's own checkpoint is lost.
    pub duplicate: f64,
    /// A batch comes as two.
    pub recut: f64,
    /// The function's processes are killed while they work on a batch.
    pub kill: f64,
    /// A batch waits for up to so many milliseconds.
    pub delay_ms: u64,
}

impl FromStr for Chaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chaos = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || format!("`{part}` is none of duplicate=P, recut=P, kill=P (0 to 1), delay=MILLISECONDS");
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let chance = || value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance)).ok_or_else(wrong);
            match name {
                "duplicate" => chaos.duplicate = chance()?,
                "recut" => chaos.recut = chance()?,
                "kill" => chaos.kill = chance()?,
                "delay" => chaos.delay_ms = value.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(chaos)
    }
}

/// What happens to the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mishap {
    /// It comes again.
    pub again: bool,
    /// So many of its records come first, the others after them.
    pub split: Option<usize>,
    /// Its function is killed after this.
    pub kill_after: Option<Duration>,
    /// It waits for this.
    pub delay: Duration,
}

/// Draws mishaps, the same ones for the same seed.
pub struct Dice {
    chaos: Chaos,
    random: Mutex<StdRng>,
    thrown: Mutex<Vec<Mishap>>,
}

impl Dice {
    /// Dice with a seed.
    pub fn new(chaos: Chaos, seed: u64) -> Self {
        Self { chaos, random: Mutex::new(StdRng::seed_from_u64(seed)), thrown: Mutex::default() }
    }

    /// For a batch of so many records.
    pub fn throw(&self, records: usize) -> Mishap {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let splits = records > 1 && random.random_bool(self.chaos.recut);
        let mishap = Mishap {
            again: random.random_bool(self.chaos.duplicate),
            split: splits.then(|| random.random_range(1..records)),
            kill_after: random.random_bool(self.chaos.kill).then(|| Duration::from_millis(random.random_range(1..60))),
            delay: Duration::from_millis(random.random_range(0..=self.chaos.delay_ms)),
        };
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner).push(mishap.clone());
        mishap
    }

    /// What happened so far.
    pub fn thrown(&self) -> Vec<Mishap> {
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// SIGKILLs every process of a function on this machine; says how many there were.
///
/// # Errors
/// If `/proc` can't be read or `kill` not be run.
pub fn kill(function: &str) -> io::Result<usize> {
    let variable = format!("AWS_LAMBDA_FUNCTION_NAME={function}");
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Processes that end meanwhile, or are not ours, have nothing to read.
        let environ = std::fs::read(path.join("environ")).unwrap_or_default();
        let is_function = environ.split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
        if let (true, Some(pid)) = (is_function, path.file_name().and_then(|name| name.to_str())) {
            killed += usize::from(std::process::Command::new("kill").args(["-9", pid]).status()?.success());
        }
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_wrong_words_are_named() {
        let chaos: Chaos = "duplicate=0.5,delay=20".parse().unwrap();
        assert_eq!((chaos.duplicate, chaos.recut, chaos.delay_ms), (0.5, 0.0, 20));
        assert!("duplicate=2".parse::<Chaos>().unwrap_err().contains("duplicate=2"));
        assert!("explode=1".parse::<Chaos>().is_err());
    }

    #[test]
    fn the_same_seed_throws_the_same() {
        let chaos = "duplicate=0.5,recut=0.5,kill=0.5,delay=9".parse().unwrap();
        let throws = |seed| (0..20).map(|_| Dice::new(chaos, seed).throw(5)).collect::<Vec<_>>();
        assert_eq!(throws(1), throws(1));
        let dice = Dice::new(chaos, 1);
        let thrown: Vec<Mishap> = (0..200).map(|_| dice.throw(5)).collect();
        assert!(thrown.iter().all(|mishap| mishap.split.is_none_or(|at| (1..5).contains(&at))));
        assert!(thrown.iter().any(|mishap| mishap.again) && thrown.iter().any(|mishap| mishap.kill_after.is_some()));
    }
}
