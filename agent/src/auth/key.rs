//! Digests of secrets under a key that nobody knows, made when the process starts: they can be compared in any time, and what is
//! kept of a password is not the password.

use std::sync::LazyLock;

use ring::hmac;
use ring::rand::SystemRandom;

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
        .expect("the kernel has random numbers once it has booted")
});

/// A secret's digest. How long a comparison of two takes tells nothing of the secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(secret: &[u8]) -> Self {
        let tag = hmac::sign(&KEY, secret);
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Self(digest)
    }
}
