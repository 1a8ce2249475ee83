//! The time of an item, as it is read from the tables.
//!
//! A page of the list has up to a thousand of them. Diesel reads SQLite's text by general formats, which would take longer than
//! the rest of a page. Here it has one fixed form, and everything else falls back to Diesel.

use chrono::{NaiveDate, NaiveDateTime};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    sql_types::Timestamp,
    sqlite::{Sqlite, SqliteValue},
};

/// A time in UTC, in a column of the type `TIMESTAMP`.
#[derive(Debug, Clone, Copy, FromSqlRow)]
pub struct StoredTime(NaiveDateTime);

impl From<NaiveDateTime> for StoredTime {
    fn from(time: NaiveDateTime) -> Self {
        Self(time)
    }
}

impl From<StoredTime> for NaiveDateTime {
    fn from(time: StoredTime) -> Self {
        time.0
    }
}

impl FromSql<Timestamp, Sqlite> for StoredTime {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        match parse(value.read_text()) {
            Some(time) => Ok(Self(time)),
            None => FromSql::<Timestamp, Sqlite>::from_sql(value).map(Self),
        }
    }
}

/// Reads `YYYY-MM-DD HH:MM:SS`, with or without up to nine decimals: the form in which Diesel writes times into SQLite.
fn parse(text: &str) -> Option<NaiveDateTime> {
    let (time, decimals) = text.as_bytes().split_at_checked(19)?;
    let &[
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b' ',
        ref clock @ ..,
    ] = time
    else {
        return None;
    };
    let &[h1, h2, b':', min1, min2, b':', s1, s2] = clock else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4])?.try_into().ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[m1, m2])?, number(&[d1, d2])?)?;
    let nanoseconds = match decimals {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let unused = 9 - u32::try_from(digits.len()).ok()?;
            number(digits)? * 10_u32.pow(unused)
        }
        _ => return None,
    };
    let [hour, minute, second] = [
        number(&[h1, h2])?,
        number(&[min1, min2])?,
        number(&[s1, s2])?,
    ];
    date.and_hms_nano_opt(hour, minute, second, nanoseconds)
}

/// At most nine decimal digits as a number.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, Timelike as _};
    use diesel::{Connection as _, RunQueryDsl as _, dsl::sql};
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn the_form_of_the_tables_is_read_and_no_other() {
        for (text, expected, why) in [
            (
                "2026-01-31 12:34:56.000001",
                Some("2026-01-31T12:34:56.000001"),
                "microseconds",
            ),
            (
                "2026-01-31 12:34:56",
                Some("2026-01-31T12:34:56"),
                "a full second",
            ),
            (
                "2026-01-31 12:34:56.5",
                Some("2026-01-31T12:34:56.5"),
                "one decimal",
            ),
            (
                "2026-01-31 12:34:56.123456789",
                Some("2026-01-31T12:34:56.123456789"),
                "nanoseconds",
            ),
            (
                "0000-01-01 00:00:00",
                Some("0000-01-01T00:00:00"),
                "the first year",
            ),
            ("2026-01-31 12:34:56.", None, "no decimals"),
            ("2026-01-31 12:34:56.1234567890", None, "ten decimals"),
            ("2026-01-31 12:34:56Z", None, "a zone"),
            ("2026-01-31T12:34:56", None, "the form of ISO 8601"),
            ("2026-02-30 12:34:56", None, "no such day"),
            ("2026-01-31 12:34:60", None, "a leap second"),
            ("2026-01-31 24:00:00", None, "no such hour"),
            ("+026-01-31 12:34:56", None, "a sign"),
            ("2026-01-31 12:34", None, "no seconds"),
            ("2026-01-31 12:34:5\u{e9}", None, "no digits"),
            ("", None, "nothing"),
        ] {
            assert_eq!(parse(text), expected.map(at), "{why}");
        }
    }

    #[test]
    fn what_is_not_in_the_form_of_the_tables_is_read_by_diesel() {
        let mut connection = diesel::SqliteConnection::establish(":memory:").unwrap();
        for (text, expected) in [
            ("2026-01-31 12:34:56.5", "2026-01-31T12:34:56.5"),
            ("2026-01-31T12:34:56.5Z", "2026-01-31T12:34:56.5"),
            ("2026-01-31 12:34", "2026-01-31T12:34:00"),
        ] {
            let query = sql::<Timestamp>(&format!("SELECT '{text}'"));
            let time: StoredTime = query.get_result(&mut connection).unwrap();
            assert_eq!(NaiveDateTime::from(time), at(expected), "{text}");
        }
        let query = sql::<Timestamp>("SELECT 'yesterday'");
        assert!(query.get_result::<StoredTime>(&mut connection).is_err());
    }

    proptest! {
        #[test]
        fn times_are_read_as_chrono_does(
            seconds in -70_000_000_000_i64..260_000_000_000,
            microseconds in 0_u32..2_000_000,
        ) {
            let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
            let leap = if time.second() == 59 { microseconds } else { microseconds % 1_000_000 };
            let time = time.with_nanosecond(leap * 1000).unwrap();
            if let Some(parsed) = parse(&time.format("%F %T%.f").to_string()) {
                prop_assert_eq!(parsed, time);
            } else {
                prop_assert!(time.year() < 0 || time.year() > 9999 || leap >= 1_000_000);
            }
        }
    }
}
