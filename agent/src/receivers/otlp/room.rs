//! A buffer that grows only as far as the intake admits and the limit allows.

use bytes::Bytes;

use super::problem::Problem;
use crate::component::Intake;
use crate::memory::Reservation;

/// The first growth of a buffer whose final size is unknown.
const FIRST: usize = 16 * 1024;

/// Unused capacity that is kept rather than copied away: an eighth of the bytes.
const SLACK_SHIFT: u32 = 3;

/// Bytes being gathered. Memory is admitted before it is allocated, and never exceeds the limit by more than the one byte
/// that proves an excess.
pub(super) struct Room<'a> {
    intake: &'a dyn Intake,
    limit: usize,
    reserved: Option<Reservation>,
    pub(super) bytes: Vec<u8>,
}

impl<'a> Room<'a> {
    /// An empty buffer for at most `limit` bytes.
    pub(super) fn new(intake: &'a dyn Intake, limit: usize) -> Self {
        Self {
            intake,
            limit,
            reserved: None,
            bytes: Vec::new(),
        }
    }

    /// The most bytes there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Makes the capacity at least `total` bytes, exactly that when it has to grow.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] when `total` is over the limit, or the intake's refusal.
    pub(super) fn exactly(&mut self, total: usize) -> Result<(), Problem> {
        if total > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        self.allocate(total)
    }

    /// Makes room for at least one more byte; the size is unknown, so the capacity doubles.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] when there are more bytes than the limit, or the intake's refusal.
    pub(super) fn more(&mut self) -> Result<(), Problem> {
        if self.bytes.len() > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        let wanted = self.bytes.capacity().saturating_mul(2).max(FIRST);
        self.allocate(wanted.min(self.limit.saturating_add(1)))
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// As [`Room::more`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let total = self.bytes.len().saturating_add(bytes.len());
        if total > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        if total > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).max(FIRST);
            self.allocate(doubled.min(self.limit).max(total))?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn allocate(&mut self, capacity: usize) -> Result<(), Problem> {
        let held = self.reserved.as_ref().map_or(0, Reservation::bytes);
        if capacity > held || self.reserved.is_none() {
            let growth = self.intake.admit(capacity.saturating_sub(held))?;
            match &mut self.reserved {
                Some(reserved) => reserved.absorb(growth),
                None => self.reserved = Some(growth),
            }
        }
        let additional = capacity.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(additional);
        Ok(())
    }

    /// The bytes, and the reservation that covers them.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] when the byte that proves an excess is there, or the intake's refusal.
    pub(super) fn finish(mut self) -> Result<(Bytes, Reservation), Problem> {
        if self.bytes.len() > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        let slack = self.bytes.capacity() - self.bytes.len();
        if slack > self.bytes.len() >> SLACK_SHIFT {
            self.bytes.shrink_to_fit();
        }
        let capacity = self.bytes.capacity();
        let mut reserved = match self.reserved {
            Some(reserved) => reserved,
            None => self.intake.admit(0)?,
        };
        reserved.resize(capacity);
        Ok((self.bytes.into(), reserved))
    }
}
