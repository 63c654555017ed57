//! TLS for servers: certificates, client verification and versions, as the Collector's `configtls` names them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

    fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
            }
            Self::Text(text) => Ok(text.clone().into_bytes()),
        }
    }
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
    /// When a file cannot be read, holds no certificate or key, or key and certificate do not fit.
    pub fn server_config(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(self.min_version, self.max_version))
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = roots(authority).map_err(|error| format!("client_ca_file: {error}"))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error| format!("client_ca_file: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates(&self.certificates)?, private_key(&self.key)?)
            .map_err(|error| format!("the certificate cannot be used: {error}"))?;
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

/// The first private key in `pem`.
pub(super) fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&pem.read()?)
        .map_err(|error| format!("no private key found: {error}"))
}

/// The certificates in `pem`, at least one.
pub(super) fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = pem.read()?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("certificates unreadable: {error}"))?;
    if found.is_empty() {
        return Err("no certificate found".to_owned());
    }
    Ok(found)
}

/// The certificates in `pem` as authorities to trust.
pub(super) fn roots(pem: &Pem) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}
