//! One invocation: an event of a tumbling window, or, in the function that delivers, whatever says that it is to look.
//!
//! A window's event is as the Lambda developer guide shows it under "Implementing stateful Kinesis
//! Data Streams processing in Lambda".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_delivery::Failure;
use weir_delivery::kinesis::{BatchResponse, read_batch};
use weir_live::Span;
use weir_telemetry::Visit;

use crate::Analytics;
use crate::deliver::Report;
use crate::names::Bounds;

/// The member of Lambda's state that is ours.
const STATE: &str = "live";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    window: Option<Bounds>,
    #[serde(default)]
    state: Option<BTreeMap<String, Value>>,
    shard_id: Option<String>,
    #[serde(default)]
    is_final_invoke_for_window: bool,
    #[serde(default)]
    is_window_terminated_early: bool,
}

/// A window's invocation, beside its records.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The window.
    pub span: Span,
    /// Such as `shardId-000000000000`.
    pub shard: String,
    /// What the invocation before it answered.
    pub state: Option<String>,
    /// Whether the window ends with it, in time or because its state became too large.
    pub is_last: bool,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What the window's next invocation is given.
    pub state: BTreeMap<&'static str, String>,
    /// Always none: a batch is counted whole or not at all.
    #[serde(flatten)]
    pub response: BatchResponse,
}

impl Answer {
    pub(crate) fn new(state: Option<String>) -> Self {
        Self { state: state.into_iter().map(|state| (STATE, state)).collect(), response: BatchResponse::default() }
    }
}

/// What one of the functions answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// The stream's.
    Window(Answer),
    /// The one's that delivers.
    Delivered(Report),
}

impl Analytics {
    /// Answers one invocation.
    ///
    /// # Errors
    /// Those of [`Analytics::window`] and [`Analytics::deliver`].
    pub async fn handle(&self, payload: &str, visit: &Visit) -> Result<Reply, Failure> {
        match &self.index {
            // By a schedule, or because a mark was left: it looks for itself.
            Some(index) => self.deliver(index.as_ref(), payload, visit).await.map(Reply::Delivered),
            None => self.window(payload, visit).await.map(Reply::Window),
        }
    }

    /// Counts a window's batch.
    ///
    /// # Errors
    /// What is no window's; S3's, and the batch comes again with the state as it was.
    pub async fn window(&self, payload: &str, visit: &Visit) -> Result<Answer, Failure> {
        // Not the parser's words: they show what was sent.
        let not_a_window = || {
            let reason = "this is no tumbling window's invocation as Lambda documents it; the mapping must have TumblingWindowInSeconds";
            Failure::user("NotAWindow", reason)
        };
        let envelope: Envelope = serde_json::from_str(payload).map_err(|_| not_a_window())?;
        let (Some(bounds), Some(shard)) = (envelope.window, envelope.shard_id) else { return Err(not_a_window()) };
        let state = envelope.state.unwrap_or_default().remove(STATE);
        let turn = Turn {
            span: bounds.read()?,
            shard,
            state: state.as_ref().and_then(Value::as_str).map(str::to_owned),
            is_last: envelope.is_final_invoke_for_window || envelope.is_window_terminated_early,
        };
        // A window's last invocation may have none.
        self.take(turn, read_batch(payload).unwrap_or_default(), visit).await.map(Answer::new)
    }
}
