//! Who may come in, and what to show where others ask: authenticators by name, as the Collector's `auth` names them.
//!
//! An authenticator belongs to an extension. Servers and clients hold a `Slot`, so that a changed secret takes effect with
//! the next request, on connections that are open, too.

mod htpasswd;
mod key;
mod passwords;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Section, Unsupported};
use crate::telemetry::{Counter, Telemetry, names};

pub(crate) use htpasswd::Users;
pub(crate) use passwords::Passwords;
pub(crate) use tokens::Tokens;

/// What a user writes under `auth`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthOptions {
    /// The extension that answers for it, such as `bearertokenauth` or `basicauth/name`; it has to be listed in
    /// `service.extensions`.
    #[schemars(extend("x-required" = true))]
    pub authenticator: String,
    /// Not supported.
    pub request_params: Unsupported,
}

/// Which authenticator is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// The extension's id. Whoever loads a configuration checks that it is there.
    pub authenticator: String,
}

impl AuthSettings {
    /// Validates options; problems are reported below `key`, which is where `auth` stands.
    pub fn resolve(options: AuthOptions, key: &str, section: &mut Section<'_>) -> Option<Self> {
        section.refuse(
            &format!("{key}.request_params"),
            &options.request_params,
            "credentials in a query end up in logs; have the client send them in a header",
        );
        if options.authenticator.is_empty() {
            section.error(
                &format!("{key}.authenticator"),
                "is required: the id of an extension, such as `bearertokenauth`",
            );
            return None;
        }
        Some(Self {
            authenticator: options.authenticator,
        })
    }
}

/// On which side of a request an authenticator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It looks at what clients show.
    Server,
    /// It shows something to servers.
    Client,
}

/// A component's wish for an authenticator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The option it stands in, as a dotted path below the component's table.
    pub key: String,
    /// The extension's id.
    pub authenticator: String,
    /// What for.
    pub side: Side,
}

impl Reference {
    /// The wish of the component's `auth` at `key`.
    pub fn new(key: &str, settings: &AuthSettings, side: Side) -> Self {
        Self {
            key: format!("{key}.authenticator"),
            authenticator: settings.authenticator.clone(),
            side,
        }
    }
}

/// What an extension answers for.
pub(crate) enum Way {
    /// Tokens, for both sides.
    Tokens(Tokens),
    /// Users and their passwords, for servers.
    Passwords(Passwords),
    /// A user and a password, for clients.
    User(HeaderValue),
}

/// What an extension answers for, and how often it had to say no.
pub(crate) struct Authenticator {
    way: Way,
    denied: [Counter; Reason::ALL.len()],
}

impl Authenticator {
    pub(crate) fn new(id: &str, way: Way, telemetry: &Telemetry) -> Self {
        let counter = |reason: Reason| telemetry.counter(&names::AUTH_DENIED, &[id, reason.name()]);
        Self {
            way,
            denied: Reason::ALL.map(counter),
        }
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let checked = match &self.way {
            Way::Tokens(tokens) => tokens.check(headers),
            Way::Passwords(passwords) => passwords.check(headers).await,
            Way::User(_) => Err(Reason::Wrong),
        };
        checked.map_err(|reason| {
            self.denied[reason as usize].inc();
            let challenge = match &self.way {
                Way::Tokens(tokens) => tokens.challenge(),
                Way::Passwords(_) | Way::User(_) => BASIC_CHALLENGE,
            };
            Denied { reason, challenge }
        })
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match &self.way {
            Way::Tokens(tokens) => Some(tokens.header()),
            Way::User(value) => Some((header::AUTHORIZATION, value.clone())),
            Way::Passwords(_) => None,
        }
    }
}

const BASIC_CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"tidegate\", charset=\"UTF-8\"");

/// Where an authenticator is found by whoever asks for it by name. What is in it is replaced as a whole.
#[derive(Default)]
pub(crate) struct Slot(ArcSwapOption<Authenticator>);

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl Slot {
    /// From now on `authenticator` is asked.
    pub(crate) fn install(&self, authenticator: Arc<Authenticator>) {
        self.0.store(Some(authenticator));
    }
}

/// The authenticators of a process, by the ids of their extensions. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Authenticators(Arc<Mutex<BTreeMap<String, Arc<Slot>>>>);

impl Authenticators {
    /// Where the one named `id` is, or will be.
    pub(crate) fn slot(&self, id: &str) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody holds any more was named by an earlier configuration.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        Arc::clone(slots.entry(id.to_owned()).or_default())
    }

    /// What a server with these settings asks.
    pub fn guard(&self, settings: Option<&AuthSettings>) -> Guard {
        Guard(settings.map(|settings| self.slot(&settings.authenticator)))
    }

    /// What a client with these settings shows.
    pub fn pass(&self, settings: Option<&AuthSettings>) -> Pass {
        Pass(settings.map(|settings| self.slot(&settings.authenticator)))
    }
}

/// Stands at a server's door. Without an authenticator it lets everybody in.
#[derive(Debug, Clone, Default)]
pub struct Guard(Option<Arc<Slot>>);

impl Guard {
    /// Whether the sender of a request with these headers may come in. To be asked before anything of its body is read.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(slot) = &self.0 else {
            return Ok(());
        };
        match slot.0.load_full() {
            Some(authenticator) => authenticator.check(headers).await,
            // Its extension has not been started yet: closed until it is.
            None => Err(Denied {
                reason: Reason::Busy,
                challenge: BASIC_CHALLENGE,
            }),
        }
    }
}

/// What a client shows to servers; nothing without an authenticator.
#[derive(Debug, Clone, Default)]
pub struct Pass(Option<Arc<Slot>>);

impl Pass {
    /// The header with the credentials as they are now.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.0.as_ref()?.0.load().as_ref()?.header()
    }

    /// Puts the credentials as they are now into the headers of a request.
    pub fn show(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.header() {
            headers.insert(name, value);
        }
    }
}

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing was shown, or not in the way that is asked for.
    Missing,
    /// What was shown is not right.
    Wrong,
    /// Too many wait for a slow check.
    Busy,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Missing, Self::Wrong, Self::Busy];

    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Busy => "busy",
        }
    }
}

/// A request that is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    reason: Reason,
    challenge: HeaderValue,
}

/// When to try again where too many wait.
const BUSY_RETRY: Duration = Duration::from_secs(1);

impl Denied {
    /// What the client is told. It does not repeat what the client has sent.
    pub fn message(&self) -> &'static str {
        match self.reason {
            Reason::Missing => "no credentials, or not in the form that is asked for",
            Reason::Wrong => "invalid credentials",
            Reason::Busy => "too many credentials are being checked, try again",
        }
    }

    /// The value of `WWW-Authenticate`.
    pub fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// When to try again, if the credentials may be good.
    pub fn retry_after(&self) -> Option<Duration> {
        (self.reason == Reason::Busy).then_some(BUSY_RETRY)
    }
}

#[cfg(test)]
mod tests;
