//! Other processes, as `/proc` shows them.

mod sys;

pub(crate) use sys::*;
