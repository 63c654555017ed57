//! Figures as people read them: three digits and a unit.

/// A count or a rate: `0`, `7.5`, `980`, `12.3k`, `4.56M`.
pub(super) fn short(figure: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would be rounded to 1000 has the next unit.
    let found = UNITS.into_iter().find(|(size, _)| figure >= size * 0.9995);
    match found {
        Some((size, unit)) => digits(figure / size, unit),
        None if figure.fract() == 0.0 || figure >= 100.0 => format!("{figure:.0}"),
        None => format!("{figure:.1}"),
    }
}

/// The same where there may be none.
pub(super) fn rate(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), short)
}

/// Bytes: `512 B`, `31.2 MiB`.
pub(super) fn bytes(figure: f64) -> String {
    const UNITS: [(f64, &str); 4] = [
        ((1_u64 << 40) as f64, " TiB"),
        ((1_u64 << 30) as f64, " GiB"),
        ((1_u64 << 20) as f64, " MiB"),
        ((1_u64 << 10) as f64, " KiB"),
    ];
    let found = UNITS.into_iter().find(|(size, _)| figure >= size * 0.9995);
    match found {
        Some((size, unit)) => digits(figure / size, unit),
        None => format!("{figure:.0} B"),
    }
}

/// A time: `7s`, `3m12s`, `5h04m`, `2d03h`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

fn digits(figure: f64, unit: &str) -> String {
    match figure {
        99.95.. => format!("{figure:.0}{unit}"),
        9.995.. => format!("{figure:.1}{unit}"),
        _ => format!("{figure:.2}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let check = |figure, text: &str| assert_eq!(short(figure), text);
        check(0.0, "0");
        check(7.25, "7.2");
        check(980.0, "980");
        check(999.9, "1.00k");
        check(12_345.0, "12.3k");
        check(4_560_000.0, "4.56M");
        check(123_456_789.0, "123M");
        assert_eq!(rate(None), "-");
    }

    #[test]
    fn bytes_and_times_have_units() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(32_768_000.0), "31.2 MiB");
        let check = |seconds, text: &str| assert_eq!(duration(seconds), text);
        check(7.9, "7s");
        check(192.0, "3m12s");
        check(18_240.0, "5h04m");
        check(183_600.0, "2d03h");
    }
}
