//! What only one component of a configuration can have: an address to listen on, a file to write to.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::net::listen::Endpoint;

/// Something that is taken once it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The option that it stands in, as a dotted path below the component's table.
    pub key: &'static str,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A port other than 0 on an address, or on a name for one.
    Port { host: String, port: u16 },
    /// A file or a socket: an absolute path.
    Path(PathBuf),
}

impl Claim {
    /// A place to listen on; `None` where any free port will do.
    pub fn endpoint(key: &'static str, endpoint: &Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::Tcp { port: 0, .. } => None,
            Endpoint::Tcp { host, port, .. } => Some(Self::port(key, host, *port)),
            Endpoint::Unix(path) => Some(Self::file(key, path)),
        }
    }

    /// A port to listen on.
    pub fn port(key: &'static str, host: &str, port: u16) -> Self {
        let host = match host {
            "" => "0.0.0.0",
            "localhost" => "127.0.0.1",
            host => host,
        };
        let what = What::Port {
            host: host.to_owned(),
            port,
        };
        Self { key, what }
    }

    /// A file to write to.
    pub fn file(key: &'static str, path: &Path) -> Self {
        // It fails where there is no current folder, and then every relative path is as good as it is.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let what = What::Path(path);
        Self { key, what }
    }

    /// Whether the two cannot both be had. Links and names of hosts are not looked up.
    pub fn collides(&self, other: &Self) -> bool {
        match (&self.what, &other.what) {
            (What::Path(one), What::Path(two)) => one == two,
            (
                What::Port { host, port },
                What::Port {
                    host: other_host,
                    port: other_port,
                },
            ) => {
                port == other_port
                    && (host == other_host || covers(host, other_host) || covers(other_host, host))
            }
            _ => false,
        }
    }
}

/// Whether `every` stands for all addresses of the family that `host` is of.
fn covers(every: &str, host: &str) -> bool {
    match (every.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        (Ok(every), Ok(host)) => every.is_unspecified() && every.is_ipv4() == host.is_ipv4(),
        (Ok(every), Err(_)) => every.is_unspecified(),
        (Err(_), _) => false,
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Port { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            What::Port { host, port } => write!(f, "{host}:{port}"),
            What::Path(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_where_one_covers_the_other() {
        let check = |one: &str, other: &str, expected: bool| {
            let claim = |text: &str| {
                let endpoint = Endpoint::parse("tcp", text).unwrap();
                Claim::endpoint("endpoint", &endpoint)
            };
            let collide = claim(one)
                .zip(claim(other))
                .is_some_and(|(one, other)| one.collides(&other) && other.collides(&one));
            assert_eq!(collide, expected, "{one} {other}");
        };
        check("127.0.0.1:1", "127.0.0.1:1", true);
        check("127.0.0.1:1", "localhost:1", true);
        check("127.0.0.1:1", "0.0.0.0:1", true);
        check(":1", "127.0.0.1:1", true);
        check("[::]:1", "[::1]:1", true);
        check("db.example:1", "0.0.0.0:1", true);
        check("127.0.0.1:1", "127.0.0.1:2", false);
        check("127.0.0.1:0", "127.0.0.1:0", false);
        check("127.0.0.1:1", "127.0.0.2:1", false);
        check("[::1]:1", "127.0.0.1:1", false);
        check("[::1]:1", "0.0.0.0:1", false);
    }

    #[test]
    fn paths_collide_where_they_are_the_same_file() {
        let check = |one: &str, other: &str, expected: bool| {
            let claim = |path: &str| Claim::file("path", Path::new(path));
            assert_eq!(
                claim(one).collides(&claim(other)),
                expected,
                "{one} {other}"
            );
        };
        check("/a/b", "/a/b", true);
        check("/a//b", "/a/./b", true);
        check("b", "./b", true);
        check("/a/b", "/a/c", false);
        assert!(!Claim::file("path", Path::new("/a")).collides(&Claim::port("endpoint", "/a", 1)));
    }
}
