//! Who does a job: decided from its size, purely.

use weir_command::{Action, Command, Mode};

use crate::config::Role;

/// What is known of a job's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Objects listed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there are more than were listed.
    pub more: bool,
}

/// Who does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// This invocation.
    Here,
    /// The worker.
    Worker,
    /// The batch side, for this reason.
    Batch(String),
}

/// A job estimated to take longer than this does not stay in the stream's invocation: what is behind it waits.
const STREAM_MS: u64 = 5_000;

/// Estimates, meant to be pessimistic. `make bench` measures 130 (CSV, small) to 470 MB/s (NDJSON, large) of plain text a
/// core; here are bytes as they lie in S3, where compression hides up to ten times as many, and S3 itself takes its time.
const CONVERT_BYTES_PER_MS: u64 = 30_000;
const CONVERT_OBJECT_MS: u64 = 60;
const COPY_BYTES_PER_MS: u64 = 200_000;
const COPY_OBJECT_MS: u64 = 8;

fn estimate_ms(command: &Command, size: Size) -> u64 {
    match command.action {
        Action::Copy => size.bytes / COPY_BYTES_PER_MS + size.objects * COPY_OBJECT_MS,
        Action::Convert { .. } | Action::Clean | Action::Aggregate => {
            size.bytes / CONVERT_BYTES_PER_MS + size.objects * CONVERT_OBJECT_MS
        }
    }
}

/// Decides.
pub fn decide(command: &Command, size: Size, role: Role, realtime_max_bytes: u64) -> Plan {
    if command.mode == Mode::Batch {
        return Plan::Batch("the record asks for batch".to_owned());
    }
    let through_process = command.action != Action::Copy;
    if through_process && size.bytes > realtime_max_bytes && command.mode != Mode::Realtime {
        return Plan::Batch(format!("its {} bytes are more than REALTIME_MAX_BYTES, {realtime_max_bytes}", size.bytes));
    }
    if role == Role::Stream && (size.more || estimate_ms(command, size) > STREAM_MS) {
        return Plan::Worker;
    }
    Plan::Here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command {
        let record = format!(r#"{{"source":"s3://in-bucket/a","dest":"s3://out-bucket/b",{text}}}"#);
        Command::parse(record.as_bytes()).unwrap()
    }

    #[test]
    fn three_speeds() {
        const MAX: u64 = 3_000_000_000;
        let (copy, convert) = (command(r#""command":"copy""#), command(r#""command":"convert""#));
        let bytes = |bytes| Size { objects: 1, bytes, more: false };
        for (command, size, role, plan) in [
            (&convert, bytes(1_000), Role::Stream, "here"),
            (&convert, bytes(1_000_000_000), Role::Stream, "worker"),
            (&convert, bytes(1_000_000_000), Role::Worker, "here"),
            (&convert, bytes(4_000_000_000), Role::Stream, "batch"),
            (&convert, bytes(4_000_000_000), Role::Worker, "batch"),
            (&copy, bytes(500_000_000), Role::Stream, "here"),
            (&copy, bytes(500_000_000_000), Role::Stream, "worker"),
            (&copy, bytes(500_000_000_000), Role::Worker, "here"),
            (&copy, Size { objects: 1000, bytes: 0, more: true }, Role::Stream, "worker"),
            (&command(r#""command":"convert","mode":"realtime""#), bytes(4_000_000_000), Role::Worker, "here"),
            (&command(r#""command":"copy","mode":"batch""#), bytes(1), Role::Stream, "batch"),
            (&command(r#""command":"copy","when":"off-peak""#), bytes(1), Role::Stream, "batch"),
        ] {
            let decided = match decide(command, size, role, MAX) {
                Plan::Here => "here",
                Plan::Worker => "worker",
                Plan::Batch(_) => "batch",
            };
            assert_eq!(decided, plan, "{} {size:?} {role:?}", command.to_json());
        }
    }
}
