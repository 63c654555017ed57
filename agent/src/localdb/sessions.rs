//! Sessions that outlive a request (`session_id`): temporary tables and `SET` go on, one request at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::exception::{
    Exception, SESSION_IS_LOCKED, SESSION_NOT_FOUND, TOO_MANY_SIMULTANEOUS_QUERIES,
};
use super::ffi::Connection;
use super::parameters::SessionParameters;

/// How many sessions may be open: each holds a connection.
const SESSIONS_MAX: usize = 1000;

enum State {
    Busy,
    Idle {
        connection: Connection,
        until: Instant,
    },
}

/// The open sessions by name.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<String, State>>,
}

impl Sessions {
    /// Takes the session for a request, or begins it.
    ///
    /// # Errors
    /// ClickHouse's: another request has it, it does not exist though it must, or there are too many.
    pub(super) fn take(
        &self,
        engine: &Engine,
        session: &SessionParameters,
    ) -> Result<Connection, Exception> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut open, Instant::now());
        let full = open.len() >= SESSIONS_MAX;
        match open.get_mut(&session.id) {
            Some(state) => match std::mem::replace(state, State::Busy) {
                State::Idle { connection, .. } => Ok(connection),
                State::Busy => {
                    let message =
                        format!("Session {} is locked by a concurrent client.", session.id);
                    Err(Exception::new(SESSION_IS_LOCKED, message))
                }
            },
            None if session.must_exist => Err(Exception::new(
                SESSION_NOT_FOUND,
                format!("Session {} not found.", session.id),
            )),
            None if full => {
                let message = format!("Too many sessions: {SESSIONS_MAX} are open.");
                Err(Exception::new(TOO_MANY_SIMULTANEOUS_QUERIES, message))
            }
            None => {
                let connection = engine.connect()?;
                open.insert(session.id.clone(), State::Busy);
                Ok(connection)
            }
        }
    }

    /// Gives the session back after a request; `None` ends it.
    pub(super) fn give_back(&self, session: &SessionParameters, connection: Option<Connection>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Some(connection) => {
                let until = Instant::now() + Duration::from_secs(session.timeout_seconds);
                open.insert(session.id.clone(), State::Idle { connection, until });
            }
            None => drop(open.remove(&session.id)),
        }
    }

    /// Ends the sessions whose time is over.
    pub(super) fn expire(&self) {
        expire(
            &mut self.open.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        );
    }

    /// Ends every session that no request has.
    pub(super) fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, state| matches!(state, State::Busy));
    }
}

fn expire(open: &mut HashMap<String, State>, now: Instant) {
    open.retain(|_, state| match state {
        State::Busy => true,
        State::Idle { until, .. } => *until > now,
    });
}
