//! Names of the events that a run has by itself: windows may be between them.

pub(crate) const START: &str = "start";
/// Of what was started, or is run by somebody else.
pub(crate) const READY: &str = "ready";
pub(crate) const STOP: &str = "stop";
pub(crate) const KILL: &str = "kill";
pub(crate) const FREEZE: &str = "freeze";
pub(crate) const THAW: &str = "thaw";
pub(crate) const FAULTS_BEGIN: &str = "faults begin";
pub(crate) const FAULTS_END: &str = "faults end";
pub(crate) const RECONFIGURE: &str = "reconfigure";
pub(crate) const LOAD_STARTED: &str = "load started";
pub(crate) const LOAD_ENDED: &str = "load ended";
/// It was still under way when everything was torn down.
pub(crate) const LOAD_STOPPED: &str = "load stopped";
pub(crate) const LIMIT_CROSSED: &str = "limit crossed";
pub(crate) const LIMIT_UNKNOWN: &str = "limit unknown";
pub(crate) const RETRY: &str = "retry";
pub(crate) const STEP_FAILED: &str = "step failed";

/// Those that come without a step that asks for them.
pub(crate) const UNASKED: [&str; 5] = [
    LIMIT_CROSSED,
    LIMIT_UNKNOWN,
    LOAD_STOPPED,
    RETRY,
    STEP_FAILED,
];
