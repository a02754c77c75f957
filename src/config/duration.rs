//! Durations as Go and therefore Chihaya's files write them: `30m`, `1h30m`,
//! `1.5h`, `500ms`.

use std::time::Duration;

/// The forms that are accepted, for error messages.
pub(super) const FORMS: &str = "a duration such as \"30m\", \"15s\", \"1h30m\" or \"500ms\"";

/// The units and their nanoseconds. `µs` has two spellings in Unicode.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Reads a duration: one or more numbers, each with a unit (ns, us, ms, s, m,
/// h) and perhaps a fraction; or a plain `0`. `None` if it is anything else,
/// negative, or longer than about 292 years (what Go can hold).
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds = nanoseconds.checked_add(times(number, factor)?)?;
        rest = tail;
    }
    (nanoseconds <= i64::MAX as u64).then(|| Duration::from_nanos(nanoseconds))
}

/// A decimal number times a unit. The whole part is exact; a fraction is as
/// exact as a float, which is far below what anything here needs.
fn times(number: &str, factor: f64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: f64 = if fraction.is_empty() {
        0.0
    } else {
        // A second point makes this fail.
        format!("0.{fraction}").parse().ok()?
    };
    let whole = whole.checked_mul(factor as u64)?;
    whole.checked_add((fraction * factor).round() as u64)
}

/// Writes a duration in the form that [`parse`] reads: `1h30m`, `500ms`, `0s`.
pub(super) fn format(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= size {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
        }
    }
    text
}

/// For `serialize_with`.
pub(super) fn serialize<S: serde::Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("30m", 1_800_000_000_000u64),
            ("15s", 15_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
            ("1h1m1s1ms", 3_661_001_000_000),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "+",
            "-5s",
            "5",
            "s",
            ".",
            ".s",
            "1..5s",
            "1.2.3s",
            "5 s",
            "5d",
            "5S",
            "1h 30m",
            " 5s",
            "5s ",
            "1e3s",
            "99999999999999999999s",
            "9999999h",
            "٣s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_800_000_000_000, "30m"),
            (5_400_000_000_000, "1h30m"),
            (1_500_000_000, "1s500ms"),
            (86_400_000_000_000, "24h"),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Some(duration));
        }
    }
}
