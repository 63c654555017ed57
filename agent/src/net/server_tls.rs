//! What a user writes about TLS of a server, and what it means: the Collector's `configtls` for servers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::{Pem, TlsSettings, TlsVersion};
use crate::config::{Section, Unsupported};
use crate::secret::Secret;

/// `tls` of a component that listens.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// The certificate chain: a path. It is read again when it changes.
    pub cert_file: Option<String>,
    /// The certificate chain: PEM text.
    pub cert_pem: Option<String>,
    /// The private key: a path. It is read again when it changes.
    pub key_file: Option<String>,
    /// The private key: PEM text.
    pub key_pem: Option<Secret>,
    /// Clients must present a certificate signed by one of these.
    pub client_ca_file: Option<String>,
    /// `1.2` or `1.3`.
    pub min_version: Option<TlsVersion>,
    /// `1.2` or `1.3`.
    pub max_version: Option<TlsVersion>,
    /// Not supported.
    pub ca_file: Unsupported,
    /// Not supported.
    pub ca_pem: Unsupported,
    /// Not supported.
    pub include_system_ca_certs_pool: Unsupported,
    /// Not supported: the suites are those of rustls with ring, all of them sound.
    pub cipher_suites: Unsupported,
    /// Not supported.
    pub include_insecure_cipher_suites: Unsupported,
    /// Not supported.
    pub curve_preferences: Unsupported,
    /// Accepted, without effect: files are read again when they change.
    pub reload_interval: Unsupported,
    /// Accepted, without effect: files are read again when they change.
    pub client_ca_file_reload: Unsupported,
    /// Not supported.
    pub tpm: Unsupported,
}

impl TlsSettings {
    /// Validates options; problems are reported below `key`, which is where `tls` stands. Files are not read yet.
    pub fn resolve(options: TlsOptions, key: &str, section: &mut Section<'_>) -> Option<Self> {
        let sound = !report_unsupported(&options, key, section);
        let key_pem = options.key_pem.map(|text| text.expose().to_owned());
        let certificates = pem(key, "cert", options.cert_file, options.cert_pem, section);
        let private = pem(key, "key", options.key_file, key_pem, section);
        let min_version = options.min_version.unwrap_or(TlsVersion::V1_2);
        let max_version = options.max_version.unwrap_or(TlsVersion::V1_3);
        if min_version > max_version {
            section.error(
                &format!("{key}.min_version"),
                "must not be above max_version",
            );
        }
        let settings = Self {
            certificates: certificates?,
            key: private?,
            client_ca: options
                .client_ca_file
                .map(|path| Pem::File(PathBuf::from(path))),
            min_version,
            max_version,
        };
        (sound && min_version <= max_version).then_some(settings)
    }
}

/// Whether there is any.
fn report_unsupported(options: &TlsOptions, key: &str, section: &mut Section<'_>) -> bool {
    let fields = [
        ("ca_file", &options.ca_file),
        ("ca_pem", &options.ca_pem),
        (
            "include_system_ca_certs_pool",
            &options.include_system_ca_certs_pool,
        ),
        ("cipher_suites", &options.cipher_suites),
        (
            "include_insecure_cipher_suites",
            &options.include_insecure_cipher_suites,
        ),
        ("curve_preferences", &options.curve_preferences),
        ("tpm", &options.tpm),
    ];
    let mut found = false;
    for (name, _) in fields.iter().filter(|(_, value)| value.is_some()) {
        found = true;
        section.error(
            &format!("{key}.{name}"),
            "the Collector has this, Tidegate does not: this part of `configtls` is not supported",
        );
    }
    for (name, value) in [
        ("reload_interval", &options.reload_interval),
        ("client_ca_file_reload", &options.client_ca_file_reload),
    ] {
        let why = "files are watched, and read again when they change";
        section.disregard(&format!("{key}.{name}"), value, why);
    }
    found
}

fn pem(
    key: &str,
    what: &str,
    file: Option<String>,
    text: Option<String>,
    section: &mut Section<'_>,
) -> Option<Pem> {
    match (file, text) {
        (Some(path), None) => Some(Pem::File(PathBuf::from(path))),
        (None, Some(text)) => Some(Pem::Text(text)),
        (None, None) => {
            section.error(
                &format!("{key}.{what}_file"),
                format!("TLS needs `{what}_file` or `{what}_pem`"),
            );
            None
        }
        (Some(_), Some(_)) => {
            section.error(
                &format!("{key}.{what}_pem"),
                format!("give `{what}_file` or `{what}_pem`, not both"),
            );
            None
        }
    }
}
