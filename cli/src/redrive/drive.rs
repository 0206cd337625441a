//! Letters out of their objects, onto their way, and away.
//!
//! A letter is taken away when whoever it went to has said that it has it, and only if its object is still what was read. What is
//! not known to have arrived stays; so one may go twice, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::Lake;

use super::letters::{self, Known, Letter, Opened};
use super::which::Which;

/// Letters of an object that are sent before they are taken away: so many may go twice if the process is killed.
const STEP: usize = 2_000;

/// The most of a request: PutRecords and PutRecordBatch take 500 records, and 4 MiB together.
const REQUEST_LETTERS: usize = 500;
const REQUEST_BYTES: usize = 4 << 20;

/// Who brings letters to where they came from.
pub(crate) trait Carrier {
    /// Sends letters of one place, as many as a request takes; an answer for each.
    async fn carry(&mut self, letters: &[&Letter]) -> Vec<Result<(), Failure>>;
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Letters that were sent.
    pub(crate) sent: usize,
    /// That were refused.
    pub(crate) refused: usize,
    /// That can't be sent, or not without others; the list says why.
    pub(crate) kept: usize,
    /// Why some are left, the first few.
    pub(crate) why: Vec<String>,
}

impl Report {
    fn note(&mut self, why: String) {
        const SOME: usize = 10;
        if self.why.len() < SOME && !self.why.contains(&why) {
            self.why.push(why);
        }
    }
}

/// A redrive that is going on.
pub(crate) struct Drive<'a, C> {
    pub(crate) lake: &'a dyn Lake,
    pub(crate) known: &'a Known,
    pub(crate) which: &'a Which,
    pub(crate) carrier: C,
    /// Letters a second.
    pub(crate) rate: Option<u32>,
    /// How many at most.
    pub(crate) limit: usize,
    /// Set when somebody wants it to stop.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) begun: Instant,
    pub(crate) report: Report,
}

impl<C: Carrier> Drive<'_, C> {
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.report.sent >= self.limit
    }

    /// All of an object that is meant.
    ///
    /// # Errors
    /// The lake's.
    pub(crate) async fn object(&mut self, at: &Location) -> Result<(), Failure> {
        let mut counted = false;
        while !self.is_over() {
            let Some((bytes, etag)) = found(self.lake, at).await? else { return Ok(()) };
            let opened = match letters::open(at, &bytes, self.known) {
                Ok(opened) => opened,
                Err(reason) => {
                    self.report.note(format!("{at}: {reason}"));
                    return Ok(());
                }
            };
            let all = &opened.letters;
            let meant: Vec<&Letter> = all.iter().filter(|letter| self.which.takes(letter)).collect();
            let mut sendable: Vec<&Letter> = meant.iter().copied().filter(|letter| letter.to.is_somewhere()).collect();
            if !counted {
                self.report.kept += meant.len() - sendable.len();
                counted = true;
            }
            let has_parts = opened.has_parts();
            let room = self.limit.saturating_sub(self.report.sent);
            if !has_parts && (sendable.len() < all.len() || sendable.len() > room) && !sendable.is_empty() {
                self.report.kept += sendable.len();
                self.report.note(format!("{at}: its {} letters go together, or not at all", all.len()));
                return Ok(());
            }
            let count = sendable.len();
            if has_parts {
                sendable.truncate(room.min(STEP));
            }
            let sent = self.send(at, &sendable).await;
            if sent.is_empty() || !self.take_away(at, &opened, (&bytes, &etag), &sent).await? {
                return Ok(());
            }
            if sent.len() < sendable.len() || sendable.len() == count {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The lines of those that were sent.
    async fn send(&mut self, at: &Location, letters: &[&Letter]) -> BTreeSet<usize> {
        let mut by_place: BTreeMap<(u8, &str), Vec<&Letter>> = BTreeMap::new();
        for letter in letters {
            by_place.entry(letter.to.place()).or_default().push(letter);
        }
        let mut sent = BTreeSet::new();
        for request in by_place.values().flat_map(|letters| requests(letters, self.rate)) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let answers = self.carrier.carry(request).await;
            for (n, letter) in request.iter().enumerate() {
                match answers.get(n) {
                    Some(Ok(())) => {
                        sent.insert(letter.line);
                        self.report.sent += 1;
                    }
                    refused => {
                        let said = refused.and_then(|refused| refused.as_ref().err());
                        let why = said.map_or("no answer".to_owned(), |it| format!("{}: {}", it.code, it.reason));
                        self.report.refused += 1;
                        self.report.note(format!("{at}: {why}"));
                    }
                }
            }
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(self.report.sent as f64 / f64::from(rate));
                tokio::time::sleep(due.saturating_sub(self.begun.elapsed())).await;
            }
        }
        sent
    }

    /// Whether what was sent is gone from its object: lines, or all of it.
    async fn take_away(
        &mut self,
        at: &Location,
        opened: &Opened,
        (bytes, etag): (&[u8], &str),
        sent: &BTreeSet<usize>,
    ) -> Result<bool, Failure> {
        let rest = opened.without(bytes, sent);
        let done = match &rest {
            None => self.lake.delete_if(at, etag).await,
            Some(_) if !opened.has_parts() => {
                self.report.note(format!("{at}: some of its letters were sent, and go again with the others"));
                return Ok(false);
            }
            Some(rest) => self.lake.put_if(at, etag, rest.clone().into(), opened.content_type()).await,
        };
        match done {
            Err(failure) if failure.code == "PreconditionFailed" => {
                // By ourselves, if only the answer was lost; else it was put aside again meanwhile, and is another letter.
                let now = found(self.lake, at).await?;
                let is_ours = now.is_some_and(|(now, _)| rest.is_some_and(|rest| now == rest));
                if !is_ours {
                    self.report.note(format!("{at}: it was put aside again while it was sent"));
                }
                Ok(is_ours)
            }
            // Somebody else has taken it away.
            Err(failure) if failure.code == "NoSuchKey" => Ok(true),
            done => done.map(|()| true),
        }
    }
}

/// Nothing if it is gone, also while it is looked at.
pub(crate) async fn found(lake: &dyn Lake, at: &Location) -> Result<Option<(bytes::Bytes, String)>, Failure> {
    loop {
        match weir_lake::find(lake, at).await {
            Err(failure) if failure.code == "NoSuchKey" => return Ok(None),
            Err(failure) if failure.code == "PreconditionFailed" => {}
            found => return found,
        }
    }
}

/// As much at a time as a request takes, and as the rate allows in a second.
fn requests<'a, 'b>(letters: &'a [&'b Letter], rate: Option<u32>) -> Vec<&'a [&'b Letter]> {
    let most = rate.map_or(REQUEST_LETTERS, |rate| REQUEST_LETTERS.min(rate as usize));
    let (mut found, mut rest) = (Vec::new(), letters);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(most).take_while(|letter| {
            bytes += letter.raw.as_ref().map_or(0, Vec::len) + 256;
            bytes <= REQUEST_BYTES
        });
        // One that is too large is sent all the same, to be refused by name.
        let (request, after) = rest.split_at(fits.count().max(1));
        found.push(request);
        rest = after;
    }
    found
}
