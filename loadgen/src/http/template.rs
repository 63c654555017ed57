//! Texts with `${…}` in them: rows of data, what earlier answers gave, and values made up on the spot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Source),
}

/// What a place is filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A column of the row taken from a data source; the whole row without a column.
    Data(String, Option<String>),
    /// What a step before has extracted.
    Extracted(String),
    /// The number of the iteration, from 0, unlike in any other.
    Count,
    Uuid,
    /// A whole number from the first to the last.
    Random(i64, i64),
}

impl Template {
    /// Reads a text; `is_data` says which names are data sources, the others are extracted.
    ///
    /// # Errors
    /// A `${` without its end, or something within that is no name.
    pub(crate) fn parse(text: &str, is_data: impl Fn(&str) -> bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                parts.push(Part::Text(format!("{before}${{")));
                rest = after;
                continue;
            }
            parts.push(Part::Text(before.to_owned()));
            let (inside, tail) = after.split_once('}').ok_or_else(|| {
                "a `${` without its `}`; write `$${` for the characters".to_owned()
            })?;
            parts.push(Part::Value(Source::parse(inside.trim(), &is_data)?));
            rest = tail;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The text itself where nothing is to be filled in.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(source) => Some(source),
            Part::Text(_) => None,
        })
    }

    /// # Errors
    /// A value that there is not.
    pub(crate) fn render(&self, values: &mut Values<'_>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(source) => text.push_str(&values.value(source)?),
            }
        }
        Ok(text)
    }
}

impl Source {
    fn parse(text: &str, is_data: impl Fn(&str) -> bool) -> Result<Self, String> {
        let (name, column) = match text.split_once('.') {
            Some((name, column)) => (name, Some(column.to_owned())),
            None => (text, None),
        };
        if is_data(name) {
            return Ok(Self::Data(name.to_owned(), column));
        }
        let limits = text
            .strip_prefix("random(")
            .and_then(|it| it.strip_suffix(')'))
            .and_then(|it| it.split_once(','));
        if let Some((from, to)) = limits {
            return match (from.trim().parse(), to.trim().parse()) {
                (Ok(from), Ok(to)) if from <= to => Ok(Self::Random(from, to)),
                _ => Err(format!(
                    "`{text}`: write two whole numbers, the lower first"
                )),
            };
        }
        match text {
            "count" => Ok(Self::Count),
            "uuid" => Ok(Self::Uuid),
            name if is_name(name) => Ok(Self::Extracted(name.to_owned())),
            _ => Err(format!(
                "there is no `${{{text}}}`; there are ${{data.column}}, names of `extract`, ${{count}}, ${{uuid}} and ${{random(1,9)}}"
            )),
        }
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    !text.is_empty() && text.chars().all(plain)
}

/// Rows that requests take their values from.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) rows: Vec<Value>,
    pub(crate) order: Order,
    /// The next row, in sequence, of all workers together.
    next: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Sequential,
    Random,
}

impl Data {
    pub(crate) fn new(rows: Vec<Value>, order: Order) -> Self {
        Self {
            rows,
            order,
            next: AtomicUsize::new(0),
        }
    }

    fn take(&self, random: &mut StdRng) -> usize {
        let count = self.rows.len().max(1);
        match self.order {
            Order::Sequential => self.next.fetch_add(1, Ordering::Relaxed) % count,
            Order::Random => random.random_range(0..count),
        }
    }
}

/// Everything that all iterations of a run draw from.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) data: BTreeMap<String, Data>,
    count: AtomicU64,
}

impl Pool {
    pub(crate) fn new(data: BTreeMap<String, Data>) -> Self {
        Self {
            data,
            count: AtomicU64::new(0),
        }
    }
}

/// The values of one iteration: one row of each source, and what was extracted.
pub(crate) struct Values<'a> {
    pool: &'a Pool,
    random: &'a mut StdRng,
    number: Option<u64>,
    rows: BTreeMap<&'a str, usize>,
    extracted: BTreeMap<String, String>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(pool: &'a Pool, random: &'a mut StdRng) -> Self {
        Self {
            pool,
            random,
            number: None,
            rows: BTreeMap::new(),
            extracted: BTreeMap::new(),
        }
    }

    pub(crate) fn random(&mut self) -> &mut StdRng {
        self.random
    }

    pub(crate) fn keep(&mut self, name: &str, value: String) {
        self.extracted.insert(name.to_owned(), value);
    }

    fn value(&mut self, source: &Source) -> Result<String, String> {
        match source {
            Source::Data(name, column) => self.cell(name, column.as_deref()),
            Source::Extracted(name) => match self.extracted.get(name) {
                Some(value) => Ok(value.clone()),
                None => Err(format!("no answer has given `{name}`")),
            },
            Source::Count => {
                let pool = self.pool;
                let next = || pool.count.fetch_add(1, Ordering::Relaxed);
                Ok(self.number.get_or_insert_with(next).to_string())
            }
            Source::Uuid => Ok(uuid(self.random.random())),
            Source::Random(from, to) => Ok(self.random.random_range(*from..=*to).to_string()),
        }
    }

    fn cell(&mut self, name: &str, column: Option<&str>) -> Result<String, String> {
        let (name, data) = self
            .pool
            .data
            .get_key_value(name)
            .ok_or_else(|| format!("there is no data `{name}`"))?;
        let row = match self.rows.get(name.as_str()) {
            Some(row) => *row,
            None => {
                let row = data.take(self.random);
                self.rows.insert(name, row);
                row
            }
        };
        let row = data.rows.get(row).unwrap_or(&Value::Null);
        let cell = match column {
            Some(column) => row.get(column),
            None => Some(row),
        };
        match cell {
            Some(cell) => Ok(plain(cell)),
            None => Err(format!(
                "a row of `{name}` has no `{}`",
                column.unwrap_or("")
            )),
        }
    }
}

/// A text as it is, anything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A version 4 UUID of 128 random bits.
fn uuid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn pool(order: Order) -> Pool {
        let rows = (0..3).map(|id| serde_json::json!({ "id": id, "name": "n" }));
        let data = Data::new(rows.collect(), order);
        Pool::new(BTreeMap::from([("users".to_owned(), data)]))
    }

    fn rendered(text: &str, pool: &Pool, seed: u64) -> Result<String, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut values = Values::new(pool, &mut random);
        values.keep("order", "o1".to_owned());
        Template::parse(text, |name| name == "users")?.render(&mut values)
    }

    #[test]
    fn places_are_filled_and_a_row_stays_for_the_iteration() {
        let pool = pool(Order::Sequential);
        let check = |text: &str, expected: &str| {
            assert_eq!(rendered(text, &pool, 1).as_deref(), Ok(expected), "{text}");
        };
        check("/u/${users.id}/${ users.id }-${users.name}", "/u/0/0-n");
        check("/u/${users.id}", "/u/1");
        check("${order}", "o1");
        check("$${order} $ {", "${order} $ {");
        check("${random(7,7)}", "7");
        check("${count}${count}", "00");
        check("${count}", "1");
        check("", "");
        assert_eq!(rendered("${uuid}", &pool, 1).unwrap().len(), 36);
    }

    #[test]
    fn random_rows_are_the_same_for_the_same_seed() {
        let pool = pool(Order::Random);
        for seed in 0..20 {
            assert_eq!(
                rendered("${users.id}", &pool, seed),
                rendered("${users.id}", &pool, seed)
            );
        }
    }

    #[test]
    fn what_cannot_be_filled_is_told() {
        let pool = pool(Order::Sequential);
        for text in [
            "${",
            "${a b}",
            "${random(9,1)}",
            "${users.age}",
            "${nothing}",
        ] {
            assert!(rendered(text, &pool, 1).is_err(), "{text}");
        }
    }
}
