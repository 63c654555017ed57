//! `basicauth`: users and passwords, looked at by servers or shown by clients.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authenticator;
use crate::auth::{Passwords, Side, Users, Way};
use crate::component::{ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver};
use crate::config::{Section, Unsupported};
use crate::files;
use crate::secret::Secret;

/// The `basicauth` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "basicauth",
    summary: "Lets in users who know their passwords, or shows a user and a password to others.",
    signals: &[],
    schema: |generator| generator.subschema_for::<BasicAuthOptions>(),
    parse: |section| {
        let options: BasicAuthOptions = section.options()?;
        Some(Box::new(options.resolve(section)?))
    },
};

/// `[extensions.basicauth]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuthOptions {
    /// For servers: who may come in. One extension has this or `client_auth`.
    pub htpasswd: Option<HtpasswdOptions>,
    /// For clients: what is shown.
    pub client_auth: Option<ClientAuthOptions>,
}

/// `htpasswd`: one `name:hash` a line, as the command of that name writes them: bcrypt, MD5, SHA, or the password itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HtpasswdOptions {
    /// A file with such lines, read again when it changes.
    pub file: String,
    /// Such lines; they win over those of the file.
    pub inline: Secret,
}

/// `client_auth`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientAuthOptions {
    /// The user.
    pub username: String,
    /// A file with the user, which wins, and is read again when it changes.
    pub username_file: String,
    /// The password.
    pub password: Secret,
    /// A file with the password, which wins, and is read again when it changes.
    pub password_file: String,
    /// Not supported.
    pub aws_secrets_manager: Unsupported,
}

/// Validated form of [`BasicAuthOptions`].
#[derive(Debug, Clone, PartialEq)]
enum BasicAuthSettings {
    Server {
        file: Option<PathBuf>,
        inline: Secret,
    },
    Client {
        username: Text,
        password: Text,
    },
}

/// A text that is written or in a file.
#[derive(Debug, Clone, PartialEq)]
enum Text {
    Given(Secret),
    File(PathBuf),
}

impl Text {
    fn new(given: Secret, file: String) -> Self {
        match file.is_empty() {
            true => Self::Given(given),
            false => Self::File(file.into()),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Given(_) => None,
            Self::File(path) => Some(path.clone()),
        }
    }

    /// What a file ends with is no part of it; its path is at `key`.
    fn read(&self, key: &str) -> Result<Secret, ComponentError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = files::read_text(path, files::SECRETS_MAX);
                let text =
                    text.map_err(|error| ComponentError::unreadable(path, &error).at(key))?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }
}

impl BasicAuthOptions {
    fn resolve(self, section: &mut Section<'_>) -> Option<BasicAuthSettings> {
        let settings = match (self.htpasswd, self.client_auth) {
            (Some(_), Some(_)) => {
                section.error("", "give `htpasswd` or `client_auth`, not both: an extension is for servers or for clients");
                return None;
            }
            (None, None) => {
                section.error("", "there are no credentials: give `htpasswd` for servers, or `client_auth` for clients");
                return None;
            }
            (Some(htpasswd), None) => server(htpasswd, section)?,
            (None, Some(client)) => {
                section.refuse(
                    "client_auth.aws_secrets_manager",
                    &client.aws_secrets_manager,
                    "write the password to a file and name it in `password_file`",
                );
                client_side(client, section)?
            }
        };
        Some(settings)
    }
}

fn server(options: HtpasswdOptions, section: &mut Section<'_>) -> Option<BasicAuthSettings> {
    let HtpasswdOptions { file, inline } = options;
    if file.is_empty() && inline.expose().is_empty() {
        section.error("htpasswd", "there is nobody in it: give `file` or `inline`");
        return None;
    }
    if file.is_empty()
        && let Err(problem) = Users::parse(inline.expose())
    {
        section.error("htpasswd.inline", problem);
    }
    Some(BasicAuthSettings::Server {
        file: (!file.is_empty()).then(|| file.into()),
        inline,
    })
}

fn client_side(options: ClientAuthOptions, section: &mut Section<'_>) -> Option<BasicAuthSettings> {
    let settings = BasicAuthSettings::Client {
        username: Text::new(Secret::new(options.username), options.username_file),
        password: Text::new(options.password, options.password_file),
    };
    if let BasicAuthSettings::Client {
        username: Text::Given(username),
        ..
    } = &settings
        && let Err(problem) = check_name(username.expose())
    {
        section.error("client_auth.username", problem);
        return None;
    }
    Some(settings)
}

fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("there is no user: give `username` or `username_file`".to_owned()),
        name if name.contains(':') => Err("the user's name must not contain a colon".to_owned()),
        _ => Ok(()),
    }
}

impl BasicAuthSettings {
    fn read(&self) -> Result<Way, ComponentError> {
        match self {
            Self::Server { file, inline } => {
                let mut text = String::new();
                if let Some(path) = file {
                    text = files::read_text(path, files::SECRETS_MAX).map_err(|error| {
                        ComponentError::unreadable(path, &error).at("htpasswd.file")
                    })?;
                    text.push('\n');
                }
                text.push_str(inline.expose());
                let users = Users::parse(&text).map_err(|problem| {
                    let (attempted, key) = match file {
                        Some(path) => (format!("read {}", path.display()), "htpasswd.file"),
                        None => ("read the users".to_owned(), "htpasswd.inline"),
                    };
                    ComponentError::new(attempted, problem).at(key).permanent()
                })?;
                Ok(Way::Passwords(Passwords::new(users)))
            }
            Self::Client { username, password } => {
                let name = username.read("client_auth.username_file");
                let word = password.read("client_auth.password_file");
                let (name, word) = ComponentError::both(name, word)?;
                let problem = |cause: String| {
                    ComponentError::new("use the credentials", cause)
                        .at("client_auth")
                        .permanent()
                };
                check_name(name.expose()).map_err(problem)?;
                let text = format!("{}:{}", name.expose(), word.expose());
                let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text)));
                let mut value = value.map_err(|error| problem(error.to_string()))?;
                value.set_sensitive(true);
                Ok(Way::User(value))
            }
        }
    }
}

impl ExtensionSettings for BasicAuthSettings {
    fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Server { file, .. } => file.iter().cloned().collect(),
            Self::Client { username, password } => [username, password]
                .into_iter()
                .filter_map(Text::file)
                .collect(),
        }
    }

    fn authenticates(&self) -> &'static [Side] {
        match self {
            Self::Server { .. } => &[Side::Server],
            Self::Client { .. } => &[Side::Client],
        }
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Ok(authenticator::build(self.read()?, &context))
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
        check("", "there are no credentials");
        check("htpasswd = {}", "there is nobody in it");
        check("htpasswd = { inline = 'hunter2' }", "line 1: expected");
        check(
            "htpasswd = { inline = 'a:b' }\nclient_auth = { username = 'a' }",
            "not both",
        );
        check("client_auth = { password = 'hunter2' }", "there is no user");
        check("client_auth = { username = 'a:b' }", "a colon");
        check(
            "client_auth = { username = 'a', aws_secrets_manager = { secret_arn = 'x' } }",
            "password_file",
        );
    }

    #[test]
    fn what_is_written_wins_over_the_file_of_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, "me:one\nyou:two").unwrap();
        let settings = BasicAuthSettings::Server {
            file: Some(path.clone()),
            inline: Secret::new("me:three"),
        };
        assert!(matches!(settings.read(), Ok(Way::Passwords(_))));
        std::fs::write(&path, "me").unwrap();
        let problem = settings.read().err().unwrap();
        assert_eq!(problem.key, "htpasswd.file");
        assert!(problem.cause.contains("line 1"), "{problem}");
    }

    #[test]
    fn a_password_file_ends_where_its_text_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let text = format!("client_auth = {{ username = 'me', password_file = {path:?} }}");
        let settings = parse(&FACTORY, &text).unwrap();
        assert_eq!(settings.files(), [path]);
        let settings = settings
            .as_any()
            .downcast_ref::<BasicAuthSettings>()
            .unwrap();
        let Ok(Way::User(value)) = settings.read() else {
            panic!("it is for clients");
        };
        assert_eq!(value, "Basic bWU6aHVudGVyMg==");
    }
}
