//! TLS: both protocols, versions, and clients that must show a certificate.
//!
//! `certs/` has a CA, a server and a client certificate for `localhost`, valid for a hundred years.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tidegate::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Harness, head, read_answer, traces};

const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp_receiver/certs");

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(format!("{CERTS}/{name}.crt")).unwrap()
}

fn start(extra: &str) -> Harness {
    let tls = |protocol: &str| {
        format!(
            "[protocols.{protocol}]\nendpoint = \"127.0.0.1:0\"\n[protocols.{protocol}.tls]\ncert_file = \"{CERTS}/server.crt\"\nkey_file = \"{CERTS}/server.key\"\n{extra}\n"
        )
    };
    Harness::start_with(&(tls("grpc") + &tls("http")), &Signal::ALL)
}

async fn connect(
    address: &str,
    protocol: &[u8],
    version: &'static SupportedProtocolVersion,
    client: bool,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if client {
        let key = PrivateKeyDer::from_pem_file(format!("{CERTS}/client.key")).unwrap();
        builder
            .with_client_auth_cert(vec![certificate("client")], key)
            .unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// The status of a request over TLS; 0 when there is none.
async fn post(harness: &Harness, version: &'static SupportedProtocolVersion, client: bool) -> u16 {
    let Ok(mut stream) = connect(&harness.http, b"http/1.1", version, client).await else {
        return 0;
    };
    let body = traces(1);
    let request = [head(body.len()).as_bytes(), &body].concat();
    // A server that refuses the certificate closes at any time from here on.
    let _sent = stream.write_all(&request).await;
    read_answer(&mut stream).await.status
}

#[tokio::test]
async fn both_protocols_speak_tls() {
    let harness = start("");
    assert_eq!(post(&harness, &version::TLS13, false).await, 200);
    assert_eq!(post(&harness, &version::TLS12, false).await, 200);
    let stream = connect(&harness.grpc, b"h2", &version::TLS13, false)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let plain = harness
        .raw(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(plain.status, 0);
    drop(stream);
    harness.stop().await;
}

#[tokio::test]
async fn old_versions_can_be_refused() {
    let harness = start("min_version = \"1.3\"");
    assert_eq!(post(&harness, &version::TLS12, false).await, 0);
    assert_eq!(post(&harness, &version::TLS13, false).await, 200);
    harness.stop().await;
}

#[tokio::test]
async fn clients_must_show_a_certificate_where_that_is_asked() {
    let harness = start(&format!("client_ca_file = \"{CERTS}/ca.crt\""));
    assert_eq!(post(&harness, &version::TLS13, false).await, 0);
    assert_eq!(post(&harness, &version::TLS12, false).await, 0);
    assert_eq!(post(&harness, &version::TLS13, true).await, 200);
    assert!(harness.captured().len() == 1);
    harness.stop().await;
}
