//! `bearertokenauth`: tokens in a header, looked at by servers and shown by clients.

use std::path::PathBuf;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authenticator;
use crate::auth::{Side, Tokens, Way};
use crate::component::{ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver};
use crate::config::Section;
use crate::files;
use crate::secret::Secret;

/// The `bearertokenauth` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "bearertokenauth",
    summary: "Lets in who has a token, and shows one to others.",
    signals: &[],
    schema: |generator| generator.subschema_for::<BearerTokenAuthOptions>(),
    parse: |section| {
        let options: BearerTokenAuthOptions = section.options()?;
        Some(Box::new(options.resolve(section)?))
    },
};

/// `[extensions.bearertokenauth]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BearerTokenAuthOptions {
    /// The header that the token is in.
    pub header: String,
    /// What stands before the token, with a blank between; empty for nothing.
    pub scheme: String,
    /// The token.
    pub token: Secret,
    /// Several tokens: servers take any of them, clients show the first.
    pub tokens: Vec<Secret>,
    /// A file with the tokens, one a line; it wins over the others, and is read again when it changes.
    pub filename: String,
}

impl Default for BearerTokenAuthOptions {
    fn default() -> Self {
        Self {
            header: "Authorization".to_owned(),
            scheme: "Bearer".to_owned(),
            token: Secret::default(),
            tokens: Vec::new(),
            filename: String::new(),
        }
    }
}

/// Validated form of [`BearerTokenAuthOptions`].
#[derive(Debug, Clone, PartialEq)]
struct BearerTokenAuthSettings {
    header: HeaderName,
    scheme: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Given(Vec<Secret>),
    File(PathBuf),
}

impl BearerTokenAuthOptions {
    fn resolve(self, section: &mut Section<'_>) -> Option<BearerTokenAuthSettings> {
        let given = match (self.token.expose().is_empty(), self.tokens.is_empty()) {
            (false, false) => {
                section.error("tokens", "give `token` or `tokens`, not both");
                return None;
            }
            (false, true) => vec![self.token],
            (true, _) => self.tokens,
        };
        let source = match (self.filename.is_empty(), given.is_empty()) {
            (true, true) => {
                section.error(
                    "",
                    "there is no token: give `token`, `tokens` or `filename`",
                );
                return None;
            }
            (false, false) => {
                section.warning(
                    "filename",
                    "wins: the tokens that are written here have no effect",
                );
                Source::File(self.filename.into())
            }
            (false, true) => Source::File(self.filename.into()),
            (true, false) => Source::Given(given),
        };
        let header = self.header.parse::<HeaderName>();
        if header.is_err() {
            section.error("header", "is not the name of a header");
        }
        let settings = BearerTokenAuthSettings {
            header: header.ok()?,
            scheme: self.scheme,
            source,
        };
        if let Source::Given(tokens) = &settings.source
            && let Err(problem) = settings.tokens(tokens)
        {
            let key = if tokens.len() > 1 { "tokens" } else { "token" };
            section.error(key, problem);
        }
        Some(settings)
    }
}

impl BearerTokenAuthSettings {
    fn tokens(&self, tokens: &[Secret]) -> Result<Tokens, String> {
        if tokens.iter().any(|token| token.expose().is_empty()) {
            return Err("an empty token would let anybody in".to_owned());
        }
        Tokens::new(self.header.clone(), &self.scheme, tokens)
    }

    fn read(&self) -> Result<Tokens, ComponentError> {
        let path = match &self.source {
            Source::Given(tokens) => {
                let tokens = self.tokens(tokens);
                return tokens
                    .map_err(|cause| ComponentError::new("use the tokens", cause).permanent());
            }
            Source::File(path) => path,
        };
        let text = files::read_text(path, files::SECRETS_MAX)
            .map_err(|error| ComponentError::unreadable(path, &error).at("filename"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: Vec<_> = lines.map(Secret::new).collect();
        self.tokens(&tokens).map_err(|cause| {
            ComponentError::new(format!("read {}", path.display()), cause)
                .at("filename")
                .permanent()
        })
    }
}

impl ExtensionSettings for BearerTokenAuthSettings {
    fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Given(_) => Vec::new(),
            Source::File(path) => vec![path.clone()],
        }
    }

    fn authenticates(&self) -> &'static [Side] {
        &[Side::Server, Side::Client]
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Ok(authenticator::build(Way::Tokens(self.read()?), &context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parse;

    #[test]
    fn settings_are_validated() {
        let check = |text: &str, expected: &str| {
            let found = parse(&FACTORY, text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        };
        check("", "there is no token");
        check("token = ''", "there is no token");
        check("token = 'hunter2'\ntokens = ['x']", "not both");
        check("tokens = ['hunter2', '']", "an empty token");
        check("token = \"hunter2\\u0007\"", "cannot be sent");
        check("token = 'hunter2'\nheader = 'a b'", "not the name");
    }

    #[test]
    fn tokens_of_a_file_are_lines_and_blank_ones_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let settings = BearerTokenAuthSettings {
            header: http::header::AUTHORIZATION,
            scheme: String::new(),
            source: Source::File(path.clone()),
        };
        let check = |expected: &str| {
            let problem = settings.read().unwrap_err();
            assert_eq!(problem.key, "filename");
            assert!(problem.cause.contains(expected), "{problem}");
        };
        check("No such file");
        std::fs::write(&path, "\n \n").unwrap();
        check("there is no token");
        std::fs::write(&path, "one\r\n\ntwo\n").unwrap();
        let tokens = settings.read().unwrap();
        assert_eq!(tokens.header().1, "one");
        assert_eq!(settings.files(), [path]);
    }
}
