//! Cells as moments and days.

use jiff::civil;
use weir_values::{self as values, MICROS_PER_DAY, Precision};

use crate::cell::Cell;
use crate::plan::{Field, TimeFormat};

/// A moment in microseconds since 1970, by the first of the field's formats that reads it.
pub(crate) fn moment(field: &Field, cell: Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Stamp(micros, true) => Some(micros),
        Cell::Stamp(micros, false) => in_zone(field, micros),
        Cell::Date(days) => in_zone(field, i64::from(days) * MICROS_PER_DAY),
        Cell::Text(text) => {
            let text = text.trim_ascii();
            field.formats.iter().find_map(|format| by_format(field, format, text, false))
        }
        Cell::Number(text) => field.formats.iter().find_map(|format| by_format(field, format, text, true)),
        Cell::Int(number) => epoch_of(field, itoa::Buffer::new().format(number)),
        Cell::Float(number) if number.is_finite() => epoch_of(field, zmij::Buffer::new().format(number)),
        _ => None,
    }
}

fn epoch_of(field: &Field, number: &str) -> Option<i64> {
    field.formats.iter().find_map(|format| by_format(field, format, number, true))
}

fn by_format(field: &Field, format: &TimeFormat, text: &str, number: bool) -> Option<i64> {
    match format {
        TimeFormat::Iso if !number => match values::stamp_with(text.as_bytes(), Precision::Truncated) {
            Some((micros, true)) => Some(micros),
            Some((micros, false)) => in_zone(field, micros),
            None => in_zone(field, i64::from(values::date(text.as_bytes())?) * MICROS_PER_DAY),
        },
        TimeFormat::Epoch(digits) => epoch(text, *digits),
        TimeFormat::Pattern(pattern) if !number => by_pattern(field, pattern, text),
        TimeFormat::Iso | TimeFormat::Pattern(_) => None,
    }
}

/// A number of which the last `digits` digits before a microsecond are behind the point.
fn epoch(text: &str, digits: u32) -> Option<i64> {
    values::decimal(text.as_bytes(), digits).or_else(|| {
        // More digits than microseconds, as a float has them: cut off.
        let micros = values::nearest_float(text.as_bytes())? * 10f64.powi(digits as i32);
        (micros.abs() < 9.0e18).then(|| micros.trunc() as i64)
    })
}

fn by_pattern(field: &Field, pattern: &str, text: &str) -> Option<i64> {
    let parsed = jiff::fmt::strtime::parse(pattern, text).ok()?;
    if let Ok(moment) = parsed.to_timestamp() {
        return Some(moment.as_microsecond());
    }
    let clock = parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?;
    in_zone(field, clock_micros(clock)?)
}

fn clock_micros(clock: civil::DateTime) -> Option<i64> {
    let moment = clock.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(moment.as_microsecond())
}

/// A clock's reading in the field's zone as a moment. Jiff's "compatible" way, which is RFC 5545's: of a time that comes
/// twice the first, and one that is skipped moved forward by the gap.
fn in_zone(field: &Field, clock: i64) -> Option<i64> {
    let Some(zone) = &field.zone else { return Some(clock) };
    let reading = jiff::Timestamp::from_microsecond(clock).ok()?.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    Some(zone.to_ambiguous_zoned(reading).compatible().ok()?.timestamp().as_microsecond())
}

/// Days since 1970. A day is the day it says, whatever the zone; a moment is asked for its day in the field's zone.
pub(crate) fn date(field: &Field, cell: Cell<'_>) -> Option<i32> {
    match cell {
        Cell::Date(days) => Some(days),
        Cell::Stamp(micros, false) => Some(values::days_of(micros)),
        Cell::Text(text) => {
            let text = text.trim_ascii();
            let iso = field.formats.contains(&TimeFormat::Iso);
            let day = values::date(text.as_bytes()).filter(|_| iso);
            day.or_else(|| moment(field, cell).map(|micros| day_in_zone(field, micros)))
        }
        _ => moment(field, cell).map(|micros| day_in_zone(field, micros)),
    }
}

fn day_in_zone(field: &Field, micros: i64) -> i32 {
    let Some(zone) = &field.zone else { return values::days_of(micros) };
    let offset = jiff::Timestamp::from_microsecond(micros).map_or(0, |moment| zone.to_offset(moment).seconds());
    values::days_of(micros + i64::from(offset) * 1_000_000)
}
