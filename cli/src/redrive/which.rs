//! Which letters are meant.

use clap::Args;
use weir_command::Location;

use super::letters::Letter;
use crate::Stop;

/// Which letters; those that fit all that is said.
#[derive(Args, Clone, Default)]
pub(crate) struct Which {
    /// From this stream, delivery stream, topic or function.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Put aside for a reason that has this in it.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// That came at this moment or later, such as 2024-05-01T10:00:00Z.
    #[arg(long, value_parser = moment)]
    since: Option<u64>,
    /// That came before this moment.
    #[arg(long, value_parser = moment)]
    until: Option<u64>,
    /// Under this key, such as poison/weir-commands/.
    #[arg(long, value_parser = key)]
    under: Option<String>,
}

fn moment(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no moment: write it as 2024-05-01T10:00:00Z");
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(at.as_millisecond()).map_err(|_| wrong())
}

/// A key, or all of a place as lists show it.
fn key(text: &str) -> Result<String, String> {
    if !text.starts_with("s3://") {
        return Ok(text.to_owned());
    }
    Location::parse(text).map(|at| at.key().to_owned()).map_err(|error| error.to_string())
}

impl Which {
    pub(crate) fn says_nothing(&self) -> bool {
        let Self { from, reason, since, until, under } = self;
        from.is_none() && reason.is_none() && since.is_none() && until.is_none() && under.is_none()
    }

    /// Refuses to mean everything unless that is said.
    pub(crate) fn or_all(&self, all: bool) -> Result<(), Stop> {
        if all || !self.says_nothing() {
            return Ok(());
        }
        let reason =
            "say which letters (--from, --reason, --since, --until, --under), or --all; `weir redrive list` shows them";
        Err(Stop(2, reason.to_owned()))
    }

    /// One whose time is not known came at no time that anybody says.
    pub(crate) fn takes(&self, letter: &Letter) -> bool {
        let known = letter.arrived_ms > 0;
        self.from.as_deref().is_none_or(|from| letter.to.name() == from)
            && self.reason.as_deref().is_none_or(|reason| letter.reason.contains(reason))
            && self.since.is_none_or(|since| known && letter.arrived_ms >= since)
            && self.until.is_none_or(|until| known && letter.arrived_ms < until)
    }

    /// Whether there may be some under a prefix.
    pub(crate) fn looks_under(&self, prefix: &Location) -> bool {
        self.under.as_deref().is_none_or(|under| prefix.key().starts_with(under) || under.starts_with(prefix.key()))
    }

    /// Whether there may be some in an object.
    pub(crate) fn looks_in(&self, object: &Location) -> bool {
        self.under.as_deref().is_none_or(|under| object.key().starts_with(under))
    }
}
