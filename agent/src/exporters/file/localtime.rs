//! The offset of local time from UTC, from the C library, which alone knows the time zone.
#![allow(
    unsafe_code,
    reason = "the standard library does not know the time zone"
)]

/// Seconds by which local time is ahead of UTC at `unix_seconds`; 0 when the C library cannot tell.
pub(super) fn offset_seconds(unix_seconds: i64) -> i64 {
    let time: libc::time_t = unix_seconds;
    let mut broken_down = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, and localtime_r keeps neither.
    let found = unsafe { libc::localtime_r(&raw const time, broken_down.as_mut_ptr()) };
    if found.is_null() {
        return 0;
    }
    // SAFETY: every field of `tm` is valid when zeroed, and localtime_r has filled it in.
    unsafe { broken_down.assume_init() }.tm_gmtoff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_within_a_day() {
        for seconds in [0, 1_700_000_000, i64::MAX] {
            assert!(offset_seconds(seconds).abs() <= 15 * 3600, "{seconds}");
        }
    }
}
