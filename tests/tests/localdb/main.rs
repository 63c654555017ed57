//! `tidegate localdb` from outside: the real binary, the real engine, real clients.

mod clients;
mod inserts;
mod interface;
mod process;
mod sessions;
mod streams;
