//! Whole plans against stand-ins and servers.
