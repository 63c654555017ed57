//! ClickHouse column types, as far as one must know them to step over their values.

use thiserror::Error;

/// Types nest this deep at most; real ones three or four levels.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RowsError {
    #[error("the data ends in the middle of a value")]
    Truncated,
    #[error("cannot step over values of type `{0}`")]
    UnknownType(String),
    #[error("{0}")]
    Unsupported(String),
}

/// A type by the way its values are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Values of this many bytes.
    Fixed(usize),
    String,
    Array(Box<Self>),
    Nullable(Box<Self>),
    LowCardinality(Box<Self>),
    Tuple(Vec<Self>),
}

impl Type {
    pub(crate) fn parse(text: &str) -> Result<Self, RowsError> {
        Self::parse_at(text.trim(), 0)
    }

    fn parse_at(text: &str, depth: usize) -> Result<Self, RowsError> {
        let unknown = || RowsError::UnknownType(text.to_owned());
        if depth > DEPTH_MAX {
            return Err(unknown());
        }
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix(')').ok_or_else(unknown)?),
            None => (text, ""),
        };
        let inner = || Self::parse_at(arguments.trim(), depth + 1).map(Box::new);
        Ok(match name {
            "String" => Self::String,
            "Array" => Self::Array(inner()?),
            "Nullable" => Self::Nullable(inner()?),
            "LowCardinality" => Self::LowCardinality(inner()?),
            // Second argument: a type that is stored as it is.
            "SimpleAggregateFunction" => {
                let (_, of) = arguments.split_once(',').ok_or_else(unknown)?;
                Self::parse_at(of.trim(), depth + 1)?
            }
            "Map" => Self::Array(Box::new(Self::Tuple(elements(arguments, depth)?))),
            "Tuple" => Self::Tuple(elements(arguments, depth)?),
            "Nested" => Self::Array(Box::new(Self::Tuple(elements(arguments, depth)?))),
            "FixedString" => Self::Fixed(arguments.trim().parse().map_err(|_| unknown())?),
            "Decimal" => Self::Fixed(decimal_size(arguments).ok_or_else(unknown)?),
            _ => Self::Fixed(fixed_size(name).ok_or_else(unknown)?),
        })
    }
}

fn fixed_size(name: &str) -> Option<usize> {
    Some(match name {
        "UInt8" | "Int8" | "Bool" | "Boolean" | "Enum8" => 1,
        "UInt16" | "Int16" | "Date" | "Enum16" | "BFloat16" => 2,
        "UInt32" | "Int32" | "Float32" | "Date32" | "DateTime" | "IPv4" | "Decimal32" | "Time" => 4,
        "UInt64" | "Int64" | "Float64" | "DateTime64" | "Decimal64" | "Time64" => 8,
        "UInt128" | "Int128" | "UUID" | "IPv6" | "Decimal128" => 16,
        "UInt256" | "Int256" | "Decimal256" => 32,
        _ => return None,
    })
}

fn decimal_size(arguments: &str) -> Option<usize> {
    match arguments.split(',').next()?.trim().parse::<u32>().ok()? {
        1..=9 => Some(4),
        10..=18 => Some(8),
        19..=38 => Some(16),
        39..=76 => Some(32),
        _ => None,
    }
}

/// The types in `String, UInt8` or in `a String, b UInt8`.
fn elements(arguments: &str, depth: usize) -> Result<Vec<Type>, RowsError> {
    split_top_level(arguments)
        .map(|element| {
            Type::parse_at(element, depth + 1).or_else(|error| {
                let (_, after_name) = element.split_once(' ').ok_or(error)?;
                Type::parse_at(after_name.trim(), depth + 1)
            })
        })
        .collect()
}

/// Splits at commas outside of parentheses and quotes; parts are trimmed.
pub(crate) fn split_top_level(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut quoted = None;
    text.split(move |character| {
        match (quoted, character) {
            (Some(quote), _) if quote == character => quoted = None,
            (Some(_), _) => {}
            (None, '\'' | '`' | '"') => quoted = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') => return depth == 0,
            (None, _) => {}
        }
        false
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(of: Type) -> Type {
        Type::Array(Box::new(of))
    }

    #[test]
    fn types_are_read_with_their_layout() {
        let check =
            |text: &str, expected: Type| assert_eq!(Type::parse(text), Ok(expected), "{text}");
        let words = || Type::LowCardinality(Box::new(Type::String));
        check("UInt64", Type::Fixed(8));
        check("DateTime64(9)", Type::Fixed(8));
        check("DateTime64(9, 'UTC')", Type::Fixed(8));
        check("Enum8('a' = 1, 'b, c' = 2)", Type::Fixed(1));
        check("FixedString(16)", Type::Fixed(16));
        check("Decimal(18, 4)", Type::Fixed(8));
        check("LowCardinality(String)", words());
        check(
            "Array(Nullable(Float64))",
            array(Type::Nullable(Box::new(Type::Fixed(8)))),
        );
        check(
            "Map(LowCardinality(String), String)",
            array(Type::Tuple(vec![words(), Type::String])),
        );
        check(
            "Tuple(a String, UInt8)",
            Type::Tuple(vec![Type::String, Type::Fixed(1)]),
        );
        check("SimpleAggregateFunction(min, DateTime)", Type::Fixed(4));
    }

    #[test]
    fn types_nobody_can_step_over_are_errors() {
        for text in [
            "",
            "JSON",
            "Array",
            "Array(String",
            "Variant(String, UInt8)",
            &"Array(".repeat(99),
        ] {
            assert!(Type::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn splitting_respects_parentheses_and_quotes() {
        let parts: Vec<_> =
            split_top_level("a Map(String, String), `b,c` UInt8 , d DEFAULT 'x,y',").collect();
        assert_eq!(
            parts,
            ["a Map(String, String)", "`b,c` UInt8", "d DEFAULT 'x,y'"]
        );
    }
}
