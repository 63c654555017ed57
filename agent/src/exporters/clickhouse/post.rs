//! One insert over HTTP, and a hard look at the answer: only a success with nothing in it is one.
//!
//! A server that has begun to answer can only say in the body that it failed: as bare text, or between tags since 25.11,
//! in as many pieces as it likes. An insert has nothing else to say there, so any word is a failure.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;

use super::endpoint::Endpoint;
use super::failure::Failure;
use crate::auth::Pass;
use crate::exporters::hint::retry_after;

/// Connections to all servers of an exporter. Cloning shares them.
pub(super) type Connections = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// An answer is read up to here: an exception with a stack trace takes a fraction.
const ANSWER_MAX: usize = 64 << 10;
/// Where the server says that a statement failed although the status was sent before.
const EXCEPTION_CODE: &str = "x-clickhouse-exception-code";

/// What goes with the data.
pub(super) struct Insert<'a> {
    /// `INSERT INTO …`.
    pub(super) statement: &'a str,
    /// Settings for it.
    pub(super) settings: &'a [(&'a str, &'a str)],
    /// What is shown to the server, besides the endpoint's user.
    pub(super) pass: &'a Pass,
}

/// Sends `body` as the data of an insert.
///
/// # Errors
/// Whatever keeps the answer from being an empty success.
pub(super) async fn insert(
    connections: &Connections,
    endpoint: &Endpoint,
    insert: Insert<'_>,
    body: Bytes,
) -> Result<(), Failure> {
    let mut request = request(endpoint, insert.statement, insert.settings, body)?;
    insert.pass.show(request.headers_mut());
    let answer = connections
        .request(request)
        .await
        .map_err(|error| match error.is_connect() {
            true => Failure::unsent(&error),
            false => Failure::unreachable(&error),
        })?;
    let (parts, body) = answer.into_parts();
    let read = Limited::new(body, ANSWER_MAX).collect().await;
    let code = parts
        .headers
        .get(EXCEPTION_CODE)
        .and_then(|code| code.to_str().ok());
    let body = match read {
        Ok(body) => body.to_bytes(),
        // What was said before the answer broke off is lost: the status, if it is bad, says enough.
        Err(error) if parts.status.is_success() && code.is_none() => {
            return Err(Failure::unreachable(error.as_ref()));
        }
        Err(_) => Bytes::new(),
    };
    if parts.status.is_success() && code.is_none() && body.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body);
    let after = retry_after(&parts.headers, SystemTime::now());
    Err(Failure {
        after,
        ..failure(parts.status, code, text.trim())
    })
}

fn failure(status: StatusCode, code: Option<&str>, text: &str) -> Failure {
    match (text, code) {
        ("", Some(code)) => Failure::said(&format!("Code: {code}.")),
        ("", None) => Failure::said(&format!(
            "{} {}",
            status.as_str(),
            status.canonical_reason().unwrap_or_default()
        )),
        (text, None) if status.is_success() && !text.contains("Code: ") => Failure::nonsense(text),
        (text, _) => Failure::said(text),
    }
}

fn request(
    endpoint: &Endpoint,
    statement: &str,
    settings: &[(&str, &str)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("query", statement);
    // The operator's settings win over ours.
    let is_ours = |(name, _): &&(&str, &str)| !endpoint.settings.contains_key(*name);
    for (name, value) in settings.iter().filter(is_ours) {
        query.append_pair(name, value);
    }
    for (name, value) in &endpoint.settings {
        query.append_pair(name, value);
    }
    let base = endpoint.url.trim_end_matches('/');
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{base}/?{}", query.finish()))
        .header(
            http::header::USER_AGENT,
            concat!("tidegate/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(user) = &endpoint.username {
        request = request.header("x-clickhouse-user", user);
    }
    if let Some(password) = &endpoint.password {
        request = request.header("x-clickhouse-key", password.expose());
    }
    request
        .body(Full::new(body))
        .map_err(|error| Failure::unsent(&error))
}

#[cfg(test)]
mod tests {
    use super::super::failure::Class;
    use super::*;

    #[test]
    fn whatever_is_said_after_a_success_is_a_failure() {
        let check = |status: u16, code: Option<&str>, text: &str, expected: Class| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(failure(status, code, text).class, expected, "{text}");
        };
        check(
            200,
            None,
            "Code: 241. DB::Exception: Memory limit exceeded",
            Class::Unavailable,
        );
        check(
            200,
            None,
            "__exception__\r\nabc\r\nCode: 60. DB::Exception: no\n30 abc\r\n__exception__",
            Class::Schema,
        );
        check(200, Some("469"), "", Class::Rejected);
        check(200, Some("241"), "whatever", Class::Unreachable);
        check(200, None, "<html>Welcome</html>", Class::Unreachable);
        check(200, None, "400 ways to say no", Class::Unreachable);
        check(500, None, "Code: 469. DB::Exception: no", Class::Rejected);
        check(503, None, "", Class::Unreachable);
        check(413, None, "", Class::TooLarge);
    }

    #[test]
    fn the_operators_settings_win() {
        let endpoint = Endpoint {
            url: "http://ch:8123/path/".to_owned(),
            username: Some("me".to_owned()),
            password: None,
            settings: [("async_insert".to_owned(), "1".to_owned())].into(),
        };
        let ours = [("async_insert", "0"), ("decompress", "1")];
        let request = request(&endpoint, "INSERT INTO `a b`", &ours, Bytes::new()).unwrap();
        assert_eq!(
            request.uri(),
            "http://ch:8123/path/?query=INSERT+INTO+%60a+b%60&decompress=1&async_insert=1"
        );
        assert_eq!(request.headers()["x-clickhouse-user"], "me");
    }

    /// What an insert of 20 MiB comes to when the server says this before it reads the body.
    async fn refused(answer: &'static str) -> Failure {
        use hyper_util::rt::TokioExecutor;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _read = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            // As nginx does it: what still comes is read for a while, or the answer would be lost with a reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink())
                .await
                .ok();
        });
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(
                crate::net::client_tls::ClientTlsSettings::default()
                    .client_config(&[])
                    .unwrap(),
            )
            .https_or_http()
            .enable_http1()
            .build();
        let connections: Connections = Client::builder(TokioExecutor::new()).build(connector);
        let endpoint = Endpoint {
            url: format!("http://{address}"),
            username: None,
            password: None,
            settings: [].into(),
        };
        let body = Bytes::from(vec![0; 20 << 20]);
        let statement = Insert {
            statement: "INSERT",
            settings: &[],
            pass: &Pass::default(),
        };
        let result = insert(&connections, &endpoint, statement, body).await;
        drop(connections);
        server.await.unwrap();
        result.unwrap_err()
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_the_body_is_read_is_heard() {
        let failure = refused(
            "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(failure.await.class, Class::TooLarge);
    }

    /// As proxies before ClickHouse do.
    #[tokio::test]
    async fn a_hint_when_to_come_again_is_taken() {
        let failure = refused(
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 9\r\nconnection: close\r\n\r\nslow down",
        );
        let failure = failure.await;
        assert_eq!(failure.after, Some(std::time::Duration::from_secs(7)));
        assert_ne!(failure.class, Class::Rejected);
    }
}
