//! Figures as people read them.

use crate::text;

/// The unit of a part of a whole, from 0 to 1; people read it in percent.
pub(crate) const SHARE: &str = "share";

/// A value with its unit: `1.25 ms`, `12,345/s`, `3.4 MiB`, `12 %`.
pub(crate) fn shown(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        "bytes" if value >= 0.0 => text::bytes(value as u64),
        "bytes/s" if value >= 0.0 => format!("{}/s", text::bytes(value as u64)),
        SHARE => format!("{} %", number(value * 100.0)),
        "1/s" => format!("{}/s", number(value)),
        unit => format!("{} {unit}", number(value)),
    }
}

/// Four significant digits; whole numbers, and what is greater than the digits show, in full.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    if size >= 1000.0 || (size.fract() == 0.0 && size < 1e15) {
        return format!("{sign}{}", text::grouped(size.round() as u64));
    }
    if size < 1e-6 {
        return format!("{value:.1e}");
    }
    let digits_before = (size.log10().floor() as i32) + 1;
    let decimals = usize::try_from(4 - digits_before).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The middle value, or the mean of the two in the middle; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits_and_their_unit() {
        let check = |value, unit, expected: &str| assert_eq!(shown(value, unit), expected);
        check(0.0, "", "0");
        check(1.0, "ms", "1 ms");
        check(1.234_56, "ms", "1.235 ms");
        check(0.012_345, "s", "0.01235 s");
        check(123.456, "s", "123.5 s");
        check(-12.5, "ms", "-12.5 ms");
        check(1_234_567.8, "1/s", "1,234,568/s");
        check(1536.0, "bytes", "1.5 KiB");
        check(1536.0, "bytes/s", "1.5 KiB/s");
        check(0.0125, SHARE, "1.25 %");
        check(1e-9, "", "1.0e-9");
        check(-4321.0, "", "-4,321");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    }
}
