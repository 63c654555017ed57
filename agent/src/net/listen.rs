//! Where a server listens: parsing endpoints, binding TCP and Unix sockets, accepting.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use socket2::{Domain, Protocol, Socket, Type};

use super::socket::Io;

/// Connections that the kernel completes and keeps for us until they are accepted: room for a fleet that
/// reconnects at once. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// The address families of a TCP endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 or IPv6, whichever the host name gives first; an absent host is every IPv4 address.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host and port.
    Tcp {
        /// A name, an address, or nothing for every address.
        host: String,
        /// 0 takes a free port.
        port: u16,
        /// What the host may resolve to.
        family: Family,
    },
    /// A path in the file system.
    Unix(PathBuf),
}

impl Endpoint {
    /// Parses `endpoint` for the Collector's `transport` names: `tcp`, `tcp4`, `tcp6`, `unix`.
    ///
    /// # Errors
    /// What is wrong, in words for the operator.
    pub fn parse(transport: &str, endpoint: &str) -> Result<Self, String> {
        let family = match transport {
            "tcp" => Family::Any,
            "tcp4" => Family::V4,
            "tcp6" => Family::V6,
            "unix" if endpoint.is_empty() => return Err("a unix socket needs a path".to_owned()),
            "unix" => return Ok(Self::Unix(PathBuf::from(endpoint))),
            other => {
                return Err(format!(
                    "unknown transport `{other}`: use `tcp`, `tcp4`, `tcp6` or `unix`"
                ));
            }
        };
        let problem = || {
            format!("`{endpoint}` is not an endpoint: write `host:port`, such as `127.0.0.1:4317`")
        };
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(problem)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(problem)?,
            None if host.contains(':') => {
                return Err(format!(
                    "`{endpoint}` is not an endpoint: put an IPv6 address in brackets, such as `[::1]:4317`"
                ));
            }
            None => host,
        };
        if host.contains('/') || host.contains(char::is_whitespace) {
            return Err(problem());
        }
        let port = port.parse().map_err(|_| problem())?;
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
            family,
        })
    }

    /// Parses `host:port` or `unix:/path`.
    ///
    /// # Errors
    /// What is wrong, in words for the operator.
    pub fn parse_any(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => Self::parse("unix", path),
            None => Self::parse("tcp", text),
        }
    }

    /// Whether only this host can reach it. Names of hosts are not looked up.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                let address = host.parse::<std::net::IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// Binds and listens. The socket is closed, and a Unix socket's path removed, when the listener is dropped.
    ///
    /// # Errors
    /// When the host does not resolve or no address can be bound.
    pub fn bind(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp { host, port, family } => bind_tcp(host, *port, *family, false),
            Self::Unix(path) => bind_unix(path),
        }
    }

    /// The same, beside sockets that share the port for now.
    pub(super) fn bind_shared(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp { host, port, family } => bind_tcp(host, *port, *family, true),
            Self::Unix(path) => bind_unix(path),
        }
    }

    /// The addresses that it may be bound to, the first one first; none for a path.
    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Tcp { host, port, family } => resolve(host, *port, *family),
            Self::Unix(_) => Ok(Vec::new()),
        }
    }

    /// The port, where it has one.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } => Some(*port),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
            family: Family::Any,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn bind_tcp(host: &str, port: u16, family: Family, shared: bool) -> io::Result<Listener> {
    let mut last = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the host has no address of the wanted family",
    );
    for address in resolve(host, port, family)? {
        match listen_at(address, shared) {
            Ok(listener) => {
                let address = listener.local_addr()?.to_string();
                return Ok(Listener::shared(Arc::new(Bound::Tcp(listener)), address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `localhost` is loopback without asking a resolver: a listener must not depend on `/etc/hosts`.
fn resolve(host: &str, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = match (host, family) {
        ("localhost", Family::V6) => vec![(Ipv6Addr::LOCALHOST, port).into()],
        ("localhost", _) => vec![(Ipv4Addr::LOCALHOST, port).into()],
        ("", Family::V6) => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
        ("", _) => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        _ => (host, port).to_socket_addrs()?.collect(),
    };
    Ok(found
        .into_iter()
        .filter(|address| match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        })
        .collect())
}

fn listen_at(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_abandoned(path)?;
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let bound = Bound::Unix(listener, Some(OwnedPath(path.to_owned())));
    let address = path.display().to_string();
    Ok(Listener::shared(Arc::new(bound), address))
}

/// Removes a socket that nobody serves any more, as after a crash. Anything else at that path is left alone.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = match path.symlink_metadata() {
        Ok(found) => found.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket",
        ));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on the path",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// A bound socket that listens; nothing is accepted yet.
#[derive(Debug)]
pub struct Listener {
    bound: Arc<Bound>,
    address: String,
}

/// A socket that listens, for as long as anybody has it.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(
        std::os::unix::net::UnixListener,
        /// `None` where the path belongs to whoever opened the socket.
        #[expect(dead_code, reason = "held for its drop")]
        Option<OwnedPath>,
    ),
}

impl Bound {
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => Some(listener.local_addr().ok()?.port()),
            Self::Unix(..) => None,
        }
    }

    /// Whether others of this user may bind the port, too.
    pub(super) fn share_port(&self, shared: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => socket2::SockRef::from(listener).set_reuse_port(shared),
            Self::Unix(..) => Ok(()),
        }
    }
}

/// The path of a Unix socket, removed with its listener.
#[derive(Debug)]
pub(super) struct OwnedPath(PathBuf);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "unix socket path not removed");
        }
    }
}

impl Listener {
    pub(super) fn shared(bound: Arc<Bound>, address: String) -> Self {
        Self { bound, address }
    }

    pub(super) fn downgrade(&self) -> Weak<Bound> {
        Arc::downgrade(&self.bound)
    }

    /// The actual address: with the port that was taken where 0 was asked for, or the path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Registers the socket with the runtime that calls this.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(crate) fn start(&self) -> io::Result<Acceptor> {
        let accepts = match &*self.bound {
            Bound::Tcp(listener) => {
                Accepts::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?)
            }
            Bound::Unix(listener, _) => {
                Accepts::Unix(tokio::net::UnixListener::from_std(listener.try_clone()?)?)
            }
        };
        Ok(Acceptor {
            accepts,
            bound: Arc::clone(&self.bound),
        })
    }
}

/// A listener that accepts.
#[derive(Debug)]
pub(crate) struct Acceptor {
    accepts: Accepts,
    /// The socket itself: a path lives as long as that.
    bound: Arc<Bound>,
}

#[derive(Debug)]
enum Accepts {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// The next connection of those that the kernel has completed already; `None` if there is none. The kernel is asked
    /// itself: the runtime may not have heard of them yet.
    pub(crate) fn accept_waiting(&self) -> Option<io::Result<Box<dyn Io>>> {
        let accepted = match &*self.bound {
            Bound::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Box::new(tokio::net::TcpStream::from_std(stream)?) as Box<dyn Io>)
            }),
            Bound::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(Box::new(tokio::net::UnixStream::from_std(stream)?) as Box<dyn Io>)
            }),
        };
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            accepted => Some(accepted),
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Box<dyn Io>> {
        match &self.accepts {
            Accepts::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small: waiting to fill a segment would only add latency.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Accepts::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_parse() {
        let check = |transport: &str, text: &str, expected: Option<&str>| {
            let found = Endpoint::parse(transport, text).map(|endpoint| endpoint.to_string());
            assert_eq!(found.ok().as_deref(), expected, "{transport} {text}");
        };
        check("tcp", "localhost:4317", Some("localhost:4317"));
        check("tcp", "0.0.0.0:0", Some("0.0.0.0:0"));
        check("tcp", "[::1]:4317", Some("[::1]:4317"));
        check("tcp", ":4317", Some(":4317"));
        check("tcp4", "127.0.0.1:1", Some("127.0.0.1:1"));
        check("unix", "/run/otlp.sock", Some("unix:/run/otlp.sock"));
        for wrong in [
            "",
            "localhost",
            "localhost:",
            "::1:4317",
            "h:70000",
            "[::1:1",
            "http://a:1",
        ] {
            check("tcp", wrong, None);
        }
        check("udp", "localhost:1", None);
        check("unix", "", None);
    }

    #[test]
    fn a_free_port_is_taken_and_told() {
        let endpoint = Endpoint::parse("tcp", "localhost:0").unwrap();
        let listener = endpoint.bind().unwrap();
        let address: SocketAddr = listener.address().parse().unwrap();
        assert!(address.ip().is_loopback());
        assert_ne!(address.port(), 0);
        let taken = Endpoint::parse("tcp", listener.address()).unwrap();
        assert_eq!(taken.bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_path_is_removed_taken_over_and_respected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otlp.sock");
        let endpoint = Endpoint::Unix(path.clone());
        let listener = endpoint.bind().unwrap();
        assert_eq!(
            endpoint.bind().unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(listener);
        assert!(!path.exists());
        // A crash leaves the path behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(endpoint.bind().unwrap());
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(
            endpoint.bind().unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
