//! Durations as Prometheus and Alertmanager write them: `5m`, `1h30m`, `100ms`.

use jiff::SignedDuration;

/// The duration that a text means; `None` for any other text. A year has 365 days, as there.
pub(crate) fn parse(text: &str) -> Option<SignedDuration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut milliseconds: i64 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let unit: i64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        milliseconds = milliseconds.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        (rest, any) = (after, true);
    }
    any.then(|| SignedDuration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_prometheus() {
        for (text, milliseconds) in
            [("5m", 300_000), ("1h30m", 5_400_000), ("100ms", 100), ("0", 0), ("0s", 0), ("1d", 86_400_000)]
        {
            assert_eq!(parse(text), Some(SignedDuration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5m", "5x", "99999999999999999999s", "9223372036854775807y", "5m5"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
