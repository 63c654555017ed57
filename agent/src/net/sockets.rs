//! The sockets that the process listens on: who needs one where somebody listens already gets that one.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::inherited::Inherited;
use super::listen::{Bound, Endpoint, Listener};

/// The sockets of a process, by where they listen. Cloning shares them; they close when nobody uses them any more, but for
/// those that were there before the process.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Opened by a service manager.
    inherited: Vec<Inherited>,
    listeners: BTreeMap<String, (Weak<Bound>, String)>,
    /// What serves there, for whoever knows its type.
    servers: BTreeMap<String, Box<dyn Any + Send>>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sockets")
    }
}

/// Where one of them listens: two that are the same are one socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// `owner` tells those apart that take any free port.
    pub(crate) fn new(endpoint: &Endpoint, owner: &str) -> Self {
        Self(match endpoint {
            Endpoint::Tcp { port: 0, .. } => format!("{owner} {endpoint:?}"),
            _ => format!("{endpoint:?}"),
        })
    }
}

impl Sockets {
    /// Those that a service manager has opened, under their names, and why some of them cannot be used.
    pub fn inherited(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> (Self, Vec<String>) {
        let (mut known, mut problems) = (Known::default(), Vec::new());
        for (name, socket) in sockets {
            match Inherited::adopt(name, socket) {
                Ok(socket) => known.inherited.push(socket),
                Err(problem) => problems.push(problem),
            }
        }
        (Self(Arc::new(Mutex::new(known))), problems)
    }

    /// Inherited sockets on which something is served, and those on which nothing is: their clients wait in vain.
    pub fn inherited_by_use(&self) -> (Vec<String>, Vec<String>) {
        let known = self.known();
        let (used, unused): (Vec<_>, Vec<_>) =
            known.inherited.iter().partition(|socket| socket.is_used());
        let describe =
            |sockets: Vec<&Inherited>| sockets.into_iter().map(Inherited::describe).collect();
        (describe(used), describe(unused))
    }

    /// Whether the socket at `endpoint` was opened by a service manager.
    pub(crate) fn is_inherited(&self, endpoint: &Endpoint) -> bool {
        self.known()
            .inherited
            .iter()
            .any(|socket| socket.is_at(endpoint))
    }

    /// The socket at `endpoint`: the one that is there, or a new one.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub(crate) fn listen(&self, endpoint: &Endpoint, key: &Key) -> io::Result<Listener> {
        let mut known = self.known();
        known
            .listeners
            .retain(|_, (bound, _)| bound.strong_count() > 0);
        if let Some((bound, address)) = known.listeners.get(&key.0)
            && let Some(bound) = bound.upgrade()
        {
            return Ok(Listener::shared(bound, address.clone()));
        }
        let inherited = known.inherited.iter().find(|socket| socket.is_at(endpoint));
        let listener = match inherited {
            Some(socket) => Listener::shared(Arc::clone(&socket.bound), socket.address()),
            None => known.bind(endpoint)?,
        };
        let entry = (listener.downgrade(), listener.address().to_owned());
        known.listeners.insert(key.0.clone(), entry);
        Ok(listener)
    }

    /// What serves there, if it is a `T`.
    pub(crate) fn server<T: Any + Send + Sync>(&self, key: &Key) -> Option<Arc<T>> {
        let known = self.known();
        let server = known.servers.get(&key.0)?.downcast_ref::<Weak<T>>();
        server?.upgrade()
    }

    /// Remembers what serves there from now on.
    pub(crate) fn serves<T: Any + Send + Sync>(&self, key: &Key, server: &Arc<T>) {
        let server: Weak<T> = Arc::downgrade(server);
        self.known().servers.insert(key.0.clone(), Box::new(server));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn bind(&self, endpoint: &Endpoint) -> io::Result<Listener> {
        let error = match endpoint.bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
            bound => return bound,
        };
        self.share(endpoint, error).map_err(|error| {
            let mut sockets = self.inherited.iter();
            match sockets.find(|socket| socket.is_in_the_way_of(endpoint)) {
                Some(socket) => io::Error::new(
                    error.kind(),
                    format!(
                        "{error}: the service manager listens on {}; make the socket unit and the configuration name the same address",
                        socket.describe()
                    ),
                ),
                None => error,
            }
        })
    }

    /// Binds `endpoint` beside sockets of our own that cover its address, such as every address of its port. They share
    /// the port for as long as it takes to bind: another process cannot have it.
    fn share(&self, endpoint: &Endpoint, error: io::Error) -> io::Result<Listener> {
        let port = endpoint.port();
        let ours: Vec<_> = self
            .listeners
            .values()
            .filter_map(|(bound, _)| bound.upgrade())
            .filter(|bound| port.is_some() && bound.port() == port)
            .collect();
        if ours.is_empty() {
            return Err(error);
        }
        for bound in &ours {
            bound.share_port(true)?;
        }
        let listener = endpoint.bind_shared();
        for bound in &ours {
            bound.share_port(false)?;
        }
        listener
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(sockets: &Sockets, text: &str) -> io::Result<Listener> {
        let endpoint = Endpoint::parse("tcp", text).unwrap();
        sockets.listen(&endpoint, &Key::new(&endpoint, "test"))
    }

    #[test]
    fn a_socket_is_found_again_while_somebody_has_it() {
        let sockets = Sockets::default();
        let first = listen(&sockets, "127.0.0.1:0").unwrap();
        let second = listen(&sockets, "127.0.0.1:0").unwrap();
        assert_eq!(first.address(), second.address());
        let address = first.address().to_owned();
        drop(first);
        assert!(std::net::TcpStream::connect(&address).is_ok());
        drop(second);
        assert!(std::net::TcpStream::connect(&address).is_err());
    }

    fn inherited(listener: std::net::TcpListener) -> Sockets {
        let (sockets, problems) = Sockets::inherited([("otlp".to_owned(), listener.into())]);
        assert!(problems.is_empty());
        sockets
    }

    #[test]
    fn an_inherited_socket_is_used_where_it_listens_and_stays_open() {
        let opened = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = opened.local_addr().unwrap();
        let sockets = inherited(opened);
        assert_eq!(sockets.inherited_by_use().1, [format!("{address} (otlp)")]);
        for text in [address.to_string(), format!("localhost:{}", address.port())] {
            let listener = listen(&sockets, &text).unwrap();
            assert_eq!(listener.address(), address.to_string());
            assert_eq!(sockets.inherited_by_use().0.len(), 1);
            drop(listener);
            assert_eq!(sockets.inherited_by_use().1.len(), 1);
            assert!(
                std::net::TcpStream::connect(address).is_ok(),
                "clients may wait"
            );
        }
    }

    #[test]
    fn an_inherited_socket_that_is_in_the_way_is_named() {
        let opened = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = opened.local_addr().unwrap().port();
        // It would share its port with what this process binds itself, but for the user that opened it.
        let sockets = Known {
            inherited: vec![Inherited::adopt("otlp".to_owned(), opened.into()).unwrap()],
            ..Known::default()
        };
        let endpoint = Endpoint::parse("tcp", &format!("127.0.0.1:{port}")).unwrap();
        let error = sockets.bind(&endpoint).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error
                .to_string()
                .contains(&format!("listens on 0.0.0.0:{port} (otlp)")),
            "{error}"
        );
    }

    #[test]
    fn every_address_can_be_taken_beside_one_of_ours_and_not_beside_another_process() {
        let sockets = Sockets::default();
        let first = listen(&sockets, "127.0.0.1:0").unwrap();
        let (_, port) = first.address().rsplit_once(':').unwrap();
        let every = listen(&sockets, &format!("0.0.0.0:{port}")).unwrap();
        let foreign = listen(&Sockets::default(), &format!("127.0.0.1:{port}"));
        assert_eq!(foreign.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let address = first.address().to_owned();
        drop(first);
        assert!(std::net::TcpStream::connect(&address).is_ok());
        drop(every);
        assert!(std::net::TcpStream::connect(&address).is_err());
    }
}
