//! What was looked at, and what was found.

use serde::Serialize;
use serde_json::json;
use weir_delivery::Failure;

use crate::Stop;
use crate::out::say;
use crate::stack::named;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Nothing is lost or held up; somebody should look.
    Note,
    /// Whoever looks could not ask.
    Unknown,
    /// Something does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What: `function weir-realtime`.
    pub(crate) what: String,
    /// What is the matter with it, as who knows says it.
    pub(crate) said: String,
    /// What to do.
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
        let way_out = cause(&said).map(str::to_owned);
        Self { level: Level::Problem, what: what.into(), said, way_out }
    }

    /// What could not be looked at.
    pub(crate) fn unknown(what: impl Into<String>, said: impl Into<String>, way_out: &str) -> Self {
        Self { level: Level::Unknown, what: what.into(), said: said.into(), way_out: Some(way_out.to_owned()) }
    }

    /// What a service answered whoever looks: who may not ask, or is not answered, does not know; all else is the stack's.
    pub(crate) fn failed(what: impl Into<String>, failure: &Failure) -> Self {
        let said = named(failure);
        if OWN.contains(&failure.code.as_str()) {
            return Self::unknown(what, said, "your credentials may not ask: docs/operations.md says what they need");
        }
        if failure.passes() {
            return Self::unknown(what, said, "look again; if it stays so, the AWS Health Dashboard may know");
        }
        Self::problem(what, said)
    }

    /// What to do about this very thing; behind what its cause says, if that is known.
    pub(crate) fn or(mut self, way_out: impl AsRef<str>) -> Self {
        let own = way_out.as_ref();
        self.way_out = Some(self.way_out.map_or_else(|| own.to_owned(), |cause| format!("{cause}; {own}")));
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
        "a service refuses because of too many calls: if it does not pass, raise a quota or a table's limit",
    ),
    (
        &["SlowDown", "ServiceUnavailable", "InternalError", "HTTP 503", "Http503"],
        "a service of AWS is busy or down: see the AWS Health Dashboard",
    ),
    (
        &["exited during init", "Runtime.ExitError", "during init"],
        "the function does not start: a setting is wrong (it is named, if the function could read it); compare its variables with template.yaml, and deploy again",
    ),
    (&["timed out", "TimedOut"], "it ran out of time: what it calls is slow, or its Timeout is too short"),
];

/// Codes of what whoever asks may not. (A function that may not use its key or network says that in other words.)
const OWN: [&str; 5] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "UnrecognizedClientException",
];

fn cause(said: &str) -> Option<&'static str> {
    CAUSES.iter().find(|(words, _)| words.iter().any(|word| said.contains(word))).map(|(_, way_out)| *way_out)
}

/// What is found, said at once: some looks take long.
pub(crate) struct Report {
    /// Lines of JSON.
    json: bool,
    /// What is as it should be, too.
    all: bool,
    looked: usize,
    problems: usize,
    unknown: usize,
}

impl Report {
    pub(crate) fn new(json: bool, all: bool) -> Self {
        Self { json, all, looked: 0, problems: 0, unknown: 0 }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.looked += 1;
        self.problems += usize::from(finding.level == Level::Problem);
        self.unknown += usize::from(finding.level == Level::Unknown);
        if self.json {
            let Finding { level, what, said, way_out } = &finding;
            return say!("{}", json!({"level": level, "what": what, "said": said, "way_out": way_out}));
        }
        let level = match finding.level {
            Level::Ok if !self.all => return,
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Unknown => "unknown",
            Level::Problem => "PROBLEM",
        };
        say!("{level:<8} {}: {}", finding.what, finding.said);
        if let Some(way_out) = &finding.way_out {
            say!("{:<8} -> {way_out}", "");
        }
    }

    /// In the end.
    pub(crate) fn verdict(&self) -> Result<(), Stop> {
        let Self { looked, problems, unknown, .. } = self;
        if *problems > 0 {
            return Err(Stop(1, format!("{problems} of {looked} findings are problems; docs/operations.md says more")));
        }
        if *unknown > 0 {
            return Err(Stop(
                3,
                format!("{unknown} of {looked} things could not be looked at; no problem in the rest"),
            ));
        }
        if !self.json {
            say!("{looked} things looked at, no problem");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_does_not_hide_what_is_to_be_done() {
        let halted =
            Finding::problem("batch logs", "run-1 is halted: Throttling: too much").or("`weir batch retry logs`");
        assert!(halted.way_out.is_some_and(|way_out| way_out.contains("quota") && way_out.ends_with("retry logs`")));
        assert_eq!(Finding::problem("job", "doctor-1795037503 is not done").way_out, None, "a number is no status");
    }

    #[test]
    fn what_the_stack_can_not_is_told_from_what_you_may_not() {
        let level = |code: &str, status| Finding::failed("it", &Failure::aws(Some(code), Some(status), "x")).level;
        for (code, status, expected) in [
            ("AccessDeniedException", 400, Level::Unknown),
            ("ThrottlingException", 400, Level::Unknown),
            ("KMSAccessDeniedException", 502, Level::Problem),
            ("ResourceNotFoundException", 400, Level::Problem),
            ("NoSuchBucket", 404, Level::Problem),
        ] {
            assert_eq!(level(code, status), expected, "{code}");
        }
        let silent = Failure::aws(None, None, "connection refused");
        assert_eq!(Finding::failed("it", &silent).level, Level::Unknown);
    }
}
