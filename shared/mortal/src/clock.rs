//! A clock that tests turn. Each test has a thread, and each thread a clock.

use std::cell::Cell;

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(1_800_000_000_000) };
}

/// What time it is, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    NOW_MS.get()
}

/// Time passes.
pub fn pass(ms: u64) {
    NOW_MS.set(now_ms() + ms);
}
