//! Ports for programs that are about to be started.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;
use rand::Rng as _;

/// Below the ports that outgoing connections get: until a program listens nobody else may take its port.
pub(crate) const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// As many TCP ports of the loopback address that nobody uses right now, all different.
///
/// # Errors
/// When there are too few.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut random = rand::rng();
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tries = (0..100).map(|_| (Ipv4Addr::LOCALHOST, random.random_range(PORTS)));
        let listener = tries.find_map(|address| TcpListener::bind(address).ok());
        taken.push(listener.context("no free port")?);
    }
    let ports = taken.iter().map(|it| Ok(it.local_addr()?.port()));
    ports.collect()
}

/// [`free_ports`], where their number is known.
///
/// # Errors
/// When there are too few.
pub(crate) fn free_port_array<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let ports = free_ports(COUNT)?;
    Ok(ports.try_into().expect("as many as were asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_all_different() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
