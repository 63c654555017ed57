//! A server behind TLS whose certificate a private authority has signed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tidegate::batch::Chunk;
use tidegate::signal::Signal;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{Database, Exporter, golden_request, until};

/// A CA, and a server's and a client's certificate for `localhost`, valid for a hundred years.
const CERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent/tests/otlp_receiver/certs"
);

/// Speaks TLS with clients that show a certificate and plain HTTP with the database.
struct Terminator {
    port: u16,
    /// Handshakes that came to nothing.
    refused: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Terminator {
    async fn start(to: SocketAddr) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config()?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&refused);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                match acceptor.accept(client).await {
                    Ok(client) => _ = tokio::spawn(relay(client, to)),
                    Err(_) => _ = counted.fetch_add(1, Ordering::SeqCst),
                }
            }
        });
        Ok(Self {
            port,
            refused,
            accepting,
        })
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(mut client: TlsStream<TcpStream>, to: SocketAddr) -> Result<()> {
    let mut server = TcpStream::connect(to).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn server_config() -> Result<ServerConfig> {
    let certificate = |name: &str| CertificateDer::from_pem_file(format!("{CERTS}/{name}.crt"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(certificate("ca")?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(clients.into(), Arc::clone(&provider))
            .build()?;
    let key = PrivateKeyDer::from_pem_file(format!("{CERTS}/server.key"))?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate("server")?], key)?)
}

fn identity() -> String {
    format!("cert_file = \"{CERTS}/client.crt\", key_file = \"{CERTS}/client.key\"")
}

#[tokio::test]
async fn a_private_authority_and_a_certificate_of_our_own() -> Result<()> {
    let database = Database::start()?;
    let server = Terminator::start(database.address()?).await?;
    let url = format!("https://localhost:{}", server.port);
    let identity = identity();
    let trust = format!("ca_file = \"{CERTS}/ca.crt\"");

    let wrong = [
        ("an unknown authority", identity.clone()),
        ("no certificate shown", trust.clone()),
        (
            "another name",
            format!("{trust}, {identity}, server_name_override = \"example.com\""),
        ),
    ];
    for (what, tls) in wrong {
        let before = server.refused.load(Ordering::SeqCst);
        let exporter = Exporter::to(&url, &format!("tls = {{ {tls} }}"))?;
        let payload = Chunk::new(golden_request(Signal::Traces)?, 1).into();
        let _unanswered = exporter.push(Signal::Traces, payload)?;
        until(|| Ok(server.refused.load(Ordering::SeqCst) > before))
            .await
            .context(what)?;
    }
    assert_eq!(database.query("SHOW TABLES").await?, "");

    let options = format!("tls = {{ {trust}, {identity}, min_version = \"1.3\" }}");
    let exporter = Exporter::to(&url, &options)?;
    exporter
        .store(Signal::Traces, golden_request(Signal::Traces)?)
        .await?;
    let count = database.query("SELECT count() FROM otel_traces").await?;
    assert_eq!(count, "62");
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is() -> Result<()> {
    let database = Database::start()?;
    let server = Terminator::start(database.address()?).await?;
    let url = format!("https://127.0.0.1:{}", server.port);
    let options = format!("tls = {{ {}, insecure_skip_verify = true }}", identity());
    let exporter = Exporter::to(&url, &options)?;
    exporter
        .store(Signal::Traces, golden_request(Signal::Traces)?)
        .await
}
