//! Sockets: binding, TLS both ways, and served connections whose time and number are bounded.

pub mod client_tls;
pub(crate) mod hosts;
pub mod listen;
pub mod serve;
pub mod server_tls;
pub mod sockets;
pub mod tls;

mod activity;
mod crowd;
mod inherited;
pub(crate) mod socket;
mod verifier;

pub use activity::Connection;
