//! Checking users and passwords without letting anybody who guesses have the processor.
//!
//! A slow hash is checked once for each user and password: what was right is remembered, until the users change. Slow checks
//! are made one at a time and off the runtime; after a wrong password there is a rest as long as the check took, so that
//! guessing costs half of one core at most, however many guess.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Reason;
use super::htpasswd::{Hash, User, Users};
use super::key::Digest;

/// Requests that wait for a slow check: each is a connection with nothing read of its body. More are told to come again.
const WAITING_MAX: usize = 256;

/// How long they wait: shorter than the timeouts of most clients.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Longer credentials are nobody's; hashing them would be work.
const LENGTH_MAX: usize = 1024;

const SCHEME: &str = "Basic ";

/// The users of a server.
pub(crate) struct Passwords {
    users: Arc<Users>,
    /// Checked where there is no such user, so that the time of the answer does not tell.
    decoy: Option<Hash>,
    /// One slow check at a time.
    turn: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What `Authorization` says.
struct Credentials {
    name: String,
    password: String,
}

impl Passwords {
    pub(crate) fn new(users: Users) -> Self {
        let decoy = users.0.values().map(|user| &user.hash);
        let decoy = decoy
            .filter(|hash| hash.is_slow())
            .min_by_key(|hash| weight(hash));
        Self {
            decoy: decoy.cloned(),
            users: Arc::new(users),
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Reason> {
        let value = headers.get(header::AUTHORIZATION).ok_or(Reason::Missing)?;
        let Credentials { name, password } = Credentials::of(value).ok_or(Reason::Missing)?;
        let user = self.users.0.get(&name);
        let right = match user {
            Some(user) if user.is_verified(&password) => return Ok(()),
            Some(user) if !user.hash.is_slow() => user.hash.matches(&password),
            None if self.decoy.is_none() => false,
            _ => self.check_slowly(name, password).await?,
        };
        match right {
            true => Ok(()),
            false => Err(Reason::Wrong),
        }
    }

    async fn check_slowly(&self, name: String, password: String) -> Result<bool, Reason> {
        let _waits = self.waiting.try_acquire().map_err(|_| Reason::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = tokio::time::timeout(WAIT_MAX, turn).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Reason::Busy)?;
        let (sender, receiver) = oneshot::channel();
        let (users, decoy) = (Arc::clone(&self.users), self.decoy.clone());
        // It keeps its turn although the client may go away meanwhile.
        tokio::task::spawn_blocking(move || {
            take_turn(turn, sender, || {
                users.verify(&name, &password, decoy.as_ref())
            });
        });
        receiver.await.map_err(|_| Reason::Busy)
    }
}

fn take_turn(
    turn: OwnedSemaphorePermit,
    told: oneshot::Sender<bool>,
    check: impl FnOnce() -> bool,
) {
    let started = Instant::now();
    let right = check();
    // Whoever asked may be gone; then it is no use to them that it is right, and a rest does no harm.
    let heard = told.send(right).is_ok();
    if !right || !heard {
        std::thread::sleep(started.elapsed());
    }
    drop(turn);
}

/// The cheapest of the slow hashes comes first.
fn weight(hash: &Hash) -> String {
    match hash {
        Hash::Bcrypt(text) => text.chars().skip(4).take(2).collect(),
        _ => String::new(),
    }
}

impl Users {
    /// Checks a password, and remembers it if it is right.
    fn verify(&self, name: &str, password: &str, decoy: Option<&Hash>) -> bool {
        let Some(user) = self.0.get(name) else {
            if let Some(decoy) = decoy {
                // Nobody has it: only the time counts.
                std::hint::black_box(decoy.matches(password));
            }
            return false;
        };
        // Several with the same password may have waited.
        if user.is_verified(password) {
            return true;
        }
        let right = user.hash.matches(password);
        if right {
            let digest = Digest::of(password.as_bytes());
            user.verified.store(Some(Arc::new(digest)));
        }
        right
    }
}

impl User {
    fn is_verified(&self, password: &str) -> bool {
        let verified = self.verified.load();
        verified
            .as_ref()
            .is_some_and(|verified| **verified == Digest::of(password.as_bytes()))
    }
}

impl Credentials {
    fn of(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        if bytes.len() > LENGTH_MAX {
            return None;
        }
        let (scheme, encoded) = bytes.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        Some(Self {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    }
}
