//! A lake, and processes of the function that are killed and stalled at their calls to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use weir_analytics::config::Config;
use weir_analytics::handler::Answer;
use weir_analytics::{Analytics, Memory};
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, MemoryLake, list_all};
use weir_mortal::clock::now_ms;
use weir_mortal::{Fate, Mortal};
use weir_telemetry::{Telemetry, Visit};

/// Results by their windows' starts: the rows of each.
pub(crate) type Results = BTreeMap<String, Vec<Map<String, Value>>>;

pub(crate) struct World {
    pub(crate) lake: Arc<MemoryLake>,
    pub(crate) fate: Arc<Fate>,
}

pub(crate) fn visit() -> Visit {
    Visit { request_id: "r".into(), deadline_ms: now_ms() + 60_000, clock: now_ms, cold_start: false }
}

impl World {
    pub(crate) fn new() -> Self {
        let lake = Arc::new(MemoryLake::timed(now_ms));
        lake.make_bucket("tables");
        Self { lake, fate: Arc::default() }
    }

    pub(crate) fn process(&self) -> Analytics {
        let (config, contract, plan) = Config::read(|name| {
            Some(match name {
                "DATASET" => "trips".to_owned(),
                "DELIVERS" => "true".to_owned(),
                "SEARCH_ENDPOINT" | "SEARCH_SECRET" => return None,
                "STATISTICS" => "s3://tables/live/".to_owned(),
                _ => "weir".to_owned(),
            })
        })
        .unwrap();
        let lake = Arc::new(Mortal::new(&self.lake, &self.fate));
        Analytics {
            config,
            contract,
            plan,
            lake,
            index: None,
            telemetry: Telemetry::silent(),
            memory: Memory::default(),
        }
    }

    pub(crate) async fn invoke(&self, event: &Value) -> Result<Answer, Failure> {
        self.fate.revive();
        self.process().window(&event.to_string(), &visit()).await
    }

    pub(crate) async fn results(&self) -> Results {
        let mut results = BTreeMap::new();
        for object in list_all(self.lake.as_ref(), &Location::parse("s3://tables/live/trips/").unwrap()).await.unwrap()
        {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await.unwrap();
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            let lines: Vec<Map<String, Value>> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
            results.insert(lines[0]["window_start"].as_str().unwrap().to_owned(), lines);
        }
        results
    }

    /// A process that ends a shard's window is stalled at its call `n` while something else happens to the lake, by a process
    /// with a fate of its own; then it goes on. False if it has no such call.
    pub(crate) async fn stalled_at(&self, n: usize, event: &Value, meanwhile: impl AsyncFnOnce(&Self)) -> bool {
        self.fate.stall(n);
        let (process, event) = (self.process(), event.to_string());
        let stalled = tokio::spawn(async move { process.window(&event, &visit()).await });
        let has_come = tokio::select! {
            () = self.fate.stalled() => true,
            () = async { while !stalled.is_finished() { tokio::task::yield_now().await } } => false,
        };
        if has_come {
            meanwhile(&Self { lake: Arc::clone(&self.lake), fate: Arc::default() }).await;
            self.fate.go_on();
        }
        stalled.await.unwrap().unwrap();
        has_come
    }
}
