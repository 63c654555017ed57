//! TLS for servers: certificates, client verification and versions, as the Collector's `configtls` names them.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::ComponentError;
use crate::files;

/// PEM text in a file or in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A path, read when the server or client is built.
    File(PathBuf),
    /// The text.
    Text(String),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(redacted)"),
        }
    }
}

impl Pem {
    /// The path, where it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Text(_) => None,
        }
    }

    /// `what` went wrong with it, which is written below `tls` as `name` with `_file` or `_pem`.
    pub(super) fn failed(&self, name: &str, what: impl fmt::Display) -> ComponentError {
        let (key, cause) = match self {
            Self::File(path) => (
                format!("{name}_file"),
                format!("{}: {what}", path.display()),
            ),
            Self::Text(_) => (format!("{name}_pem"), what.to_string()),
        };
        unusable(cause).at(key)
    }

    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, ComponentError> {
        match self {
            Self::File(path) => files::read(path, files::SECRETS_MAX)
                .map(Cow::from)
                .map_err(|error| {
                    // It may come.
                    let permanent = files::is_unfit(&error);
                    let mut failed = self.failed(name, error);
                    failed.permanent = permanent;
                    failed
                }),
            Self::Text(text) => Ok(Cow::from(text.as_bytes())),
        }
    }

    /// The first private key in it, which is written as `name`.
    pub(super) fn private_key(&self, name: &str) -> Result<PrivateKeyDer<'static>, ComponentError> {
        PrivateKeyDer::from_pem_slice(&self.read(name)?)
            .map_err(|error| self.failed(name, format!("no private key found: {error}")))
    }

    /// The certificates in it, at least one.
    pub(super) fn certificates(
        &self,
        name: &str,
    ) -> Result<Vec<CertificateDer<'static>>, ComponentError> {
        let text = self.read(name)?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed(name, format!("certificates unreadable: {error}")))?;
        if found.is_empty() {
            return Err(self.failed(name, "no certificate found"));
        }
        Ok(found)
    }

    /// `certificates`, which are from here, as authorities to trust.
    pub(super) fn roots(
        &self,
        name: &str,
        certificates: &[CertificateDer<'static>],
    ) -> Result<RootCertStore, ComponentError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| self.failed(name, error))?;
        }
        Ok(roots)
    }
}

/// Certificates, keys or versions that cannot be used; the key is below `tls`.
pub(super) fn unusable(cause: impl ToString) -> ComponentError {
    ComponentError::new("set up TLS", cause).permanent()
}

/// A TLS version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// What a server needs to speak TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain, the server's own first.
    pub certificates: Pem,
    /// The private key of the first certificate.
    pub key: Pem,
    /// Where the certificates of clients must come from; `None` asks clients for none.
    pub client_ca: Option<Pem>,
    /// The lowest version accepted.
    pub min_version: TlsVersion,
    /// The highest version accepted; not below `min_version`.
    pub max_version: TlsVersion,
}

impl TlsSettings {
    /// The files that certificates and keys are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let pems = [
            Some(&self.certificates),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        pems.into_iter().flatten().filter_map(Pem::file).collect()
    }

    /// The configuration that offers `protocols` by ALPN, most wanted first.
    ///
    /// # Errors
    /// When files cannot be read, hold no certificate or key, or key and certificate do not fit; with keys below `tls`.
    pub fn server_config(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, ComponentError> {
        let chain = self.certificates.certificates("cert");
        let key = self.key.private_key("key");
        let roots = self.client_ca.as_ref().map(|authority| {
            let roots = authority.roots("client_ca", &authority.certificates("client_ca")?)?;
            Ok((authority, roots))
        });
        let identity = ComponentError::both(chain, key);
        let ((chain, key), roots) = ComponentError::both(identity, roots.transpose())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(self.min_version, self.max_version))
            .map_err(|error| unusable(error).at("min_version"))?;
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some((authority, roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error| authority.failed("client_ca", error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let cause = format!("the certificate cannot be used: {error}");
            self.certificates.failed("cert", cause)
        })?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// The versions from `min` to `max`.
pub(super) fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    [
        (TlsVersion::V1_2, &version::TLS12),
        (TlsVersion::V1_3, &version::TLS13),
    ]
    .into_iter()
    .filter(|(version, _)| (min..=max).contains(version))
    .map(|(_, supported)| supported)
    .collect()
}
