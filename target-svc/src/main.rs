//! target-svc
fn main() {}
