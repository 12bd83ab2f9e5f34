//! Numbers as people read them: grouped counts, times with a unit, shares in per cent.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit that keeps it short: `0 s`, `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time.is_zero() => "0 s".to_owned(),
        _ if time < Duration::from_millis(1) => "<1 ms".to_owned(),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A share with one digit behind the point, for those near to nothing.
pub(super) fn percent_fine(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A share from 0 to 1 in per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// `rows` in `time` as a rate; `None` where no time has passed.
pub(super) fn rate(rows: u64, time: Duration) -> Option<String> {
    (!time.is_zero()).then(|| format!("{} rows/s", count((rows as f64 / time.as_secs_f64()) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        let texts = [0, 7, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn times_take_the_unit_that_keeps_them_short() {
        let texts = [0, 12, 999, 3_400, 59_990, 125_000, 12_000_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(texts, ["0 s", "12 ms", "999 ms", "3.4 s", "59.9 s", "2 min 5 s", "3 h 20 min"]);
        assert_eq!(time(Duration::from_micros(20)), "<1 ms");
    }

    #[test]
    fn a_rate_needs_time_to_have_passed() {
        assert_eq!(rate(3000, Duration::from_secs(2)).as_deref(), Some("1,500 rows/s"));
        assert_eq!(rate(3000, Duration::ZERO), None);
    }
}
