//! What the service does: adding vectors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two vectors to be added element by element.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addends {
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Sum {
    pub(crate) result: Vec<f64>,
}

/// Why two vectors have no sum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkError {
    LengthsDiffer {
        a: usize,
        b: usize,
    },
    /// The sum at `index` is beyond the largest 64-bit float.
    Overflow {
        index: usize,
    },
}

impl std::fmt::Display for WorkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LengthsDiffer { a, b } => {
                write!(
                    f,
                    "the vectors must have the same length, but `a` has {a} numbers and `b` has {b}"
                )
            }
            Self::Overflow { index } => {
                write!(
                    f,
                    "the sum of the numbers at index {index} is beyond the range of a 64-bit float"
                )
            }
        }
    }
}

/// Adds two vectors of the same length. A sum that is not finite is an error: JSON could not carry it.
#[tracing::instrument(name = "vector.add", skip_all, fields(vector.length = addends.a.len() as i64))]
pub(crate) fn add(addends: &Addends) -> Result<Sum, WorkError> {
    let (a, b) = (&addends.a, &addends.b);
    if a.len() != b.len() {
        return Err(WorkError::LengthsDiffer {
            a: a.len(),
            b: b.len(),
        });
    }
    let result: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
    if let Some(index) = result.iter().position(|sum| !sum.is_finite()) {
        return Err(WorkError::Overflow { index });
    }
    Ok(Sum { result })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &[f64], b: &[f64], expected: Result<&[f64], WorkError>) {
        let sum = add(&Addends {
            a: a.to_vec(),
            b: b.to_vec(),
        });
        assert_eq!(
            sum,
            expected.map(|it| Sum {
                result: it.to_vec()
            }),
            "{a:?} + {b:?}"
        );
    }

    #[test]
    fn vectors_are_added_element_by_element() {
        check(&[], &[], Ok(&[]));
        check(&[1.0, 2.0], &[3.0, 4.5], Ok(&[4.0, 6.5]));
        check(&[f64::MAX], &[-f64::MAX], Ok(&[0.0]));
    }

    #[test]
    fn lengths_must_match() {
        check(&[1.0], &[], Err(WorkError::LengthsDiffer { a: 1, b: 0 }));
        check(
            &[1.0],
            &[1.0, 2.0],
            Err(WorkError::LengthsDiffer { a: 1, b: 2 }),
        );
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        check(
            &[0.0, f64::MAX],
            &[0.0, f64::MAX],
            Err(WorkError::Overflow { index: 1 }),
        );
        check(&[-1e308], &[-1e308], Err(WorkError::Overflow { index: 0 }));
    }
}
