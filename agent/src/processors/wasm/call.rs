//! One call of a guest: how long it may take, and that it holds nobody else up meanwhile.

use std::time::{Duration, Instant};

use wasmtime::{StoreContextMut, UpdateDeadline};

use super::host::State;
use crate::aside::step_aside;

/// Half a tick. A guest that takes longer steps aside: other tasks of the thread it runs on go on elsewhere.
const PROMPT: Duration = Duration::from_millis(5);

/// How long a thread without work of the runtime takes to wake up and take over, with a margin.
const HANDOVER: Duration = Duration::from_micros(500);

/// The call under way.
#[derive(Debug)]
pub(super) struct Call {
    began: Instant,
    allowed: Duration,
    ran_out: bool,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            allowed: Duration::ZERO,
            ran_out: false,
        }
    }
}

impl Call {
    pub(super) fn begin(&mut self, allowed: Duration) {
        *self = Self {
            began: Instant::now(),
            allowed,
            ran_out: false,
        };
    }

    /// Whether it was ended because its time was over, and how long that was.
    pub(super) fn ran_out(&self) -> Option<Duration> {
        self.ran_out.then_some(self.allowed)
    }
}

/// Called at every tick of the clock while a guest runs.
#[expect(clippy::unnecessary_wraps, reason = "what wasmtime wants to be called")]
pub(super) fn look(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let call = &mut store.data_mut().call;
    let spent = call.began.elapsed();
    if spent >= call.allowed {
        call.ran_out = true;
        return Ok(UpdateDeadline::Interrupt);
    }
    if spent >= PROMPT {
        // Once another thread has taken over what else this one was to do, it does not come back before the task gives way.
        step_aside(|| std::thread::sleep(HANDOVER));
    }
    Ok(UpdateDeadline::Continue(1))
}
