//! `loadgen http` and `loadgen otlp` over TLS, to servers with a certificate for `localhost` of an authority of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{Version, uri};
use axum::response::IntoResponse as _;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// An authority, and a server's and a client's certificate for `localhost`, valid for a hundred years.
const CERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent/tests/otlp_receiver/certs"
);

fn certificate(name: &str) -> String {
    format!("{CERTS}/{name}.crt")
}

/// Certificates for `localhost` of one key, as `openssl req -x509` makes them, which says that each is an authority: `own`,
/// valid for a hundred years, and `expired`.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certs");

/// Connections whose handshake came to something.
struct Secured {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What was asked for, and how.
type Seen = Arc<Mutex<Vec<(String, Version)>>>;

/// A server that speaks `applications` and answers everything well, over gRPC as well; its port.
async fn serve(applications: &[&str]) -> (u16, Seen) {
    serve_at("127.0.0.1:0", applications).await
}

async fn serve_at(address: &str, applications: &[&str]) -> (u16, Seen) {
    let key = format!("{CERTS}/server.key");
    serve_as(&certificate("server"), &key, address, applications).await
}

async fn serve_as(
    certificate: &str,
    key: &str,
    address: &str,
    applications: &[&str],
) -> (u16, Seen) {
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = applications
        .iter()
        .map(|it| it.as_bytes().to_vec())
        .collect();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let entry = (request.uri().path().to_owned(), request.version());
        let is_secure = request
            .uri()
            .scheme()
            .is_none_or(|it| *it == uri::Scheme::HTTPS);
        log.lock().unwrap().push(entry);
        async move {
            assert!(is_secure);
            drop(axum::body::to_bytes(request.into_body(), 1 << 24).await);
            [("grpc-status", "0")].into_response()
        }
    });
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let secured = Secured { listener, acceptor };
    tokio::spawn(async move { axum::serve(secured, app).await.unwrap() });
    (port, seen)
}

/// The status, and everything it said.
async fn loadgen(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(args)
        // What the system trusts.
        .env("SSL_CERT_FILE", certificate("ca"))
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.await.unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

const ANY: [&str; 2] = ["h2", "http/1.1"];

#[tokio::test]
async fn requests_go_over_tls_with_either_http() {
    let (port, seen) = serve(&ANY).await;
    let url = format!("https://localhost:{port}/x");
    let ca = certificate("ca");
    for (more, version) in [
        (vec!["--ca", &ca], Version::HTTP_11),
        (vec!["--ca", &ca, "--http2"], Version::HTTP_2),
        (vec![], Version::HTTP_11),
        (vec!["-k", "--http2"], Version::HTTP_2),
    ] {
        let args = [
            ["http", &url, "-n", "20", "-w", "2", "--no-tui"].as_slice(),
            &more,
        ]
        .concat();
        let (status, said) = loadgen(&args).await;
        assert_eq!(status, Some(0), "{more:?}: {said}");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen, vec![("/x".to_owned(), version); 20], "{more:?}");
    }
}

#[tokio::test]
async fn a_scenario_goes_over_tls_as_well() {
    let (port, seen) = serve(&ANY).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.toml");
    let scenario = format!(
        "target = 'https://localhost:{port}/a'\ndefaults = {{ http2 = true, connections = 1 }}\n[[scenario]]\n\
         executor = 'closed'\nrequests = 5\n[[scenario.request]]\npath = '/b'\n"
    );
    std::fs::write(&path, scenario).unwrap();
    let ca = certificate("ca");
    let path = path.display().to_string();
    let (status, said) = loadgen(&["http", "--scenario", &path, "--ca", &ca, "--no-tui"]).await;
    // A busy machine says nothing of latencies; that all was sent is what counts here.
    assert!(matches!(status, Some(0 | 1)), "{said}");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(
        seen,
        vec![("/a/b".to_owned(), Version::HTTP_2); 5],
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_gets_nothing() {
    let (port, seen) = serve(&ANY).await;
    let (other_port, seen_there) = serve_at("127.0.0.2:0", &ANY).await;
    let (ca, other) = (certificate("ca"), certificate("client"));
    let (named, numbered) = (
        format!("https://localhost:{port}/"),
        format!("https://127.0.0.2:{other_port}/"),
    );
    for (url, more, expected) in [
        (&named, ["--ca", &other], "invalid peer certificate"),
        (&numbered, ["--ca", &ca], "not valid for name"),
    ] {
        let args = [
            ["http", url, "-n", "3", "-w", "1", "--no-tui"].as_slice(),
            &more,
        ]
        .concat();
        let (status, said) = loadgen(&args).await;
        assert_eq!(status, Some(99), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
        let args = [["otlp", url, "-n", "100"].as_slice(), &more].concat();
        let (status, said) = loadgen(&args).await;
        assert_eq!(status, Some(1), "{more:?}: {said}");
        assert!(said.contains("TLS: "), "{more:?}: {said}");
    }
    for seen in [seen, seen_there] {
        assert_eq!(*seen.lock().unwrap(), []);
    }
}

#[tokio::test]
async fn a_certificate_that_was_given_is_taken_though_it_is_an_authority() {
    let serve = async |name: &str| {
        let (certificate, key) = (format!("{OWN}/{name}.crt"), format!("{OWN}/own.key"));
        let (port, _) = serve_as(&certificate, &key, "127.0.0.1:0", &ANY).await;
        (certificate, port)
    };
    let (own, port) = serve("own").await;
    let (expired, expired_port) = serve("expired").await;
    let ca = certificate("ca");
    for (host, port, ca, expected) in [
        ("localhost", port, &own, None),
        ("127.0.0.1", port, &own, Some("not valid for name")),
        // Another certificate of the same name and key.
        ("localhost", port, &expired, Some("CaUsedAsEndEntity")),
        ("localhost", port, &ca, Some("invalid peer certificate")),
        (
            "localhost",
            expired_port,
            &expired,
            Some("certificate expired"),
        ),
    ] {
        let url = format!("https://{host}:{port}/");
        let args = ["http", &url, "-n", "3", "-w", "1", "--no-tui", "--ca", ca];
        let (status, said) = loadgen(&args).await;
        let wanted = if expected.is_some() { 99 } else { 0 };
        assert_eq!(status, Some(wanted), "{args:?}: {said}");
        assert!(
            said.contains(expected.unwrap_or_default()),
            "{args:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_server_without_http2_is_told() {
    // One that does not say what it speaks, and one that says so.
    for applications in [[].as_slice(), &["http/1.1"]] {
        let (port, seen) = serve(applications).await;
        let url = format!("https://localhost:{port}/");
        let (status, said) = loadgen(&["http", &url, "-n", "2", "-w", "1", "--http2"]).await;
        assert_eq!(status, Some(99), "{said}");
        assert!(said.contains("connect: "), "{said}");
        assert_eq!(*seen.lock().unwrap(), []);
    }
}

#[tokio::test]
async fn telemetry_goes_over_tls_with_either_protocol() {
    let (port, seen) = serve(&ANY).await;
    let endpoint = format!("https://localhost:{port}");
    let ca = certificate("ca");
    for (protocol, path, version) in [
        ("http", "/v1/logs", Version::HTTP_11),
        (
            "grpc",
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Version::HTTP_2,
        ),
    ] {
        let load = ["otlp", &endpoint, "-s", "logs", "-n", "300", "-b", "100"];
        let args = [load.as_slice(), &["-p", protocol, "--ca", &ca]].concat();
        let (status, said) = loadgen(&args).await;
        assert_eq!(status, Some(0), "{protocol}: {said}");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen, vec![(path.to_owned(), version); 3], "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anything_is_sent() {
    for (args, expected) in [
        (
            ["http", "https://a/", "--ca", "nowhere.pem"],
            "cannot read nowhere.pem",
        ),
        (
            ["http", "https://a/", "--ca", "Cargo.toml"],
            "has no certificate",
        ),
        (
            ["otlp", "http://a", "--ca", "Cargo.toml"],
            "are for `https://` addresses",
        ),
    ] {
        let (status, said) = loadgen(&args).await;
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
