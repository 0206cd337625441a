//! What was looked at, and what was found.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Nothing is lost or held up; somebody should look.
    Note,
    /// Something does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What: `function weir-realtime`.
    pub(crate) what: String,
    /// What is the matter with it, as who knows says it.
    pub(crate) said: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) way_out: Option<String>,
}

impl Finding {
    pub(crate) fn ok(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), said: said.into(), way_out: None }
    }

    pub(crate) fn note(what: impl Into<String>, said: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { level: Level::Note, what: what.into(), said: said.into(), way_out: Some(way_out.into()) }
    }

    pub(crate) fn problem(what: impl Into<String>, said: impl Into<String>) -> Self {
        let said = said.into();
        let way_out = way_out(&said).map(str::to_owned);
        Self { level: Level::Problem, what: what.into(), said, way_out }
    }

    pub(crate) fn or(mut self, way_out: impl Into<String>) -> Self {
        self.way_out.get_or_insert_with(|| way_out.into());
        self
    }
}

/// Causes that say their names in what AWS answers, and what to do about each.
const CAUSES: [(&[&str], &str); 5] = [
    (
        &["AccessDenied", "not authorized", "Forbidden"],
        "a permission is missing: the function's role in template.yaml, a bucket's or key's policy, or your organisation's",
    ),
    (
        &["Throttl", "ProvisionedThroughputExceeded", "RequestLimitExceeded", "TooManyRequests"],
        "a service refuses because of too many calls: it passes by itself, or a quota or a table's limit is to be raised",
    ),
    (
        &["SlowDown", "ServiceUnavailable", "InternalError", "HTTP 503", "503"],
        "a service of AWS is busy or down: what waits is tried again; see the AWS Health Dashboard",
    ),
    (
        &["exited during init", "Runtime.ExitError", "during init"],
        "the function does not start: a setting is wrong (it is named, if the function could read it); compare its variables with template.yaml, and deploy again",
    ),
    (&["timed out", "TimedOut"], "it ran out of time: what it calls is slow, or its Timeout is too short"),
];

fn way_out(said: &str) -> Option<&'static str> {
    CAUSES.iter().find(|(words, _)| words.iter().any(|word| said.contains(word))).map(|(_, way_out)| *way_out)
}
