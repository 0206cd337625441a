//! The off-peak window: `22:00-06:00 Europe/Berlin`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// A part of every day, by the clocks of a zone. One that ends before it begins goes over midnight; one that ends when it begins
/// is the whole day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoWindow(String);

impl std::error::Error for NoWindow {}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no window; write it as `22:00-06:00 Europe/Berlin`", self.0)
    }
}

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let parsed = || {
            let (times, zone) = text.trim().split_once(' ')?;
            let (from, to) = times.split_once('-')?;
            let time = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
            Some(Self { from: time(from)?, to: time(to)?, zone: TimeZone::get(zone.trim()).ok()? })
        };
        parsed().ok_or_else(|| NoWindow(text.to_owned()))
    }
}

impl Window {
    fn time(&self, at_ms: u64) -> Option<jiff::Zoned> {
        let at = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }

    /// Whether it is open at a time, in milliseconds since the epoch.
    pub fn is_open(&self, at_ms: u64) -> bool {
        let Some(now) = self.time(at_ms).map(|at| at.time()) else { return false };
        if self.from < self.to { (self.from..self.to).contains(&now) } else { now >= self.from || now < self.to }
    }

    /// When it is open next: now, or when it begins.
    pub fn next_open_ms(&self, at_ms: u64) -> u64 {
        if self.is_open(at_ms) {
            return at_ms;
        }
        let next = || {
            let now = self.time(at_ms)?;
            let day = if now.time() < self.from { now.date() } else { now.date().tomorrow().ok()? };
            let opens = day.to_datetime(self.from).to_zoned(self.zone.clone()).ok()?;
            u64::try_from(opens.timestamp().as_millisecond()).ok()
        };
        next().unwrap_or(at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    #[test]
    fn over_midnight_and_within_a_day() {
        let night: Window = "22:00-06:00 Europe/Berlin".parse().unwrap();
        assert!(night.is_open(at("2026-01-10T21:00:00Z")) && !night.is_open(at("2026-01-10T20:59:59Z")));
        assert!(night.is_open(at("2026-01-10T04:59:59Z")) && !night.is_open(at("2026-01-10T05:00:00Z")));
        let noon: Window = "12:00-13:30 UTC".parse().unwrap();
        assert!(noon.is_open(at("2026-01-10T12:00:00Z")) && !noon.is_open(at("2026-01-10T13:30:00Z")));
        assert!("00:00-00:00 UTC".parse::<Window>().unwrap().is_open(at("2026-01-10T12:00:00Z")));
    }

    #[test]
    fn it_opens_today_or_tomorrow_by_the_zones_clocks() {
        let night: Window = "22:00-06:00 Europe/Berlin".parse().unwrap();
        assert_eq!(night.next_open_ms(at("2026-01-10T12:00:00Z")), at("2026-01-10T21:00:00Z"));
        assert_eq!(night.next_open_ms(at("2026-07-10T12:00:00Z")), at("2026-07-10T20:00:00Z"), "summer time");
        assert_eq!(night.next_open_ms(at("2026-01-10T23:00:00Z")), at("2026-01-10T23:00:00Z"), "it is open");
        let early: Window = "01:00-02:00 UTC".parse().unwrap();
        assert_eq!(early.next_open_ms(at("2026-01-10T12:00:00Z")), at("2026-01-11T01:00:00Z"));
    }

    #[test]
    fn what_is_no_window_is_named() {
        for wrong in ["", "22:00", "22-06 UTC", "22:00-06:00 Mars/Olympus", "22:00-25:00 UTC"] {
            assert!(wrong.parse::<Window>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }
}
