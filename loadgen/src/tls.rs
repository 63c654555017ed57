//! TLS to whatever is put under load.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom to trust.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Trust the certificate authorities of this PEM file, and not the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any certificate: the server may be anybody
    #[arg(short = 'k', long, conflicts_with = "ca")]
    insecure: bool,
}

/// HTTP/1.1 as TLS names it.
pub(crate) const HTTP1: &[u8] = b"http/1.1";
/// HTTP/2.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Makes connections to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
    /// What HTTP is spoken; the server must agree.
    application: &'static [u8],
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "TLS to {:?}", self.server)
    }
}

impl Options {
    /// What an address with this scheme needs: nothing for `http`. The server's certificate must be for its `host`.
    ///
    /// # Errors
    /// The file has no certificates, the system has none, the host is no name, or options are for nothing.
    pub(crate) fn of(
        &self,
        scheme: Option<&str>,
        host: &str,
        application: &'static [u8],
    ) -> anyhow::Result<Option<Tls>> {
        if scheme == Some("https") {
            return self.for_host(host, application).map(Some);
        }
        ensure!(
            self.ca.is_none() && !self.insecure,
            "--ca and --insecure are for `https://` addresses"
        );
        Ok(None)
    }

    fn for_host(&self, host: &str, application: &'static [u8]) -> anyhow::Result<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("cannot speak TLS")?;
        let verifier = self.verifier(provider)?;
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![application.to_vec()];
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let server = ServerName::try_from(bare.to_owned());
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            server: server.with_context(|| format!("`{host}` is no name of a server"))?,
            application,
        })
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ServerCertVerifier>> {
        let trust = match self.insecure {
            true => None,
            false => Some(self.trust(Arc::clone(&provider))?),
        };
        Ok(Arc::new(Verifier { provider, trust }))
    }

    fn trust(&self, provider: Arc<CryptoProvider>) -> anyhow::Result<Trust> {
        let (roots, given) = match &self.ca {
            Some(path) => given(path)?,
            None => (system()?, Vec::new()),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let authorities = verifier.build().context("cannot verify certificates")?;
        Ok(Trust { authorities, given })
    }
}

/// The authorities that the system trusts.
fn system() -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    ensure!(
        !roots.is_empty(),
        "this system has no certificate authorities; give --ca FILE"
    );
    Ok(roots)
}

/// The certificates of a file, as authorities and as they are.
fn given(path: &Path) -> anyhow::Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
    let file = || path.display();
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", file()))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.with_context(|| format!("{} is no PEM", file()))?;
    ensure!(!certificates.is_empty(), "{} has no certificate", file());
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.with_context(|| format!("{} has a bad certificate", file()))?;
    }
    Ok((roots, certificates))
}

impl Tls {
    /// # Errors
    /// The handshake comes to nothing, or the server does not speak the HTTP that was asked for.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.connector.connect(self.server.clone(), stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        // A server that does not say takes what comes first, which is HTTP/1.1.
        let is_ours = match agreed {
            Some(agreed) => agreed == self.application,
            None => self.application == HTTP1,
        };
        match is_ours {
            true => Ok(stream),
            false => Err(io::Error::other("the server does not speak HTTP/2")),
        }
    }
}

/// Checks that the server has its key, and that its certificate is one to be trusted.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` takes every certificate.
    trust: Option<Trust>,
}

/// What an authority has signed, and a server's own certificate that was given as it is, even if it says that it is an
/// authority: `openssl req -x509` makes such, and rustls takes them for authorities only.
#[derive(Debug)]
struct Trust {
    authorities: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(Trust { authorities, given }) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        match authorities.verify_server_cert(certificate, chain, server, ocsp, now) {
            Err(error) if is_authority(&error) && given.contains(certificate) => {
                // What webpki looks at before, the times, is good.
                verify_server_name(&ParsedCertificate::try_from(certificate)?, server)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The certificate was refused because it says that it is an authority.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(cause)) = error else {
        return false;
    };
    matches!(
        cause.0.downcast_ref(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}
