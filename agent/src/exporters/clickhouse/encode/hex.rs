//! Trace and span ids as lower-case hexadecimal strings.

use super::super::native::Stream;

/// Appends an id as a string; the empty string if it is absent or zero.
#[inline]
pub(super) fn push_id<const N: usize, const HEX: usize>(out: &mut Stream, id: &[u8]) {
    match <&[u8; N]>::try_from(id) {
        Ok(id) if *id != [0; N] => out.raw(&encode::<N, HEX>(id)),
        _ => out.u8(0),
    }
}

/// Appends an id as a string; as zeros if it is absent.
pub(super) fn push_id_or_zeros<const N: usize, const HEX: usize>(out: &mut Stream, id: &[u8]) {
    let id = <&[u8; N]>::try_from(id).unwrap_or(&[0; N]);
    out.raw(&encode::<N, HEX>(id));
}

/// The Native string: its length, `2 * N`, and the digits. `HEX` is `2 * N + 1`.
#[inline]
fn encode<const N: usize, const HEX: usize>(id: &[u8; N]) -> [u8; HEX] {
    const {
        assert!(HEX == 2 * N + 1 && HEX < 0x80);
    }
    let mut text = [0; HEX];
    if let Some((length, digits)) = text.split_first_mut() {
        *length = const { (2 * N) as u8 };
        for (pair, byte) in digits.chunks_exact_mut(2).zip(id) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

#[inline]
const fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_and_zero_is_empty() {
        let check = |id: &[u8], expected: &[u8], or_zeros: &[u8]| {
            let (mut plain, mut zeros) = (Stream::default(), Stream::default());
            push_id::<8, 17>(&mut plain, id);
            push_id_or_zeros::<8, 17>(&mut zeros, id);
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
