//! Errors as outcomes: whose fault, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Whoever sent the record or owns the data: a wrong path, a broken file, a missing permission.
    User,
    /// A service we call.
    External,
    /// This program.
    Internal,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advice {
    /// The same call may succeed later.
    Retry,
    /// The same call will fail again.
    Never,
}

/// Something that went wrong, with enough to decide and enough to tell a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who can mend it.
    pub fault: Fault,
    /// Whether to try again.
    pub advice: Advice,
    /// A short stable word for alarms and for telling failures apart: an AWS error code, or one of our own.
    pub code: String,
    /// What happened, to what, and the way out.
    pub reason: String,
}

impl Failure {
    /// The sender or owner of the data must change something.
    pub fn user(code: &str, reason: impl Into<String>) -> Self {
        Self { fault: Fault::User, advice: Advice::Never, code: code.to_owned(), reason: reason.into() }
    }

    /// A service failed in a way that passes.
    pub fn passing(code: &str, reason: impl Into<String>) -> Self {
        Self { fault: Fault::External, advice: Advice::Retry, code: code.to_owned(), reason: reason.into() }
    }

    /// A defect of ours. Retried, because a defect may depend on circumstances and the attempts are bounded.
    pub fn internal(code: &str, reason: impl Into<String>) -> Self {
        Self { fault: Fault::Internal, advice: Advice::Retry, code: code.to_owned(), reason: reason.into() }
    }

    /// From an AWS error: its code where the service answered with one, and the HTTP status where there was an answer.
    /// No code and no status means that no answer came (connection, timeout): that passes.
    pub fn aws(code: Option<&str>, status: Option<u16>, reason: impl Into<String>) -> Self {
        let (fault, advice) = classify(code, status);
        let code = code.map(str::to_owned).or_else(|| status.map(|status| format!("Http{status}")));
        Self { fault, advice, code: code.unwrap_or_else(|| "NoAnswer".to_owned()), reason: reason.into() }
    }

    /// Whether the same call may succeed later.
    pub fn passes(&self) -> bool {
        self.advice == Advice::Retry
    }

    /// The same failure with what we were doing in front of its reason.
    pub fn while_(mut self, doing: impl fmt::Display) -> Self {
        self.reason = format!("{doing}: {}", self.reason);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

/// Total: every code and status has an answer. Unknown 4xx are ours (we sent a request that makes no sense to the
/// service), unknown 5xx are theirs.
///
/// Sources: S3 API reference "Error responses", DynamoDB "Error handling", Lambda "Invoke" errors, SNS "Publish" errors.
fn classify(code: Option<&str>, status: Option<u16>) -> (Fault, Advice) {
    use Advice::{Never, Retry};
    use Fault::{External, Internal, User};
    if let Some(code) = code {
        match code {
            "NoSuchKey"
            | "NoSuchBucket"
            | "NotFound"
            | "AccessDenied"
            | "AccessDeniedException"
            | "Forbidden"
            | "AllAccessDisabled"
            | "InvalidObjectState"
            | "AuthorizationError"
            | "AuthorizationErrorException"
            | "KMSAccessDeniedException"
            | "KMS.DisabledException"
            | "KMS.NotFoundException"
            | "PermanentRedirect" => {
                return (User, Never);
            }
            "SlowDown"
            | "InternalError"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "InternalServerError"
            | "InternalServerErrorException"
            | "ServiceException"
            | "TransactionConflictException"
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "EC2ThrottledException"
            | "ResourceConflictException"
            | "KMSThrottlingException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestTimeTooSkewed"
            | "PreconditionFailed"
            | "NoSuchUpload"
            | "BadDigest" => return (External, Retry),
            _ => {}
        }
    }
    match status {
        None | Some(408 | 429 | 500..) => (External, Retry),
        Some(401 | 403 | 404) => (User, Never),
        Some(412) => (External, Retry),
        Some(_) => (Internal, Never),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_is_never_retried() {
        for code in ["NoSuchKey", "NoSuchBucket", "AccessDenied"] {
            let failure = Failure::aws(Some(code), Some(404), "x");
            assert_eq!((failure.fault, failure.advice), (Fault::User, Advice::Never), "{code}");
        }
        // HeadObject has no body, so no code: only the status.
        assert_eq!(classify(None, Some(403)), (Fault::User, Advice::Never));
    }

    #[test]
    fn what_passes_is_retried() {
        for (code, status) in [
            (Some("SlowDown"), Some(503)),
            (Some("ProvisionedThroughputExceededException"), Some(400)),
            (Some("ThrottlingException"), Some(400)),
            (None, Some(503)),
            (None, None),
            (Some("SomethingNew"), Some(500)),
        ] {
            assert!(Failure::aws(code, status, "x").passes(), "{code:?} {status:?}");
        }
    }

    #[test]
    fn an_unknown_refusal_is_ours_and_final() {
        assert_eq!(classify(Some("ValidationException"), Some(400)), (Fault::Internal, Advice::Never));
    }

    #[test]
    fn every_status_has_an_answer() {
        for status in 100..=999 {
            let _ = classify(None, Some(status));
            let _ = classify(Some("Unheard.Of"), Some(status));
        }
    }
}
