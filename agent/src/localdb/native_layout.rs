//! How a ClickHouse type lies in a Native block, read from the type's name.

/// The layout of a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// That many bytes a value.
    Fixed(u64),
    /// A length and bytes.
    Text,
    /// A JSON column written as text: a version, then texts.
    JsonText,
    /// A map of nulls, then the values.
    Nullable(Box<Layout>),
    /// Ends of the arrays, then the elements.
    Array(Box<Layout>),
    /// One column after the other.
    Tuple(Vec<Layout>),
    /// Distinct values, then indices.
    LowCardinality(Box<Layout>),
    /// Which alternative, then a column for each.
    Variant(Vec<Layout>),
}

impl Layout {
    /// The layout of a type; `None` where values cannot be told apart without the engine (aggregate states)
    /// or the layout varies (`Dynamic`).
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.trim();
        let (base, arguments) = match name.split_once('(') {
            Some((base, rest)) => (base, split_arguments(rest.strip_suffix(')')?)),
            None => (name, Vec::new()),
        };
        let boxed = |index: usize| {
            arguments
                .get(index)
                .and_then(|name| Self::of(name))
                .map(Box::new)
        };
        match base {
            "Nullable" => boxed(0).map(Self::Nullable),
            "Array" => boxed(0).map(Self::Array),
            "LowCardinality" => {
                let inner = arguments.first()?;
                let keys = inner
                    .strip_prefix("Nullable(")
                    .and_then(|rest| rest.strip_suffix(')'));
                Self::of(keys.unwrap_or(inner)).map(|layout| Self::LowCardinality(Box::new(layout)))
            }
            "Map" => Some(Self::Array(Box::new(Self::Tuple(vec![
                *boxed(0)?,
                *boxed(1)?,
            ])))),
            "Tuple" if arguments.is_empty() => Some(Self::Fixed(1)),
            "Tuple" => elements(&arguments).map(Self::Tuple),
            "Nested" => {
                elements(&arguments).map(|fields| Self::Array(Box::new(Self::Tuple(fields))))
            }
            "Variant" => arguments
                .iter()
                .map(|name| Self::of(name))
                .collect::<Option<_>>()
                .map(Self::Variant),
            "SimpleAggregateFunction" => Self::of(arguments.get(1)?),
            "String" => Some(Self::Text),
            "JSON" => Some(Self::JsonText),
            "FixedString" => arguments.first()?.parse().ok().map(Self::Fixed),
            "Decimal" => decimal_bytes(arguments.first()?).map(Self::Fixed),
            "Point" => Some(point()),
            "Ring" | "LineString" => Some(nested_points(1)),
            "Polygon" | "MultiLineString" => Some(nested_points(2)),
            "MultiPolygon" => Some(nested_points(3)),
            _ => fixed_bytes(base).map(Self::Fixed),
        }
    }
}

fn fixed_bytes(base: &str) -> Option<u64> {
    Some(match base {
        "UInt8" | "Int8" | "Bool" | "Enum8" | "Nothing" => 1,
        "UInt16" | "Int16" | "Enum16" | "Date" | "BFloat16" => 2,
        "UInt32" | "Int32" | "Float32" | "Date32" | "DateTime" | "Time" | "IPv4" | "Decimal32" => 4,
        "UInt64" | "Int64" | "Float64" | "DateTime64" | "Time64" | "Decimal64" => 8,
        "UInt128" | "Int128" | "UUID" | "IPv6" | "Decimal128" => 16,
        "UInt256" | "Int256" | "Decimal256" => 32,
        interval if interval.starts_with("Interval") => 8,
        _ => return None,
    })
}

fn decimal_bytes(precision: &str) -> Option<u64> {
    Some(match precision.trim().parse::<u8>().ok()? {
        1..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        39..=76 => 32,
        _ => return None,
    })
}

fn point() -> Layout {
    Layout::Tuple(vec![Layout::Fixed(8), Layout::Fixed(8)])
}

fn nested_points(depth: usize) -> Layout {
    (0..depth).fold(point(), |layout, _| Layout::Array(Box::new(layout)))
}

/// The layouts of a tuple's elements, which may be named: `a UInt8, `b c` String`.
fn elements(arguments: &[&str]) -> Option<Vec<Layout>> {
    arguments
        .iter()
        .map(|argument| Layout::of(without_name(argument)))
        .collect()
}

fn without_name(argument: &str) -> &str {
    if let Some(rest) = argument.strip_prefix('`') {
        return rest.rsplit_once("` ").map_or(argument, |(_, name)| name);
    }
    match argument.split_once(' ') {
        Some((name, rest)) if !name.contains('(') => rest,
        _ => argument,
    }
}

/// Splits at commas outside brackets and quotes.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut arguments = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let mut quote = None;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'`') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            (None, b',') if depth == 0 => {
                arguments.extend(text.get(start..index).map(str::trim));
                start = index + 1;
            }
            (None, _) => {}
        }
    }
    arguments.extend(
        text.get(start..)
            .map(str::trim)
            .filter(|last| !last.is_empty()),
    );
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_follow_the_type_s_name() {
        let fixed = Layout::Fixed;
        let array = |inner| Layout::Array(Box::new(inner));
        for (name, expected) in [
            ("UInt8", fixed(1)),
            ("DateTime64(9, 'Europe/Berlin')", fixed(8)),
            ("DateTime", fixed(4)),
            ("Enum8('a, (' = 1, 'b\\'' = 2)", fixed(1)),
            ("Decimal(38, 5)", fixed(16)),
            ("FixedString(7)", fixed(7)),
            ("IntervalSecond", fixed(8)),
            ("String", Layout::Text),
            ("Nullable(String)", Layout::Nullable(Box::new(Layout::Text))),
            ("Array(Array(Int32))", array(array(fixed(4)))),
            (
                "LowCardinality(Nullable(String))",
                Layout::LowCardinality(Box::new(Layout::Text)),
            ),
            (
                "Map(LowCardinality(String), String)",
                array(Layout::Tuple(vec![
                    Layout::LowCardinality(Box::new(Layout::Text)),
                    Layout::Text,
                ])),
            ),
            (
                "Tuple(a UInt8, `b, c` Array(String))",
                Layout::Tuple(vec![fixed(1), array(Layout::Text)]),
            ),
            (
                "Tuple(UInt8, Decimal(9, 2))",
                Layout::Tuple(vec![fixed(1), fixed(4)]),
            ),
            (
                "Nested(x UInt8, y String)",
                array(Layout::Tuple(vec![fixed(1), Layout::Text])),
            ),
            ("SimpleAggregateFunction(sum, UInt64)", fixed(8)),
            (
                "Variant(String, UInt64)",
                Layout::Variant(vec![Layout::Text, fixed(8)]),
            ),
            ("Ring", array(Layout::Tuple(vec![fixed(8), fixed(8)]))),
        ] {
            assert_eq!(Layout::of(name), Some(expected), "{name}");
        }
        for name in [
            "AggregateFunction(sum, UInt64)",
            "Dynamic",
            "Array(Dynamic)",
            "Tuple(a Unknown)",
            "",
        ] {
            assert_eq!(Layout::of(name), None, "{name}");
        }
    }
}
