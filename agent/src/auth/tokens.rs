//! Tokens in a header, with a scheme before them or without.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Reason;
use super::key::Digest;
use crate::secret::Secret;

/// The tokens that are good, and the one that is shown.
pub(crate) struct Tokens {
    header: HeaderName,
    scheme: String,
    digests: Vec<Digest>,
    shown: HeaderValue,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("header", &self.header)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Any of `tokens` is good, the first is shown to servers.
    ///
    /// # Errors
    /// What is wrong with them: none at all, or one that cannot be in a header.
    pub(crate) fn new(header: HeaderName, scheme: &str, tokens: &[Secret]) -> Result<Self, String> {
        let values: Vec<HeaderValue> = tokens
            .iter()
            .map(|token| value(scheme, token.expose()))
            .collect::<Option<_>>()
            .ok_or("a token has characters that cannot be sent in a header")?;
        let shown = values.first().ok_or("there is no token")?.clone();
        Ok(Self {
            header,
            scheme: scheme.to_owned(),
            digests: tokens
                .iter()
                .map(|token| Digest::of(token.expose().as_bytes()))
                .collect(),
            shown,
        })
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Reason> {
        let value = headers.get(&self.header).ok_or(Reason::Missing)?;
        let token = self.token(value.as_bytes()).ok_or(Reason::Missing)?;
        let digest = Digest::of(token);
        match self.digests.contains(&digest) {
            true => Ok(()),
            false => Err(Reason::Wrong),
        }
    }

    /// What follows the scheme, which may be in any case.
    fn token<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        if self.scheme.is_empty() {
            return Some(value);
        }
        let (scheme, rest) = value.split_at_checked(self.scheme.len())?;
        let is_it = scheme.eq_ignore_ascii_case(self.scheme.as_bytes());
        is_it.then(|| rest.strip_prefix(b" "))?
    }

    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (self.header.clone(), self.shown.clone())
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        let scheme = match self.scheme.as_str() {
            "" => "Bearer",
            scheme => scheme,
        };
        HeaderValue::try_from(format!("{scheme} realm=\"tidegate\""))
            .unwrap_or(HeaderValue::from_static("Bearer realm=\"tidegate\""))
    }
}

fn value(scheme: &str, token: &str) -> Option<HeaderValue> {
    let text = match scheme {
        "" => token.to_owned(),
        scheme => format!("{scheme} {token}"),
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
