//! The times of `asof`.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::RequestError;

/// The last instant of a day.
const DAY_END: Time = Time::constant(23, 59, 59, 999_999_999);
/// The length of a date: `2026-01-31`.
const DATE_LENGTH: usize = 10;

/// Parses a date, which means its end in UTC, or an RFC 3339 time.
pub(super) fn parse(text: &str) -> Result<Timestamp, RequestError> {
    let invalid = || {
        RequestError::invalid_value(
            "asof",
            text,
            "it must be a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z",
        )
    };
    if text.len() == DATE_LENGTH {
        let date: Date = text.parse().map_err(|_| invalid())?;
        return date
            .to_datetime(DAY_END)
            .to_zoned_datetime(TimeZone::UTC)
            .map(|end| end.timestamp())
            .map_err(|_| invalid());
    }
    text.parse().map_err(|_| invalid())
}

/// The shortest text that [`parse`] reads as this time.
pub(super) fn text(time: Timestamp) -> String {
    if is_date(time) {
        time.to_zoned_datetime(TimeZone::UTC).date().to_string()
    } else {
        time.to_string()
    }
}

/// Whether it is the end of a day in UTC.
pub(super) fn is_date(time: Timestamp) -> bool {
    time.to_zoned_datetime(TimeZone::UTC).time() == DAY_END
}
