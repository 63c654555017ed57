//! Helpers for the end-to-end tests: real binaries, fresh folders, ephemeral loopback ports.
pub mod http;
pub mod localdb;
