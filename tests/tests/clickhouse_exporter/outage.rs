//! outage.
