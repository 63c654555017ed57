//! The configuration: what is accepted, and what is refused with the key and a reason.

use tidegate::config::{Diagnostics, Section};
use tidegate::receivers::otlp::OtlpSettings;

fn parse(text: &str) -> (Option<OtlpSettings>, String) {
    let mut found = Diagnostics::default();
    let settings = {
        let mut section = Section::from_text("receivers.otlp", text, &mut found).unwrap();
        OtlpSettings::parse(&mut section)
    };
    (settings, found.to_string())
}

#[test]
fn good_options_are_accepted() {
    for text in [
        "[protocols.grpc]",
        "[protocols.http]",
        "[protocols]\ngrpc = {}\nhttp = {}",
        "[protocols.grpc]\nmax_recv_msg_size_mib = 64\nmax_concurrent_streams = 16\n[protocols.grpc.keepalive.server_parameters]\ntime = \"30s\"\nmax_connection_age = \"1h\"",
        "[protocols.http]\nmax_request_body_size = \"5MiB\"\nread_timeout = 0\nidle_timeout = \"1m30s\"",
        "[protocols.http]\ninclude_metadata = false\ncompression_algorithms = []",
    ] {
        let (settings, found) = parse(text);
        assert!(settings.is_some() && found.is_empty(), "{text}: {found}");
    }
}

fn check(text: &str, key: &str, reason: &str) {
    let (_, found) = parse(text);
    assert!(found.contains("error: "), "{text}: {found}");
    assert!(
        found.contains(key) && found.contains(reason),
        "{text}: {found}"
    );
}

#[test]
fn bad_options_are_refused_with_their_key() {
    check("protocols = {}", "protocols", "at least one protocol");
    check("", "receivers.otlp", "protocols");
    check("[protocols.tcp]", "", "tcp");
    check(
        "[protocols.grpc]\nendpoint = \"localhost\"",
        "protocols.grpc.endpoint",
        "host:port",
    );
    check(
        "[protocols.grpc]\ntransport = \"udp\"",
        "protocols.grpc.transport",
        "udp",
    );
    check(
        "[protocols.grpc]\nmax_recv_msg_size_mib = 0",
        "max_recv_msg_size_mib",
        "from 1",
    );
    check(
        "[protocols.grpc]\nmax_recv_msg_size_mib = 5000",
        "max_recv_msg_size_mib",
        "4094",
    );
    check(
        "[protocols.grpc.auth]\nrequest_params = [\"token\"]",
        "protocols.grpc.auth.request_params",
        "credentials in a query",
    );
    check(
        "[protocols.http]\ninclude_metadata = true",
        "include_metadata",
        "Tidegate does not",
    );
    check(
        "[protocols.http]\nmiddlewares = []",
        "middlewares",
        "not supported",
    );
    check(
        "[protocols.http]\nlogs_url_path = \"/v1/traces\"",
        "logs_url_path",
        "taken",
    );
    check(
        "[protocols.http]\nlogs_url_path = \"/v1/{x}\"",
        "logs_url_path",
        "not a path",
    );
    check(
        "[protocols.http]\ncompression_algorithms = [\"br\"]",
        "compression_algorithms: unknown encoding `br`: use gzip, zstd, zlib, deflate, snappy, x-snappy-framed, lz4, or \"\" for none",
        "gzip",
    );
    check(
        "[protocols.http.response_headers]\n\"a b\" = \"x\"",
        "response_headers",
        "valid",
    );
}

#[test]
fn bad_tls_options_are_refused_with_their_key() {
    check(
        "[protocols.http.tls]\ncert_file = \"a\"",
        "tls.key_file",
        "key_file",
    );
    check(
        "[protocols.http.tls]\ncert_file = \"a\"\ncert_pem = \"b\"\nkey_file = \"c\"",
        "tls.cert_pem",
        "not both",
    );
    check(
        "[protocols.http.tls]\ncert_file = \"a\"\nkey_file = \"b\"\ncipher_suites = []",
        "cipher_suites",
        "not supported",
    );
    check(
        "[protocols.http.tls]\ncert_file = \"a\"\nkey_file = \"b\"\nmin_version = \"1.1\"",
        "",
        "1.2",
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let (_, found) =
        parse("[protocols.grpc]\nendpoint = \"x\"\nauth = {}\n[protocols.http]\nendpoint = \"y\"");
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn fields_without_effect_are_warned_about() {
    let (settings, found) = parse(
        "[protocols.grpc]\nread_buffer_size = 1024\n[protocols.grpc.keepalive.enforcement_policy]\nmin_time = \"1m\"",
    );
    assert!(settings.is_some());
    assert_eq!(found.matches("without effect").count(), 2, "{found}");
}

#[test]
fn keys_in_settings_are_not_printed() {
    let (settings, _) = parse("[protocols.http.tls]\ncert_pem = \"CERT\"\nkey_pem = \"SECRET\"");
    assert!(!format!("{settings:?}").contains("SECRET"));
}
