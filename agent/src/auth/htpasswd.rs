//! Users and their passwords as Apache's `htpasswd` writes them: one a line, `name:hash`.

use std::collections::HashMap;
use std::str::FromStr;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::key;

/// More would take a second and longer for each password that somebody tries.
const COST_MAX: u32 = 14;

/// A file with more users than this is no list of a host's clients.
const USERS_MAX: usize = 100_000;

/// Users by name.
#[derive(Default)]
pub(crate) struct Users(pub(super) HashMap<String, User>);

/// A user: how the password is checked, and the one that was found to be right the last time.
pub(super) struct User {
    pub(super) hash: Hash,
    pub(super) verified: ArcSwapOption<key::Digest>,
}

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// Slow on purpose.
    Bcrypt(String),
    /// MD5 a thousand times over, as `htpasswd` does it by default: the salt and the letters.
    Apache { salt: String, letters: String },
    /// SHA-1, with a salt after the password or without.
    Sha { sum: Vec<u8>, salt: Vec<u8> },
    /// The password itself, as a digest.
    Plain(key::Digest),
}

impl Users {
    /// Reads lines; where a name stands twice, the last wins.
    ///
    /// # Errors
    /// The number of the line that makes no sense, and why. What is in the line is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: &str| format!("line {number}: {problem}");
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong("expected `name:hash`, as the command htpasswd writes it"))?;
            let hash = Hash::parse(hash).map_err(|problem| wrong(&problem))?;
            let user = User {
                hash,
                verified: ArcSwapOption::empty(),
            };
            users.insert(name.to_owned(), user);
            if users.len() > USERS_MAX {
                return Err(wrong("there are too many users"));
            }
        }
        if users.is_empty() {
            return Err("there is no user".to_owned());
        }
        Ok(Self(users))
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        if ["$2a$", "$2b$", "$2x$", "$2y$"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            let parts = bcrypt::HashParts::from_str(text)
                .map_err(|_| "this is no whole bcrypt hash".to_owned())?;
            let cost = parts.get_cost();
            if cost > COST_MAX {
                return Err(format!(
                    "a bcrypt cost of {cost} takes seconds for each check: use at most {COST_MAX}"
                ));
            }
            return Ok(Self::Bcrypt(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("$apr1$") {
            let (salt, letters) = rest
                .split_once('$')
                .filter(|(salt, letters)| salt.len() <= 8 && letters.len() == 22)
                .ok_or("this is no whole MD5 hash")?;
            return Ok(Self::Apache {
                salt: salt.to_owned(),
                letters: letters.to_owned(),
            });
        }
        for scheme in ["{SHA}", "{SSHA}"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let mut sum = STANDARD
                    .decode(rest)
                    .map_err(|_| format!("what follows {scheme} is not base64"))?;
                let salted = scheme == "{SSHA}";
                if sum.len() < SHA1_LENGTH || (!salted && sum.len() != SHA1_LENGTH) {
                    return Err(format!("what follows {scheme} is not a whole hash"));
                }
                let salt = sum.split_off(SHA1_LENGTH);
                return Ok(Self::Sha { sum, salt });
            }
        }
        if text.starts_with('$') {
            return Err(
                "hashes of this kind are not supported: use bcrypt (htpasswd -B)".to_owned(),
            );
        }
        if text.is_empty() {
            return Err("the password is empty".to_owned());
        }
        Ok(Self::Plain(key::Digest::of(text.as_bytes())))
    }

    /// Whether a check takes so long that it must not be done between other work.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Bcrypt(_) | Self::Apache { .. })
    }

    pub(super) fn matches(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apache { salt, letters } => same(&apache(password, salt), letters),
            Self::Sha { sum, salt } => {
                let salted = [password.as_bytes(), salt].concat();
                let found = digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted);
                key::Digest::of(found.as_ref()) == key::Digest::of(sum)
            }
            Self::Plain(expected) => key::Digest::of(password.as_bytes()) == *expected,
        }
    }
}

const SHA1_LENGTH: usize = 20;

fn same(one: &str, other: &str) -> bool {
    key::Digest::of(one.as_bytes()) == key::Digest::of(other.as_bytes())
}

/// The 22 letters of Apache's variant of MD5-crypt. Source: `apr_md5_encode` in Apache's portable runtime.
fn apache(password: &str, salt: &str) -> String {
    let (password, salt) = (password.as_bytes(), salt.as_bytes());
    let inner = Md5::digest([password, salt, password].concat());
    let mut first = Md5::new();
    first.update([password, b"$apr1$", salt].concat());
    for chunk in password.chunks(inner.len()) {
        first.update(inner.get(..chunk.len()).unwrap_or_default());
    }
    let mut bits = password.len();
    while bits > 0 {
        let letter = password.first().copied().unwrap_or_default();
        first.update([if bits & 1 == 1 { 0 } else { letter }]);
        bits >>= 1;
    }
    let mut sum: [u8; 16] = first.finalize().into();
    for round in 0..1000 {
        let mut next = Md5::new();
        let (before, after): (&[u8], &[u8]) = match round % 2 {
            1 => (password, &sum),
            _ => (&sum, password),
        };
        next.update(before);
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(after);
        sum = next.finalize().into();
    }
    letters(sum)
}

/// The sum in crypt's alphabet, its bytes in crypt's order.
fn letters(sum: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let [
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        a8,
        a9,
        a10,
        a11,
        a12,
        a13,
        a14,
        a15,
    ] = sum;
    let groups = [
        (a0, a6, a12, 4),
        (a1, a7, a13, 4),
        (a2, a8, a14, 4),
        (a3, a9, a15, 4),
        (a4, a10, a5, 4),
        (0, 0, a11, 2),
    ];
    let mut text = String::with_capacity(22);
    for (high, middle, low, count) in groups {
        let mut value = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        for _ in 0..count {
            text.extend(ALPHABET.get(value & 63).map(|letter| char::from(*letter)));
            value >>= 6;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_hash_is_checked() {
        // The password is `hunter2`; the hashes are those of `openssl` and of `crypt`.
        let check = |hash: &str| {
            let hash = Hash::parse(hash).unwrap();
            assert!(hash.matches("hunter2"));
            assert!(!hash.matches("hunter3") && !hash.matches(""));
        };
        check("hunter2");
        check("{SHA}87u9ZqY9S/F0eUBXjsPQEDUw4h0=");
        check(APACHE);
        check(BCRYPT);
        let salted = [b"hunter2", &b"salt"[..]].concat();
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted);
        let sum = [sum.as_ref(), b"salt"].concat();
        check(&format!("{{SSHA}}{}", STANDARD.encode(sum)));
    }

    const APACHE: &str = "$apr1$zKZsYQnd$xg6YnMfe1eCN8006PCjyR0";
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm";

    #[test]
    fn lines_that_make_no_sense_are_told_and_not_repeated() {
        let check = |text: &str, expected: &str| {
            let problem = Users::parse(text).err().unwrap();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        };
        check("", "there is no user");
        check("# nobody\n\n", "there is no user");
        check("me:secret\nsecret", "line 2: expected `name:hash`");
        check("me:", "line 1: the password is empty");
        check("me:$2y$10$secret", "line 1: this is no whole bcrypt hash");
        check("me:$6$secret$secret", "use bcrypt");
        check("me:{SHA}secret", "not");
        check("me:$apr1$secret", "MD5");
        let slow = BCRYPT.replace("$04$", "$31$");
        check(&format!("me:{slow}"), "a bcrypt cost of 31 takes seconds");
    }

    #[test]
    fn the_last_of_two_lines_wins() {
        let users = Users::parse("me:one\n  \n# me:three\nme:two\r\n").unwrap();
        assert!(users.0["me"].hash.matches("two"));
    }
}
