//! `tidegate`: the agent daemon.
fn main() {}
