//! Which insert it is, and what is known of its earlier attempts.

use super::failure::Failure;

/// What an insert is called (`insert_deduplication_token`): the server stores it once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    name: String,
    /// Whether an attempt may have stored it although nobody said so.
    in_doubt: bool,
    /// Whether it was in doubt when the last attempt began.
    was_in_doubt: bool,
}

impl Token {
    /// For an insert that was not sent before, as far as this process knows.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            in_doubt: false,
            was_in_doubt: false,
        }
    }

    /// What the server is told.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An attempt begins. If it is never heard of, as when it is cut short by a timeout, that is a doubt.
    pub(super) fn sending(&mut self) {
        self.was_in_doubt = self.in_doubt;
        self.in_doubt = true;
    }

    /// The attempt has ended. A doubt that was there before stays.
    pub(super) fn sent(&mut self, result: &Result<(), Failure>) {
        if let Err(failure) = result {
            self.in_doubt = self.was_in_doubt || failure.outcome_unknown;
        }
    }

    /// Whether what the server has acknowledged now may have been stored by an earlier attempt.
    pub(super) fn is_repeat(&self) -> bool {
        self.was_in_doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(outcome_unknown: bool) -> Result<(), Failure> {
        Err(Failure {
            outcome_unknown,
            ..Failure::schema("no".to_owned())
        })
    }

    #[test]
    fn only_an_attempt_of_unknown_outcome_makes_a_repeat() {
        // How each attempt ends before the one that succeeds; `None` is cut short.
        let check = |attempts: &[Option<bool>], expected: bool| {
            let mut token = Token::new("batch-1-logs".to_owned());
            for attempt in attempts {
                token.sending();
                if let Some(outcome_unknown) = attempt {
                    token.sent(&failure(*outcome_unknown));
                }
            }
            token.sending();
            token.sent(&Ok(()));
            assert_eq!(token.is_repeat(), expected, "{attempts:?}");
        };
        check(&[], false);
        check(&[Some(false)], false);
        check(&[Some(true)], true);
        check(&[None], true);
        check(&[Some(true), Some(false)], true);
        check(&[None, Some(false), Some(false)], true);
        check(&[Some(false), Some(true)], true);
    }
}
