//! The OTLP exporters: to the official Python packages, and from agent to agent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod interop;
