//! The sockets that the process listens on: who needs one where somebody listens already gets that one.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::listen::{Bound, Endpoint, Listener};

/// The sockets of a process, by where they listen. Cloning shares them; they close when nobody uses them any more.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
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
        let listener = match endpoint.bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => known.share(endpoint, error),
            bound => bound,
        }?;
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
