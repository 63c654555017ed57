//! What cannot be built, and where the configuration asks for it.

use thiserror::Error;

use crate::component::ComponentError;
use crate::config::{Diagnostic, Diagnostics, KeyPath, Severity, Tree, split_dotted};

/// Everything that cannot be built. What was built beside it is gone, and what runs is as it was.
#[derive(Debug, Default, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Failures(Vec<Failure>);

/// One of them.
#[derive(Debug, Error)]
#[error("{path}: {cause}")]
struct Failure {
    path: KeyPath,
    cause: ComponentError,
}

impl Failures {
    /// What `attempt` gives, or `None` and a note that `component`, such as `["receivers", "otlp"]`, cannot be built.
    pub(crate) fn note<T>(
        &mut self,
        component: &[&str],
        attempt: Result<T, ComponentError>,
    ) -> Option<T> {
        let failed = match attempt {
            Ok(built) => return Some(built),
            Err(failed) => failed,
        };
        for cause in failed.into_each() {
            let keys = split_dotted(&cause.key).into_iter();
            let path = keys
                .filter(|key| !key.is_empty())
                .fold(KeyPath::of(component), |path, key| path.key(&key));
            self.0.push(Failure { path, cause });
        }
        None
    }

    /// Whether everything could be built.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one that stays until the configuration, or a file that it names, is another.
    pub(crate) fn are_permanent(&self) -> bool {
        self.0.iter().any(|failure| failure.cause.permanent)
    }

    /// Both of two attempts, or everything that failed in them.
    pub(crate) fn both<A, B>(a: Result<A, Self>, b: Result<B, Self>) -> Result<(A, B), Self> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(failures), Ok(_)) | (Ok(_), Err(failures)) => Err(failures),
            (Err(mut failures), Err(others)) => {
                failures.0.extend(others.0);
                Err(failures)
            }
        }
    }

    /// `built`, if everything could be.
    ///
    /// # Errors
    /// These, if there are any.
    pub(crate) fn or<T>(self, built: T) -> Result<T, Self> {
        match self.is_empty() {
            true => Ok(built),
            false => Err(self),
        }
    }

    /// The same with file, line and column, in the order of the configuration.
    pub(crate) fn locate(&self, tree: &Tree) -> Diagnostics {
        let mut found = Diagnostics::default();
        for Failure { path, cause } in &self.0 {
            found.push(Diagnostic {
                severity: Severity::Error,
                place: tree.place_of_key(path),
                key: path.to_string(),
                message: cause.to_string(),
            });
        }
        found.sort();
        found.without_secrets(tree)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ProcessEnvironment, Source, load};

    use super::*;

    #[test]
    fn what_is_told_holds_no_secret_of_the_configuration() {
        let source = Source::Text {
            name: "agent.toml".to_owned(),
            content: "[processors.wasm.config]\nhash_key = 'a-pepper'\n".to_owned(),
        };
        let (tree, _) = load(&[source], &[], &ProcessEnvironment);
        let mut failures = Failures::default();
        let problem = ComponentError::new("start the plugin", "`a-pepper` is no number");
        failures.note(&["processors", "wasm"], Err::<(), _>(problem.at("config")));
        let told = failures.locate(&tree).to_string();
        assert!(
            told.contains("start the plugin: `[REDACTED]` is no number"),
            "{told}"
        );
    }

    #[test]
    fn one_that_stays_is_enough_for_all_to_stay() {
        let taken = || ComponentError::new("bind it", "taken");
        let wrong = || ComponentError::new("read it", "nonsense").permanent();
        let check = |attempts: Vec<ComponentError>, expected: bool| {
            let count = attempts.len();
            let all = ComponentError::all(attempts.into_iter().map(Err::<(), _>));
            let all = all.map_err(|failed| failed.below("tls"));
            let mut failures = Failures::default();
            failures.note(&["receivers", "otlp"], all);
            assert_eq!(failures.0.len(), count);
            assert_eq!(failures.are_permanent(), expected);
        };
        check(vec![taken(), taken()], false);
        check(vec![taken(), wrong(), taken()], true);
        let built = ComponentError::all([Ok(1), Ok(2)]);
        assert_eq!(built.unwrap(), [1, 2]);
    }

    #[test]
    fn each_is_told_at_the_key_that_asks_for_it() {
        let source = Source::Text {
            name: "agent.toml".to_owned(),
            content: "[receivers.otlp.protocols.grpc]\nendpoint = 'a:1'\n\n[exporters.file]\n"
                .to_owned(),
        };
        let (tree, _) = load(&[source], &[], &ProcessEnvironment);
        let taken = |key: &str| ComponentError::new("bind it", "taken").at(key);
        let mut failures = Failures::default();
        let file = failures.note(&["exporters", "file"], Err::<(), _>(taken("path")));
        let both = ComponentError::both::<(), ()>(
            Err(taken("protocols.grpc.endpoint")),
            Err(taken("protocols.http.endpoint")),
        );
        let otlp = failures.note(&["receivers", "otlp"], both);
        let fine = failures.note(&["receivers", "otlp/two"], Ok(3));
        assert_eq!((file, otlp, fine), (None, None, Some(3)));
        // What is not written is told at what stands nearest to it.
        assert_eq!(
            failures.locate(&tree).to_string(),
            "agent.toml:1:17: error: receivers.otlp.protocols.http.endpoint: bind it: taken\n\
             agent.toml:2:1: error: receivers.otlp.protocols.grpc.endpoint: bind it: taken\n\
             agent.toml:4:12: error: exporters.file.path: bind it: taken\n"
        );
        assert!(failures.or(()).is_err());
        assert!(Failures::default().or(()).is_ok());
    }
}
