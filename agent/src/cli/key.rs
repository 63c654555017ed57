//! What opens the agent's door for commands: credentials and certificates, from files, from the environment or from the
//! agent's own configuration. None of them is an argument, which everybody on the host could read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::auth::{Authenticators, Side};
use crate::component::{ComponentError, ExtensionContext, Shutdown};
use crate::config::{KeyPath, Settings};
use crate::net::client_tls::{ClientTlsOptions, ClientTlsSettings};
use crate::net::listen::Endpoint;
use crate::net::socket::Io;

/// The environment variable with a token.
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";

/// The environment variable with a password.
const PASSWORD_VARIABLE: &str = "TIDEGATE_PASSWORD";

/// What to show to an agent whose door is locked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "For a door that is locked")]
pub(super) struct KeyArgs {
    /// A file with the token to show. Without it: TIDEGATE_TOKEN, or what the configuration of --config has.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The user to come as, with the password in --password-file or TIDEGATE_PASSWORD.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    user: Option<String>,
    /// A file with the user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Speak TLS, and trust the authorities of the system. The others of these options imply it.
    #[arg(long)]
    tls: bool,
    /// Trust these authorities instead.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// The certificate to show, with its key in --key-file.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<String>,
    /// The key of the certificate to show.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<String>,
    /// The name that the agent's certificate is for, if not the host of the endpoint.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

/// What opens a door; nothing, where it is open.
#[derive(Clone, Default)]
pub(super) struct Key {
    header: Option<(HeaderName, HeaderValue)>,
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl KeyArgs {
    /// Reads what is named; `settings` are those of the agent, where they are known.
    ///
    /// # Errors
    /// What cannot be read or used.
    pub(super) fn key(&self, settings: Option<&Settings>) -> anyhow::Result<Key> {
        let header = match (&self.token_file, &self.user) {
            (Some(file), _) => Some(bearer(&secret(file)?)?),
            (None, Some(user)) => Some(self.basic(user)?),
            (None, None) => match (std::env::var(TOKEN_VARIABLE), settings) {
                (Ok(token), _) if !token.is_empty() => Some(bearer(&token)?),
                (_, Some(settings)) => configured(settings)?,
                _ => None,
            },
        };
        let locked = settings.is_some_and(|settings| settings.admin_lock.has_tls());
        Ok(Key {
            header,
            tls: self.tls(locked)?,
        })
    }

    fn basic(&self, user: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
        let password = match &self.password_file {
            Some(file) => secret(file)?,
            None => std::env::var(PASSWORD_VARIABLE)
                .map_err(|_| anyhow!("the password: --password-file, or {PASSWORD_VARIABLE}"))?,
        };
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        Ok((
            header::AUTHORIZATION,
            sensitive(&format!("Basic {encoded}"))?,
        ))
    }

    fn tls(
        &self,
        locked: bool,
    ) -> anyhow::Result<Option<(TlsConnector, Option<ServerName<'static>>)>> {
        let named = [&self.ca_file, &self.cert_file, &self.server_name];
        if !self.tls && !locked && named.iter().all(|option| option.is_none()) {
            return Ok(None);
        }
        let options = ClientTlsOptions {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            server_name_override: self.server_name.clone().unwrap_or_default(),
            ..ClientTlsOptions::default()
        };
        let mut problems = Vec::new();
        let settings = ClientTlsSettings::resolve(options, "tls", |key, problem| {
            problems.push(format!("{key}: {problem}"));
        });
        let settings = settings.ok_or_else(|| anyhow!("{}", problems.join("; ")))?;
        let config = settings.client_config(&[b"http/1.1"])?;
        Ok(Some((Arc::new(config).into(), settings.server_name)))
    }
}

impl Key {
    /// The stream to speak on.
    ///
    /// # Errors
    /// When the agent's certificate is not to be trusted, or ours is not taken.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        stream: Box<dyn Io>,
    ) -> anyhow::Result<Box<dyn Io>> {
        let Some((connector, name)) = &self.tls else {
            return Ok(stream);
        };
        let host = match endpoint {
            Endpoint::Tcp { host, .. } => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let name = match name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())?,
        };
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| anyhow!("TLS: {error}{}", advice(&error)))?;
        Ok(Box::new(stream))
    }

    /// Whether it speaks TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Puts the credentials into a request's headers.
    pub(super) fn show(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// What to do about a handshake that failed, where that is known.
fn advice(error: &io::Error) -> &'static str {
    let cause = error.get_ref();
    let Some(rustls::Error::InvalidCertificate(problem)) =
        cause.and_then(|cause| cause.downcast_ref())
    else {
        return "";
    };
    match problem {
        CertificateError::UnknownIssuer => "; --ca-file FILE has the authority that it is from",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "; --server-name NAME says which name it is for"
        }
        _ => "",
    }
}

/// What the agent's own configuration has to show, where its authenticator is for clients, too.
fn configured(settings: &Settings) -> anyhow::Result<Option<(HeaderName, HeaderValue)>> {
    let Some(wanted) = settings.admin_lock.authenticators("").into_iter().next() else {
        return Ok(None);
    };
    let mut extensions = settings.extensions.iter();
    let found = extensions.find(|(id, _)| *id == wanted.authenticator);
    let Some((id, extension)) = found else {
        return Ok(None);
    };
    if !extension.authenticates().contains(&Side::Client) {
        bail!(
            "the agent wants a user and a password: --user NAME, and --password-file FILE or {PASSWORD_VARIABLE}"
        );
    }
    let authenticators = Authenticators::default();
    let pass = authenticators.pass(settings.admin_lock.auth());
    let context = ExtensionContext::alone(id, authenticators);
    let built = extension
        .build(context)
        .map_err(|failed| not_to_be_had(id, failed))?;
    // The call itself installs it.
    drop(built.run(Shutdown::default()));
    Ok(pass.header())
}

/// The agent may well run: it has what it read before.
fn not_to_be_had(id: &str, failed: ComponentError) -> anyhow::Error {
    let problems: Vec<_> = failed
        .into_each()
        .iter()
        .map(|failed| {
            format!(
                "{}: {failed}",
                KeyPath::of(&["extensions", id, &failed.key])
            )
        })
        .collect();
    anyhow!(
        "the agent was not asked, because it wants a token, and that in its configuration cannot be had: {}. \
         Mend that; or give the token that the agent has read before, in --token-file FILE or {TOKEN_VARIABLE}",
        problems.join("; ")
    )
}

fn bearer(token: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    Ok((
        header::AUTHORIZATION,
        sensitive(&format!("Bearer {token}"))?,
    ))
}

fn sensitive(text: &str) -> anyhow::Result<HeaderValue> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| anyhow!("the credentials cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The first line of a file.
fn secret(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.with_context(|| format!("{} is empty", path.display()))?;
    Ok(line.to_owned())
}
