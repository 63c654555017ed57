//! Numbers as text: integers in decimal, doubles as JavaScript writes them.

/// Appends a signed integer in decimal.
pub(super) fn append_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a double in the shortest form that reads back, with exponents from 1e21 on and below 1e-6.
pub(super) fn append_double(out: &mut Vec<u8>, value: f64) {
    /// Integers below this are exact in both types.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let size = value.abs();
    if size.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    if size < EXACT && size.trunc() == size {
        // Exact: the bound is checked above.
        return append_int(out, size as i64);
    }
    append_shortest(out, size);
}

/// Appends a positive, finite number that is no small integer.
fn append_shortest(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    // Without an exponent the form is the same, but for the fraction of whole numbers.
    if !text.contains('e') {
        let text = text.strip_suffix(".0").unwrap_or(text);
        return out.extend_from_slice(text.as_bytes());
    }
    append_rearranged(out, text);
}

/// Appends a number in scientific form as JavaScript writes it.
fn append_rearranged(out: &mut Vec<u8>, text: &str) {
    let (digits, point) = digits_and_point(text);
    match point {
        22.. | ..=-6 => append_exponent(out, &digits, point - 1),
        1.. => {
            let whole = usize::try_from(point).unwrap_or_default();
            let (before, after) = digits.split_at_checked(whole).unwrap_or((&digits, &[]));
            out.extend_from_slice(before);
            out.resize(out.len() + whole - before.len(), b'0');
            if !after.is_empty() {
                out.push(b'.');
                out.extend_from_slice(after);
            }
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + usize::try_from(-point).unwrap_or_default(), b'0');
            out.extend_from_slice(&digits);
        }
    }
}

fn append_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    if let [first, rest @ ..] = digits {
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    append_int(out, i64::from(exponent.unsigned_abs()));
}

/// The significant digits of a formatted number, and where the decimal point stands, counted from the first.
fn digits_and_point(text: &str) -> (Vec<u8>, i32) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let leading = all.iter().take_while(|digit| **digit == b'0').count();
    let trailing = all
        .iter()
        .rev()
        .take_while(|digit| **digit == b'0')
        .count()
        .min(all.len() - leading);
    let digits = all
        .get(leading..all.len() - trailing)
        .unwrap_or_default()
        .to_vec();
    let before = i32::try_from(whole.len()).unwrap_or_default();
    let skipped = i32::try_from(leading).unwrap_or_default();
    (digits, before - skipped + exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        append_double(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_read_as_javascript_writes_them() {
        let check = |value: f64, expected: &str| assert_eq!(double(value), expected, "{value:?}");
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-1.5, "-1.5");
        check(0.1, "0.1");
        check(0.000_001, "0.000001");
        check(0.000_001_5, "0.0000015");
        check(1e-7, "1e-7");
        check(-1.25e-9, "-1.25e-9");
        check(5e-324, "5e-324");
        check(123_456_789.0, "123456789");
        check(9_007_199_254_740_991.0, "9007199254740991");
        check(9_007_199_254_740_992.0, "9007199254740992");
        check(-9_223_372_036_854_775_808.0, "-9223372036854776000");
        check(1e20, "100000000000000000000");
        check(123_456_789_012_345_680_000.0, "123456789012345680000");
        check(1e21, "1e+21");
        check(1.5e300, "1.5e+300");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::MIN_POSITIVE, "2.2250738585072014e-308");
        check(1234.5678, "1234.5678");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "Infinity");
        check(f64::NEG_INFINITY, "-Infinity");
    }

    proptest::proptest! {
        #[test]
        fn doubles_read_back(bits in proptest::prelude::any::<u64>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                proptest::prop_assert_eq!(double(value).parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }

    #[test]
    fn integers_are_decimal() {
        for value in [0, -1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            append_int(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
