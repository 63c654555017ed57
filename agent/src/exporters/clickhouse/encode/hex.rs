//! Trace and span ids as lower-case hexadecimal strings.

use super::super::native::Stream;

/// Appends an id as a string; the empty string if it is absent or zero.
#[inline]
pub(super) fn push_id<const N: usize>(out: &mut Stream, id: &[u8]) {
    match <&[u8; N]>::try_from(id) {
        Ok(id) if *id != [0; N] => push(out, id),
        _ => out.u8(0),
    }
}

/// Appends an id as a string; as zeros if it is absent.
pub(super) fn push_id_or_zeros<const N: usize>(out: &mut Stream, id: &[u8]) {
    push(out, <&[u8; N]>::try_from(id).unwrap_or(&[0; N]));
}

/// Appends the Native string: its length, `2 * N`, and the digits, made where they stay.
#[inline]
fn push<const N: usize>(out: &mut Stream, id: &[u8; N]) {
    const {
        assert!(2 * N < 0x80, "the length takes one byte");
    }
    out.u8(const { (2 * N) as u8 });
    let buffer = out.buffer();
    let start = buffer.len();
    buffer.resize(start + 2 * N, 0);
    let place = buffer.get_mut(start..).unwrap_or_default();
    for (pair, byte) in place.chunks_exact_mut(2).zip(id) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

/// The two digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_and_zero_is_empty() {
        let check = |id: &[u8], expected: &[u8], or_zeros: &[u8]| {
            let (mut plain, mut zeros) = (Stream::default(), Stream::default());
            push_id::<8>(&mut plain, id);
            push_id_or_zeros::<8>(&mut zeros, id);
            assert_eq!(
                (plain.open(), zeros.open()),
                (expected, or_zeros),
                "{id:x?}"
            );
        };
        check(
            &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
            b"\x100123456789abcdef",
            b"\x100123456789abcdef",
        );
        check(&[0xff; 8], b"\x10ffffffffffffffff", b"\x10ffffffffffffffff");
        check(&[0; 8], b"\0", b"\x100000000000000000");
        check(&[], b"\0", b"\x100000000000000000");
    }
}
