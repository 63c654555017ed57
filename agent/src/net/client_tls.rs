//! TLS for clients: whom to trust, what to show, and versions, as the Collector's `configtls` names them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::{self, Pem, TlsVersion};
use super::verifier::Verifier;
use crate::component::ComponentError;
use crate::config::Unsupported;
use crate::secret::Secret;

/// What a user writes under `tls` of a component that connects to servers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTlsOptions {
    /// No TLS at all, unless an authority is given. Where the scheme of the endpoint decides, it has no effect.
    pub insecure: bool,
    /// Any certificate will do: the server may be anybody.
    pub insecure_skip_verify: bool,
    /// The name that the server's certificate must be for, instead of the endpoint's host.
    pub server_name_override: String,
    /// Certificates of the authorities to trust, or a server's own, a path; without one, those of the system.
    pub ca_file: Option<String>,
    /// The same as PEM text.
    pub ca_pem: Option<String>,
    /// Whether the system's authorities are trusted besides the given ones.
    pub include_system_ca_certs_pool: bool,
    /// The certificate to show to servers, with its chain: a path.
    pub cert_file: Option<String>,
    /// The same as PEM text.
    pub cert_pem: Option<String>,
    /// The certificate's private key: a path.
    pub key_file: Option<String>,
    /// The same as PEM text.
    pub key_pem: Option<Secret>,
    /// `1.2` or `1.3`.
    pub min_version: Option<TlsVersion>,
    /// `1.2` or `1.3`.
    pub max_version: Option<TlsVersion>,
    /// Not supported: the suites are those of rustls with ring, all of them sound.
    pub cipher_suites: Unsupported,
    /// Not supported.
    pub include_insecure_cipher_suites: Unsupported,
    /// Not supported.
    pub curve_preferences: Unsupported,
    /// Accepted, without effect: files are read again when they change.
    pub reload_interval: Unsupported,
    /// Not supported.
    pub tpm: Unsupported,
}

/// What a client needs to speak TLS; by default, to trust what the system trusts and to show nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTlsSettings {
    /// Where an endpoint has no scheme: whether to do without TLS.
    pub insecure: bool,
    /// The name that the server's certificate must be for, if not the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
    trust: Trust,
    /// The certificate chain and its key.
    identity: Option<(Pem, Pem)>,
    min_version: TlsVersion,
    max_version: TlsVersion,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trust {
    Anybody,
    System,
    Given { authorities: Pem, and_system: bool },
}

impl Default for ClientTlsSettings {
    fn default() -> Self {
        Self {
            insecure: false,
            server_name: None,
            trust: Trust::System,
            identity: None,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
        }
    }
}

impl ClientTlsSettings {
    /// The files that certificates and keys are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let authorities = match &self.trust {
            Trust::Given { authorities, .. } => Some(authorities),
            Trust::Anybody | Trust::System => None,
        };
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let pems = authorities.into_iter().chain(identity);
        pems.filter_map(Pem::file).collect()
    }

    /// Validates options. Each problem is given to `report` with its key, which starts with `prefix`; `None` if there
    /// is one. Files are not read yet.
    pub fn resolve(
        options: ClientTlsOptions,
        prefix: &str,
        mut report: impl FnMut(&str, String),
    ) -> Option<Self> {
        let mut failed = false;
        let mut report = |key: &str, message: String| {
            failed = true;
            report(&format!("{prefix}.{key}"), message);
        };
        report_unsupported(&options, &mut report);
        let key_pem = options.key_pem.map(|text| text.expose().to_owned());
        let authorities = pem("ca", options.ca_file, options.ca_pem, &mut report);
        let certificate = pem("cert", options.cert_file, options.cert_pem, &mut report);
        let key = pem("key", options.key_file, key_pem, &mut report);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                report("key_file", "the certificate needs its key".to_owned());
                None
            }
            (None, Some(_)) => {
                report("cert_file", "the key needs its certificate".to_owned());
                None
            }
        };
        let name = options.server_name_override;
        let server_name = (!name.is_empty()).then(|| ServerName::try_from(name));
        let server_name = server_name.transpose().unwrap_or_else(|error| {
            report("server_name_override", format!("is not a name: {error}"));
            None
        });
        let min_version = options.min_version.unwrap_or(TlsVersion::V1_2);
        let max_version = options.max_version.unwrap_or(TlsVersion::V1_3);
        if min_version > max_version {
            report("min_version", "must not be above max_version".to_owned());
        }
        let settings = Self {
            insecure: options.insecure && authorities.is_none(),
            server_name,
            trust: match authorities {
                _ if options.insecure_skip_verify => Trust::Anybody,
                None => Trust::System,
                Some(authorities) => Trust::Given {
                    authorities,
                    and_system: options.include_system_ca_certs_pool,
                },
            },
            identity,
            min_version,
            max_version,
        };
        (!failed).then_some(settings)
    }

    /// The configuration that offers `protocols` by ALPN, most wanted first. Reads the files.
    ///
    /// # Errors
    /// When files cannot be read, hold no certificate or key, or key and certificate do not fit; with keys below `tls`.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, ComponentError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = self.identity.as_ref().map(|(certificate, key)| {
            let chain = certificate.certificates("cert");
            let (chain, key) = ComponentError::both(chain, key.private_key("key"))?;
            Ok((certificate, chain, key))
        });
        let verifier = self.verifier(Arc::clone(&provider));
        let (identity, verifier) = ComponentError::both(identity.transpose(), verifier)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&tls::versions(self.min_version, self.max_version))
            .map_err(|error| tls::unusable(error).at("min_version"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| certificate.failed("cert", format!("cannot be used: {error}")))?,
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, ComponentError> {
        let (roots, given, authorities) = match &self.trust {
            Trust::Anybody => return Ok(Arc::new(Verifier::of_anybody(provider))),
            Trust::System => (system_roots(), Vec::new(), None),
            Trust::Given {
                authorities,
                and_system,
            } => {
                let given = authorities.certificates("ca")?;
                let mut roots = authorities.roots("ca", &given)?;
                if *and_system {
                    roots.roots.extend(system_roots().roots);
                }
                (roots, given, Some(authorities))
            }
        };
        let verifier =
            Verifier::of_trusted(roots, given, provider).map_err(|error| match authorities {
                Some(authorities) => authorities.failed("ca", error),
                None => {
                    let cause = format!("the system's authorities cannot be used: {error}");
                    tls::unusable(cause).at("ca_file")
                }
            })?;
        Ok(Arc::new(verifier))
    }
}

/// The authorities that the system trusts, and Mozilla's list where it has none, as in an image without any files.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some certificates of the system cannot be read");
    }
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if ignored > 0 {
        tracing::debug!(ignored, "some certificates of the system are not usable");
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn report_unsupported(options: &ClientTlsOptions, report: &mut impl FnMut(&str, String)) {
    let fields = [
        ("cipher_suites", &options.cipher_suites),
        (
            "include_insecure_cipher_suites",
            &options.include_insecure_cipher_suites,
        ),
        ("curve_preferences", &options.curve_preferences),
        ("tpm", &options.tpm),
    ];
    for (key, _) in fields.iter().filter(|(_, value)| value.is_some()) {
        report(
            key,
            "the Collector has this, Tidegate does not: this part of `configtls` is not supported"
                .to_owned(),
        );
    }
}

fn pem(
    what: &str,
    file: Option<String>,
    text: Option<String>,
    report: &mut impl FnMut(&str, String),
) -> Option<Pem> {
    // The Collector takes an empty text for an absent one.
    let file = file.filter(|path| !path.is_empty());
    let text = text.filter(|text| !text.is_empty());
    match (file, text) {
        (Some(path), None) => Some(Pem::File(PathBuf::from(path))),
        (None, Some(text)) => Some(Pem::Text(text)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            report(
                &format!("{what}_pem"),
                format!("give `{what}_file` or `{what}_pem`, not both"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::net::tls::TlsSettings;

    const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp_receiver/certs");

    fn file(name: &str) -> String {
        format!("{CERTS}/{name}")
    }

    fn resolve(text: &str) -> Result<ClientTlsSettings, String> {
        let options: ClientTlsOptions = toml::from_str(text).unwrap();
        let mut problems = String::new();
        ClientTlsSettings::resolve(options, "tls", |key, message| {
            problems += &format!("{key}: {message}\n");
        })
        .ok_or(problems)
    }

    #[test]
    fn mistakes_are_explained() {
        let check = |text: &str, expected: &str| {
            let problems = resolve(text).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
        };
        check("cert_file = 'x'", "tls.key_file: the certificate needs");
        check("key_file = 'x'", "tls.cert_file: the key needs");
        check("ca_file = 'x'\nca_pem = 'y'", "tls.ca_pem: give `ca_file`");
        check("server_name_override = 'a b'", "is not a name");
        check("min_version = '1.3'\nmax_version = '1.2'", "min_version");
    }

    #[test]
    fn files_are_read_when_the_client_is_built() {
        let check = |text: &str, expected: &str| {
            let problem = resolve(text).unwrap().client_config(&[]).unwrap_err();
            let problem = format!("{}: {}", problem.key, problem.cause);
            assert!(problem.starts_with(expected), "{text}: {problem}");
        };
        check(
            "ca_file = '/does/not/exist'",
            "ca_file: /does/not/exist: No",
        );
        check("ca_pem = 'text'", "ca_pem: no certificate found");
        let (certificate, key) = (file("client.crt"), file("server.key"));
        check(
            &format!("cert_file = '{certificate}'\nkey_file = '{certificate}'"),
            &format!("key_file: {certificate}: no private key"),
        );
        check(
            &format!("cert_file = '{certificate}'\nkey_file = '{key}'"),
            &format!("cert_file: {certificate}: cannot be used"),
        );
    }

    #[test]
    fn without_options_the_system_is_trusted() {
        assert_eq!(resolve("").unwrap(), ClientTlsSettings::default());
        assert!(!system_roots().is_empty());
        ClientTlsSettings::default().client_config(&[]).unwrap();
    }

    #[test]
    fn insecure_gives_way_to_an_authority() {
        assert!(resolve("insecure = true").unwrap().insecure);
        let with_authority = resolve("insecure = true\nca_file = 'x'").unwrap();
        assert!(!with_authority.insecure);
    }

    #[test]
    fn nothing_shows_the_key() {
        let settings = resolve("cert_pem = 'x'\nkey_pem = 'hunter2'").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    /// Whether a client with these options comes to terms with a server for `localhost` that asks for certificates if
    /// `client_ca`, and is reached as `name`.
    async fn handshake(text: &str, name: &str, client_ca: bool, max_version: TlsVersion) -> bool {
        let (certificate, key) = (file("server.crt"), file("server.key"));
        handshake_with(
            server(&certificate, &key, client_ca, max_version),
            text,
            name,
        )
        .await
    }

    fn server(
        certificate: &str,
        key: &str,
        client_ca: bool,
        max_version: TlsVersion,
    ) -> TlsSettings {
        TlsSettings {
            certificates: Pem::File(certificate.into()),
            key: Pem::File(key.into()),
            client_ca: client_ca.then(|| Pem::File(file("ca.crt").into())),
            min_version: TlsVersion::V1_2,
            max_version,
        }
    }

    async fn handshake_with(server: TlsSettings, text: &str, name: &str) -> bool {
        let acceptor = TlsAcceptor::from(server.server_config(&[]).unwrap());
        let settings = resolve(text).unwrap();
        let connector = TlsConnector::from(Arc::new(settings.client_config(&[]).unwrap()));
        let name = settings
            .server_name
            .unwrap_or_else(|| ServerName::try_from(name.to_owned()).unwrap());
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let client = async {
            let mut stream = connector.connect(name, ours).await?;
            stream.flush().await?;
            // Kept open: the server still sends tickets.
            std::io::Result::Ok(stream)
        };
        // A client learns after its own handshake only that its certificate is not welcome: the server knows.
        let (client, server) = tokio::join!(client, acceptor.accept(theirs));
        client.is_ok() && server.is_ok()
    }

    #[tokio::test]
    async fn servers_are_verified() {
        let ca = format!("ca_file = '{}'\n", file("ca.crt"));
        let text = std::fs::read_to_string(file("ca.crt")).unwrap();
        let pem = format!("ca_pem = '''{text}'''\ninclude_system_ca_certs_pool = true");
        let both = async |options: &str, name: &str| {
            let old = handshake(options, name, false, TlsVersion::V1_2).await;
            let new = handshake(options, name, false, TlsVersion::V1_3).await;
            assert_eq!(old, new, "{options}");
            new
        };
        assert!(both(&ca, "localhost").await);
        assert!(both(&pem, "localhost").await);
        assert!(!both("", "localhost").await, "nobody knows this authority");
        assert!(!both(&ca, "elsewhere").await, "the name is another");
        let named = format!("{ca}server_name_override = 'localhost'");
        assert!(both(&named, "elsewhere").await);
        assert!(both("insecure_skip_verify = true", "elsewhere").await);
    }

    /// As `openssl req -x509` makes certificates: signed by themselves, and said to be an authority's.
    #[tokio::test]
    async fn a_servers_own_certificate_is_trusted_as_it_is() {
        let is_trusted = async |options: &str, name: &str| {
            let (certificate, key) = (file("own.crt"), file("own.key"));
            let mut outcomes = Vec::new();
            for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
                let server = server(&certificate, &key, false, version);
                outcomes.push(handshake_with(server, options, name).await);
            }
            assert_eq!(outcomes[0], outcomes[1], "{options}");
            outcomes[0]
        };
        let own = format!("ca_file = '{}'\n", file("own.crt"));
        assert!(is_trusted(&own, "localhost").await);
        assert!(!is_trusted(&own, "elsewhere").await, "the name is another");
        let other = format!("ca_file = '{}'\n", file("ca.crt"));
        assert!(!is_trusted(&other, "localhost").await, "nobody gave this");
        assert!(!is_trusted("", "localhost").await, "nobody gave any");
    }

    #[tokio::test]
    async fn versions_are_bounded() {
        let ca = format!("ca_file = '{}'\n", file("ca.crt"));
        let new = format!("{ca}min_version = '1.3'");
        assert!(!handshake(&new, "localhost", false, TlsVersion::V1_2).await);
        assert!(handshake(&new, "localhost", false, TlsVersion::V1_3).await);
        let old = format!("{ca}max_version = '1.2'");
        assert!(handshake(&old, "localhost", false, TlsVersion::V1_3).await);
    }

    #[tokio::test]
    async fn a_certificate_is_shown_where_one_is_asked_for() {
        let ca = format!("ca_file = '{}'\n", file("ca.crt"));
        let (certificate, key) = (file("client.crt"), file("client.key"));
        let identity = format!("{ca}cert_file = '{certificate}'\nkey_file = '{key}'");
        assert!(!handshake(&ca, "localhost", true, TlsVersion::V1_3).await);
        assert!(handshake(&identity, "localhost", true, TlsVersion::V1_3).await);
        assert!(handshake(&identity, "localhost", true, TlsVersion::V1_2).await);
    }
}
