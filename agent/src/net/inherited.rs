//! Sockets that were opened before this process began, by a service manager: found by where they listen.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use super::listen::{Bound, Endpoint};

/// A socket that listens already. It is held for as long as the process runs: the configuration may want it again.
#[derive(Debug)]
pub(super) struct Inherited {
    name: String,
    place: Place,
    pub(super) bound: Arc<Bound>,
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// `also_v4`: an IPv6 socket for every address takes connections over IPv4, too.
    Tcp {
        address: SocketAddr,
        also_v4: bool,
    },
    Unix(PathBuf),
}

impl Inherited {
    /// Takes a socket that was opened under `name`.
    ///
    /// # Errors
    /// Why nothing can be served on it.
    pub(super) fn adopt(name: String, socket: OwnedFd) -> Result<Self, String> {
        let refuse =
            |why: String| format!("the socket {name} that was handed over is not used: {why}");
        let socket = Socket::from(socket);
        let place = examine(&socket)
            .map_err(|error| refuse(error.to_string()))?
            .map_err(|why| refuse(why.to_owned()))?;
        socket
            .set_nonblocking(true)
            .map_err(|error| refuse(error.to_string()))?;
        let bound = match &place {
            Place::Tcp { .. } => Bound::Tcp(socket.into()),
            Place::Unix(_) => Bound::Unix(socket.into(), None),
        };
        Ok(Self {
            name,
            place,
            bound: Arc::new(bound),
        })
    }

    /// The address as an operator writes it.
    pub(super) fn address(&self) -> String {
        match &self.place {
            Place::Tcp { address, .. } => address.to_string(),
            Place::Unix(path) => path.display().to_string(),
        }
    }

    /// The same with its name.
    pub(super) fn describe(&self) -> String {
        format!("{} ({})", self.address(), self.name)
    }

    /// Whether it listens just where `endpoint` says.
    pub(super) fn is_at(&self, endpoint: &Endpoint) -> bool {
        match (&self.place, endpoint) {
            (Place::Unix(place), Endpoint::Unix(path)) => place == path,
            (Place::Tcp { address, also_v4 }, Endpoint::Tcp { port, .. }) if *port != 0 => {
                let first = endpoint
                    .addresses()
                    .ok()
                    .and_then(|all| all.first().copied());
                first.is_some_and(|wanted| {
                    wanted == *address
                        || (*also_v4
                            && wanted.port() == address.port()
                            && wanted.ip() == IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
                })
            }
            _ => false,
        }
    }

    /// Whether it keeps `endpoint` from being bound although it is not at it.
    pub(super) fn is_in_the_way_of(&self, endpoint: &Endpoint) -> bool {
        match (&self.place, endpoint) {
            (Place::Tcp { address, .. }, Endpoint::Tcp { port, .. }) => address.port() == *port,
            _ => false,
        }
    }

    /// Whether anything is served on it, or was built to be.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.bound) > 1
    }
}

/// Where a socket listens, or why nothing can be served there.
fn examine(socket: &Socket) -> io::Result<Result<Place, &'static str>> {
    if socket.r#type()? != Type::STREAM {
        return Ok(Err("it is no stream socket"));
    }
    if !socket.is_listener()? {
        return Ok(Err("it does not listen (is `Accept=yes` set in its unit?)"));
    }
    let address = socket.local_addr()?;
    if let Some(path) = address.as_pathname() {
        return Ok(Ok(Place::Unix(path.to_owned())));
    }
    let Some(address) = address.as_socket() else {
        return Ok(Err("it is neither at a TCP address nor at a path"));
    };
    let every_v6 = socket.domain()? == Domain::IPV6 && address.ip().is_unspecified();
    Ok(Ok(Place::Tcp {
        address,
        also_v4: every_v6 && !socket.only_v6()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopt(socket: impl Into<OwnedFd>) -> Result<Inherited, String> {
        Inherited::adopt("test".to_owned(), socket.into())
    }

    fn is_at(socket: &Inherited, transport: &str, endpoint: &str) -> bool {
        socket.is_at(&Endpoint::parse(transport, endpoint).unwrap())
    }

    #[test]
    fn a_socket_is_found_by_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = adopt(listener).unwrap();
        assert_eq!(socket.describe(), format!("127.0.0.1:{port} (test)"));
        assert!(is_at(&socket, "tcp", &format!("127.0.0.1:{port}")));
        assert!(is_at(&socket, "tcp4", &format!("localhost:{port}")));
        for other in [
            format!("127.0.0.2:{port}"),
            format!("0.0.0.0:{port}"),
            format!("[::1]:{port}"),
            "127.0.0.1:0".to_owned(),
        ] {
            assert!(!is_at(&socket, "tcp", &other), "{other}");
        }
        assert!(!is_at(&socket, "unix", "/127.0.0.1"));
    }

    #[test]
    fn a_socket_for_every_address_of_both_families_is_one_for_each() {
        let Ok(listener) = std::net::TcpListener::bind("[::]:0") else {
            // This machine has no IPv6.
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let socket = adopt(listener).unwrap();
        for (transport, host) in [
            ("tcp", "0.0.0.0"),
            ("tcp", "[::]"),
            ("tcp", ""),
            ("tcp6", ""),
        ] {
            assert!(
                is_at(&socket, transport, &format!("{host}:{port}")),
                "{host}"
            );
        }
        let narrow = Endpoint::parse("tcp", &format!("127.0.0.1:{port}")).unwrap();
        assert!(!socket.is_at(&narrow) && socket.is_in_the_way_of(&narrow));
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otlp.sock");
        let socket = adopt(std::os::unix::net::UnixListener::bind(&path).unwrap()).unwrap();
        assert!(is_at(&socket, "unix", path.to_str().unwrap()));
        assert!(!is_at(&socket, "unix", "/elsewhere"));
        drop(socket);
        assert!(path.exists(), "it is the service manager's");
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let check = |socket: OwnedFd, expected: &str| {
            let problem = adopt(socket).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        };
        check(
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "no stream socket",
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        check(stream.into(), "does not listen");
        check(std::fs::File::open("/dev/null").unwrap().into(), "");
    }
}
