//! A process that is killed at a call: for tests that kill a function at every call it makes, before the call took effect and after.
//!
//! [`Mortal`] wraps what the function calls, and all of a process' wrappers share its [`Fate`]. [`clock`] and [`Told`] are what else the
//! functions' tests share.

pub mod clock;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use weir_catalog::{Catalog, Partition, Table};
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Attributes, Lake, ObjectInfo, Page, Part};
use weir_ledger::backlog::{Backlog, Backlogs};
use weir_ledger::batch::{Book, Landed, Lane, Swap};
use weir_ledger::layout::{Layout, Layouts};
use weir_ledger::positions::{Position, Positions};
use weir_ledger::{Job, Put, Store};

pub use told::Told;

/// When the process dies: at which call, and whether that call is still done.
#[derive(Debug, Default)]
pub struct Fate {
    calls: AtomicUsize,
    dies_at: AtomicUsize,
    done: AtomicBool,
    dead: AtomicBool,
    survives: AtomicBool,
    came: AtomicBool,
    stalls_at: AtomicUsize,
    stalled: Notify,
    goes_on: Notify,
}

impl Fate {
    /// From now on, the `n`th call kills; `done`: after it took effect.
    pub fn set(&self, n: usize, done: bool) {
        self.calls.store(0, Ordering::SeqCst);
        self.dies_at.store(n, Ordering::SeqCst);
        self.done.store(done, Ordering::SeqCst);
        self.came.store(false, Ordering::SeqCst);
        self.survives.store(false, Ordering::SeqCst);
    }

    /// From now on, the `n`th call fails, and nothing else; `done`: after it took effect, so that only its answer is lost.
    pub fn fail(&self, n: usize, done: bool) {
        self.set(n, done);
        self.survives.store(true, Ordering::SeqCst);
    }

    /// From now on, the `n`th call waits, as long as it takes, before it is made.
    pub fn stall(&self, n: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.stalls_at.store(n, Ordering::SeqCst);
    }

    /// Until that call is waiting.
    pub async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// The call that waits is made.
    pub fn go_on(&self) {
        self.goes_on.notify_one();
    }

    /// Whether there were so many calls at all.
    pub fn has_come(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    /// How many calls there were since.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The next invocation is another process.
    pub fn revive(&self) {
        self.dead.store(false, Ordering::SeqCst);
    }

    /// Makes a call, unless the process is dead; or dies of it.
    ///
    /// # Errors
    /// The call's own; `Killed`.
    pub async fn call<T>(&self, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let killed = || Err(Failure::passing("Killed", "the process was killed"));
        if self.dead.load(Ordering::SeqCst) {
            return killed();
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.stalls_at.load(Ordering::SeqCst) {
            self.stalled.notify_one();
            self.goes_on.notified().await;
        }
        let dies = number == self.dies_at.load(Ordering::SeqCst);
        if !dies {
            return doing.await;
        }
        self.dead.store(!self.survives.load(Ordering::SeqCst), Ordering::SeqCst);
        self.came.store(true, Ordering::SeqCst);
        if self.done.load(Ordering::SeqCst) {
            let _ = doing.await;
        }
        killed()
    }
}

/// What it is all wrapped in.
#[derive(Debug)]
pub struct Mortal<T> {
    /// What calls go to.
    pub inner: Arc<T>,
    /// Whose calls they are.
    pub fate: Arc<Fate>,
}

impl<T> Mortal<T> {
    /// Wraps a twin.
    pub fn new(inner: &Arc<T>, fate: &Arc<Fate>) -> Self {
        Self { inner: Arc::clone(inner), fate: Arc::clone(fate) }
    }
}

#[async_trait]
impl<T: Book> Book for Mortal<T> {
    async fn lane(&self, name: &str) -> Result<Option<Lane>, Failure> {
        self.fate.call(self.inner.lane(name)).await
    }
    async fn put_lane(&self, lane: &Lane) -> Result<Swap<Lane>, Failure> {
        self.fate.call(self.inner.put_lane(lane)).await
    }
    async fn due_lanes(&self, now_ms: u64, most: usize) -> Result<Vec<Lane>, Failure> {
        self.fate.call(self.inner.due_lanes(now_ms, most)).await
    }
    async fn object(&self, dataset: &str, uri: &str) -> Result<Option<Landed>, Failure> {
        self.fate.call(self.inner.object(dataset, uri)).await
    }
    async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure> {
        self.fate.call(self.inner.put_object(object)).await
    }
    async fn pending(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        self.fate.call(self.inner.pending(dataset, most)).await
    }
    async fn conflicts(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        self.fate.call(self.inner.conflicts(dataset, most)).await
    }
    async fn deferred(&self, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.deferred(most)).await
    }
    async fn take_token(&self, token: &str, who: &str, expires_s: u64) -> Result<String, Failure> {
        self.fate.call(self.inner.take_token(token, who, expires_s)).await
    }
    async fn token(&self, token: &str) -> Result<Option<String>, Failure> {
        self.fate.call(self.inner.token(token)).await
    }
}

#[async_trait]
impl<T: Store> Store for Mortal<T> {
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure> {
        self.fate.call(self.inner.get(id)).await
    }
    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        self.fate.call(self.inner.put(job, expected)).await
    }
    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.due(now_ms, most)).await
    }
    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.recent(since_ms, until_ms, most)).await
    }
    async fn count(&self, counter: &str, expires_s: u64) -> Result<u64, Failure> {
        self.fate.call(self.inner.count(counter, expires_s)).await
    }
    async fn reset(&self, counter: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.reset(counter)).await
    }
}

#[async_trait]
impl<T: Lake> Lake for Mortal<T> {
    async fn head(&self, at: &Location) -> Result<ObjectInfo, Failure> {
        self.fate.call(self.inner.head(at)).await
    }
    async fn list(&self, prefix: &Location, after: Option<&str>) -> Result<Page, Failure> {
        self.fate.call(self.inner.list(prefix, after)).await
    }
    async fn get(&self, at: &Location, etag: Option<&str>, offset: u64, length: u64) -> Result<Bytes, Failure> {
        self.fate.call(self.inner.get(at, etag, offset, length)).await
    }
    async fn put(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.put(at, bytes, content_type)).await
    }
    async fn put_new(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.put_new(at, bytes, content_type)).await
    }
    async fn put_if(&self, at: &Location, etag: &str, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.put_if(at, etag, bytes, content_type)).await
    }
    async fn delete_if(&self, at: &Location, etag: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.delete_if(at, etag)).await
    }
    async fn delete(&self, all: &[Location]) -> Result<(), Failure> {
        self.fate.call(self.inner.delete(all)).await
    }
    async fn copy(&self, from: &ObjectInfo, to: &Location) -> Result<(), Failure> {
        self.fate.call(self.inner.copy(from, to)).await
    }
    async fn begin_parts(&self, at: &Location, attributes: &Attributes) -> Result<String, Failure> {
        self.fate.call(self.inner.begin_parts(at, attributes)).await
    }
    async fn put_part(&self, at: &Location, upload: &str, number: i32, bytes: Bytes) -> Result<Part, Failure> {
        self.fate.call(self.inner.put_part(at, upload, number, bytes)).await
    }
    async fn copy_part(
        &self,
        from: &ObjectInfo,
        to: &Location,
        upload: &str,
        number: i32,
        range: (u64, u64),
    ) -> Result<Part, Failure> {
        self.fate.call(self.inner.copy_part(from, to, upload, number, range)).await
    }
    async fn finish_parts(&self, at: &Location, upload: &str, parts: &[Part]) -> Result<(), Failure> {
        self.fate.call(self.inner.finish_parts(at, upload, parts)).await
    }
    async fn abort_parts(&self, at: &Location, upload: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.abort_parts(at, upload)).await
    }
}

#[async_trait]
impl<T: Positions> Positions for Mortal<T> {
    async fn position(&self, name: &str) -> Result<Option<Position>, Failure> {
        self.fate.call(self.inner.position(name)).await
    }
    async fn put_position(
        &self,
        next: &Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Swap<Position>, Failure> {
        self.fate.call(self.inner.put_position(next, expected, handed_on)).await
    }
    async fn left_over(&self, now_ms: u64, most: usize) -> Result<Vec<Position>, Failure> {
        self.fate.call(self.inner.left_over(now_ms, most)).await
    }
    async fn positions(&self) -> Result<Vec<Position>, Failure> {
        self.fate.call(self.inner.positions()).await
    }
}

#[async_trait]
impl<T: Backlogs> Backlogs for Mortal<T> {
    async fn backlog(&self, name: &str) -> Result<Option<Backlog>, Failure> {
        self.fate.call(self.inner.backlog(name)).await
    }
    async fn put_backlog(&self, backlog: &Backlog) -> Result<Swap<Backlog>, Failure> {
        self.fate.call(self.inner.put_backlog(backlog)).await
    }
    async fn due_backlogs(&self, now_ms: u64, most: usize) -> Result<Vec<Backlog>, Failure> {
        self.fate.call(self.inner.due_backlogs(now_ms, most)).await
    }
}

#[async_trait]
impl<T: Layouts> Layouts for Mortal<T> {
    async fn layout(&self) -> Result<Layout, Failure> {
        self.fate.call(self.inner.layout()).await
    }
    async fn put_layout(&self, layout: &Layout) -> Result<Swap<Layout>, Failure> {
        self.fate.call(self.inner.put_layout(layout)).await
    }
}

#[async_trait]
impl<T: Catalog> Catalog for Mortal<T> {
    async fn ensure_table(&self, table: &Table) -> Result<(), Failure> {
        self.fate.call(self.inner.ensure_table(table)).await
    }
    async fn add_partitions(&self, table: &Table, partitions: &[Partition]) -> Result<(), Failure> {
        self.fate.call(self.inner.add_partitions(table, partitions)).await
    }
    async fn columns_of(&self, table: &str) -> Result<Option<Vec<(String, String)>>, Failure> {
        self.fate.call(self.inner.columns_of(table)).await
    }
    async fn place_of(&self, table: &str, values: &[String]) -> Result<Option<Location>, Failure> {
        self.fate.call(self.inner.place_of(table, values)).await
    }
    async fn move_to(&self, table: &str, partition: &Partition) -> Result<(), Failure> {
        self.fate.call(self.inner.move_to(table, partition)).await
    }
}
