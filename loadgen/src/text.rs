//! Text for people: aligned tables, grouped numbers, times of day.

/// Rows of cells, rendered with aligned columns; numbers to the right, text to the left.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// Space between two columns.
const GAP: &str = "  ";

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(
            row.len(),
            self.rows[0].len(),
            "a row has a cell for each column"
        );
        self.rows.push(row);
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|it| it.chars().count())
                .max()
        };
        let layout: Vec<_> = (0..columns)
            .map(|it| (width(it).unwrap_or_default(), self.is_numeric(it)))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&layout).map(|(cell, &(width, numeric))| {
                if numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }

    /// A column is numeric if every cell below the head starts and ends with a digit and has no space.
    fn is_numeric(&self, column: usize) -> bool {
        let digit = |it: Option<char>| it.is_some_and(|it| it.is_ascii_digit());
        let numeric = |cell: &String| {
            digit(cell.chars().next())
                && digit(cell.chars().next_back())
                && !cell.contains([' ', ':'])
        };
        self.rows
            .iter()
            .skip(1)
            .filter_map(|row| row.get(column))
            .all(numeric)
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
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

/// A number of bytes in the unit that suits it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Unix milliseconds as `2026-01-31 12:00:00` in UTC.
pub(crate) fn utc_time(unix_millis: i64) -> String {
    let seconds = unix_millis.div_euclid(1000);
    let (year, month, day) = civil_date(seconds.div_euclid(86_400));
    let second_of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The Gregorian date of a day counted from 1970-01-01.
///
/// Years start in March here, so that the leap day is a year's last; eras are 400 years.
fn civil_date(days: i64) -> (i64, i64, i64) {
    const DAYS_TO_ERA: i64 = 719_468; // from 0000-03-01 to 1970-01-01
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days + DAYS_TO_ERA;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_kind() {
        let mut table = Table::new(&["name", "count"]);
        table.push(vec!["a".to_owned(), "7".to_owned()]);
        table.push(vec!["longer".to_owned(), "12345".to_owned()]);
        assert_eq!(
            table.render(),
            "name    count\na           7\nlonger  12345\n"
        );
    }

    #[test]
    fn times_are_left_aligned_text() {
        let mut table = Table::new(&["time of the run", "n"]);
        table.push(vec!["2026-01-01 00:00:00".to_owned(), "1".to_owned()]);
        assert!(table.render().starts_with("time of the run      n\n"));
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn bytes_take_a_fitting_unit() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 50, "3072.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn unix_times_become_dates() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_709_251_199_999, "2024-02-29 23:59:59"),
            (1_767_225_600_000, "2026-01-01 00:00:00"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc_time(millis), text);
        }
    }
}
