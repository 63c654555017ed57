//! Packed numbers of data points, in either of the two forms that protobuf allows.

use super::super::super::native::{Array, Offsets, Stream, Visit};
use super::super::EncodeError;
use crate::otlp::{Fields, Value};

/// An array of eight-byte numbers for each row.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    offsets: Offsets,
    elements: Stream,
}

impl Numbers {
    pub(super) fn visit(
        &mut self,
        name: &'static str,
        kind: &'static str,
        visit: Visit<'_>,
    ) -> std::io::Result<()> {
        let (offsets, elements) = (&mut self.offsets, &mut self.elements);
        visit(name, kind, &mut Array { offsets, elements })
    }

    /// Adds what a repeated `fixed64` or `double` field holds.
    pub(super) fn add_fixed(&mut self, value: Value<'_>) -> Result<(), EncodeError> {
        match value {
            Value::Fixed64(bits) => self.push(bits),
            Value::Bytes(packed) => {
                let mut packed = Fields::new(packed);
                while !packed.rest().is_empty() {
                    let bits = packed.fixed64()?;
                    self.push(bits);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what a repeated `uint64` field holds.
    pub(super) fn add_varint(&mut self, value: Value<'_>) -> Result<(), EncodeError> {
        match value {
            Value::Varint(number) => self.push(number),
            Value::Bytes(packed) => {
                let mut packed = Fields::new(packed);
                while !packed.rest().is_empty() {
                    let number = packed.varint()?;
                    self.push(number);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, bits: u64) {
        self.elements.u64(bits);
        self.offsets.add();
    }

    pub(super) fn end_row(&mut self) {
        self.offsets.end_row();
    }
}
