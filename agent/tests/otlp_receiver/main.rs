//! The `otlp` receiver over real sockets: every status, encoding, limit and hint, with an intake that captures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod encodings;
mod grpc;
mod http;
mod lifecycle;
mod options;
mod partial;
mod support;
mod tls;
