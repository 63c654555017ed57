//! JSON scalars: text, numbers, hexadecimal and base64, appended to a buffer.

/// Appends `text` in quotes. Bytes that are not UTF-8 become U+FFFD, so that the output is JSON whatever comes in.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if simdutf8::basic::from_utf8(text).is_ok() {
        escaped(out, text);
    } else {
        repaired(out, text);
    }
    out.push(b'"');
}

#[cold]
fn repaired(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `text`, copying the runs between characters that need an escape.
fn escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = first_to_escape(text) {
        let (run, rest) = text.split_at(at);
        out.extend_from_slice(run);
        let Some((special, rest)) = rest.split_first() else {
            return;
        };
        escape(out, *special);
        text = rest;
    }
    out.extend_from_slice(text);
}

/// The position of the first byte that needs an escape. Eight bytes at a time: most text needs none.
fn first_to_escape(text: &[u8]) -> Option<usize> {
    let mut checked = 0;
    let (words, _) = text.as_chunks::<8>();
    for word in words {
        if holds_special(u64::from_le_bytes(*word)) {
            break;
        }
        checked += 8;
    }
    let rest = text.get(checked..).unwrap_or_default();
    let at = rest.iter().position(|byte| needs_escape(*byte))?;
    Some(checked + at)
}

/// Whether one of eight bytes is a control character, a quote or a backslash; may also be true when none is.
const fn holds_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let below_space = word.wrapping_sub(ONES * 0x20);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    (below_space & !word | is_quote | is_backslash) & HIGHS != 0
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            hex_digits(out, &[byte]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends `bytes` in lower-case hexadecimal, in quotes.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    hex_digits(out, bytes);
    out.push(b'"');
}

fn hex_digits(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS[usize::from(half & 15)];
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(*byte)]),
    );
}

/// Appends `bytes` in standard base64 with padding, in quotes.
pub(super) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (index, byte)| {
            bits | u32::from(*byte) << (16 - 8 * index)
        });
        for index in 0..4 {
            out.push(if index <= group.len() {
                ALPHABET[(bits >> (18 - 6 * index)) as usize & 63]
            } else {
                b'='
            });
        }
    }
    out.push(b'"');
}

/// Appends a decimal number.
pub(super) fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a decimal number with its sign.
pub(super) fn signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(out, number.unsigned_abs());
}

/// Appends the shortest number that reads back as `number`, or the word in quotes that stands for it.
pub(super) fn double(out: &mut Vec<u8>, number: f64) {
    let word: &[u8] = if number.is_finite() {
        serde_json::to_writer(out, &number).expect("writing to memory does not fail");
        return;
    } else if number.is_nan() {
        b"\"NaN\""
    } else if number > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_and_always_json() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(text(|out| string(out, bytes)), expected);
        };
        check(b"", r#""""#);
        check("grüße <&>".as_bytes(), "\"grüße <&>\"");
        check(
            b"a\"b\\c\n\r\t\x08\x0c\x00\x1f\x7f",
            "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0000\\u001f\x7f\"",
        );
        check(b"x\xffy\xe2\x82", "\"x\u{fffd}y\u{fffd}\"");
    }

    #[test]
    fn the_first_special_byte_is_found_anywhere() {
        for special in [0, 1, 0x1f, b'"', b'\\'] {
            for length in 1..20 {
                for at in 0..length {
                    for filler in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, 0xa2, 0xdc] {
                        let mut text = vec![filler; length];
                        assert_eq!(first_to_escape(&text), None, "{filler}");
                        text[at] = special;
                        assert_eq!(first_to_escape(&text), Some(at), "{special} {filler}");
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_are_hexadecimal_or_base64() {
        assert_eq!(text(|out| hex(out, &[0, 0x9a, 0xff])), r#""009aff""#);
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(text(|out| base64(out, bytes)), format!("\"{expected}\""));
        };
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xfb, 0xff, 0xfe], "+//+");
    }

    #[test]
    fn numbers_read_back() {
        let check = |number: i64, expected: &str| {
            assert_eq!(text(|out| signed(out, number)), expected);
        };
        check(0, "0");
        check(-1, "-1");
        check(i64::MAX, "9223372036854775807");
        check(i64::MIN, "-9223372036854775808");
        assert_eq!(text(|out| unsigned(out, u64::MAX)), "18446744073709551615");
        for number in [0.0, -0.0, 0.1, 1e21, 5e-324, f64::MAX, f64::MIN] {
            let written = text(|out| double(out, number));
            let read: f64 = written.parse().unwrap();
            assert_eq!(read.to_bits(), number.to_bits(), "{written}");
        }
        assert_eq!(text(|out| double(out, f64::NAN)), r#""NaN""#);
        assert_eq!(text(|out| double(out, f64::INFINITY)), r#""Infinity""#);
        assert_eq!(text(|out| double(out, f64::NEG_INFINITY)), r#""-Infinity""#);
    }
}
