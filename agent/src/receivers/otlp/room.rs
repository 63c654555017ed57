//! A buffer that grows only as far as the intake admits and the limit allows.

use bytes::Bytes;

use super::problem::Problem;
use crate::component::Intake;
use crate::memory::Reservation;
use crate::net::Connection;
use crate::otlp::json::{NoRoom, Output};
use crate::waiting_room;

/// The first growth of a buffer whose final size is unknown.
const FIRST: usize = 16 * 1024;

/// Unused capacity that is kept rather than copied away: an eighth of the bytes.
const SLACK_SHIFT: u32 = 3;

/// Bytes being gathered. Memory is admitted before it is allocated, and never exceeds the limit by more than the one byte
/// that proves an excess.
pub(super) struct Room<'a> {
    intake: &'a dyn Intake,
    limit: usize,
    connection: Option<&'a Connection>,
    reserved: Option<Reservation>,
    pub(super) bytes: Vec<u8>,
}

impl<'a> Room<'a> {
    /// An empty buffer for at most `limit` bytes.
    pub(super) fn new(intake: &'a dyn Intake, limit: usize) -> Self {
        Self {
            intake,
            limit,
            connection: None,
            reserved: None,
            bytes: Vec::new(),
        }
    }

    /// The same for a request of `connection`, which takes turns with others before it enters.
    pub(super) fn of(self, connection: Option<&'a Connection>) -> Self {
        Self { connection, ..self }
    }

    /// The most bytes there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Makes the capacity at least `total` bytes before anything is in it; waits for admission for a while.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] when `total` is over the limit, or the intake's refusal.
    pub(super) async fn enter(&mut self, total: usize) -> Result<(), Problem> {
        if total > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        let held = self.reserved.as_ref().map_or(0, Reservation::bytes);
        if total > held || self.reserved.is_none() {
            let missing = total.saturating_sub(held);
            let reserved = waiting_room::admit(self.intake, missing, self.connection).await?;
            self.hold(reserved);
        }
        self.allocate(total)
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
    /// As [`Room::spare`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.spare(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes room for `additional` more bytes, at least doubling the capacity when it has to grow.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] when that were more bytes than the limit, or the intake's refusal.
    fn spare(&mut self, additional: usize) -> Result<(), Problem> {
        let total = self.bytes.len().saturating_add(additional);
        if total > self.limit {
            return Err(Problem::TooLarge(self.limit));
        }
        if total > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).max(FIRST);
            self.allocate(doubled.min(self.limit).max(total))?;
        }
        Ok(())
    }

    fn allocate(&mut self, capacity: usize) -> Result<(), Problem> {
        let held = self.reserved.as_ref().map_or(0, Reservation::bytes);
        if capacity > held || self.reserved.is_none() {
            let growth = self.intake.admit(capacity.saturating_sub(held))?;
            self.hold(growth);
        }
        let additional = capacity.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(additional);
        Ok(())
    }

    fn hold(&mut self, growth: Reservation) {
        match &mut self.reserved {
            Some(reserved) => reserved.absorb(growth),
            None => self.reserved = Some(growth),
        }
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

/// A room for what JSON decodes to. It remembers why the decoder had to stop.
pub(super) struct DecodeRoom<'a> {
    room: Room<'a>,
    /// For what the decoder keeps for itself.
    notes: Option<Reservation>,
    problem: Option<Problem>,
}

impl<'a> DecodeRoom<'a> {
    /// An empty room, for `expected` bytes to begin with if the limit allows that.
    ///
    /// # Errors
    /// The intake's refusal.
    pub(super) fn new(mut room: Room<'a>, expected: usize) -> Result<Self, Problem> {
        room.exactly(expected.min(room.limit))?;
        Ok(Self {
            room,
            notes: None,
            problem: None,
        })
    }

    /// Why the decoder had to stop, if that was it.
    pub(super) fn take_problem(&mut self) -> Option<Problem> {
        self.problem.take()
    }

    /// As [`Room::finish`].
    pub(super) fn finish(self) -> Result<(Bytes, Reservation), Problem> {
        self.room.finish()
    }

    fn remember<T>(&mut self, result: Result<T, Problem>) -> Result<T, NoRoom> {
        result.map_err(|problem| {
            self.problem = Some(problem);
            NoRoom
        })
    }
}

impl Output for DecodeRoom<'_> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.room.bytes
    }

    fn grow(&mut self, additional: usize) -> Result<(), NoRoom> {
        let result = self.room.spare(additional);
        self.remember(result)
    }

    fn grow_notes(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let held = self.notes.as_ref().map_or(0, Reservation::bytes);
        let growth = self.room.intake.admit(bytes.saturating_sub(held));
        let growth = self.remember(growth.map_err(Problem::from))?;
        match &mut self.notes {
            Some(notes) => notes.absorb(growth),
            None => self.notes = Some(growth),
        }
        Ok(())
    }
}
