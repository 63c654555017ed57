//! Serving over sockets: binding, TLS, and connections whose time and number are bounded.

pub mod listen;
pub mod serve;
pub mod tls;

mod activity;
mod socket;

pub use activity::Connection;
