//! Where to connect to, from what a user writes: `host:port`, or a URL.

use http::Uri;
use http::uri::Authority;

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// A name or an address; IPv6 without brackets.
    pub(super) host: String,
    /// The TCP port.
    pub(super) port: u16,
    /// Whether to speak TLS.
    pub(super) tls: bool,
}

/// The address of a gRPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrpcEndpoint {
    /// Where it is.
    pub(super) place: Place,
    /// What its requests call it: host and port as written.
    pub(super) authority: Authority,
}

/// The address that one signal's requests are posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpEndpoint {
    /// Where the server is.
    pub(super) place: Place,
    /// The `Host` header.
    pub(super) host: String,
    /// Path and query.
    pub(super) path: String,
    /// `user:password`, if the URL has it.
    pub(super) userinfo: Option<String>,
}

impl GrpcEndpoint {
    /// Reads `host:port`, `dns:///host:port`, `http://host:port` or `https://host:port`. Without a scheme that says so, TLS is
    /// spoken unless `insecure`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence after the key.
    pub(super) fn parse(text: &str, insecure: bool) -> Result<Self, String> {
        const WANTED: &str =
            "write `host:4317`, `http://host:4317` (no TLS) or `https://host:4317`";
        if text.is_empty() {
            return Err(format!("is required: {WANTED}"));
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(("dns", rest)) => match rest.split_once('/') {
                Some(("", name)) => (!insecure, name),
                _ => {
                    return Err(format!(
                        "names a DNS server, which is not supported: {WANTED}"
                    ));
                }
            },
            Some((scheme, _)) => {
                return Err(format!(
                    "has the scheme `{scheme}`, which is not supported: {WANTED}"
                ));
            }
            None => (!insecure, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(format!("holds a user, which gRPC does not know: {WANTED}"));
        }
        let authority: Authority = authority
            .parse()
            .map_err(|_| format!("is not an address: {WANTED}"))?;
        let place = Place {
            host: bare_host(&authority, WANTED)?,
            port: authority
                .port_u16()
                .ok_or_else(|| format!("has no port: {WANTED}"))?,
            tls,
        };
        Ok(Self { place, authority })
    }
}

impl HttpEndpoint {
    /// Reads a URL and appends `suffix` to its path.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence after the key. It does not repeat the URL, which may hold a password.
    pub(super) fn parse(text: &str, suffix: &str) -> Result<Self, String> {
        const WANTED: &str = "write `http://host:4318` or `https://host:4318`";
        let uri: Uri = text
            .parse()
            .map_err(|_| format!("is not an address: {WANTED}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(format!("needs the scheme http or https: {WANTED}")),
        };
        let whole = uri
            .authority()
            .ok_or_else(|| format!("has no host: {WANTED}"))?;
        let (userinfo, host) = match whole.as_str().rsplit_once('@') {
            Some((userinfo, host)) => (Some(percent_decoded(userinfo)), host),
            None => (None, whole.as_str()),
        };
        let has_port = host.len() > whole.host().len();
        let port = match whole.port_u16() {
            Some(port) => port,
            None if has_port => return Err(format!("has no valid port: {WANTED}")),
            None if tls => 443,
            None => 80,
        };
        let path = match suffix {
            "" => uri.path().to_owned(),
            _ => format!("{}{suffix}", uri.path().trim_end_matches('/')),
        };
        let path = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let place = Place {
            host: bare_host(whole, WANTED)?,
            port,
            tls,
        };
        Ok(Self {
            place,
            host: host.to_owned(),
            path,
            userinfo,
        })
    }
}

fn bare_host(authority: &Authority, wanted: &str) -> Result<String, String> {
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(format!("has no host: {wanted}"));
    }
    Ok(host.to_owned())
}

/// `%40` as `@` and so on; what is not an escape stays.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_endpoints_are_taken_apart() {
        let check = |text: &str,
                     insecure: bool,
                     expected: Result<(&str, u16, bool, &str), &str>| {
            let found = GrpcEndpoint::parse(text, insecure);
            match (found, expected) {
                (Ok(found), Ok((host, port, tls, authority))) => {
                    let place = found.place;
                    assert_eq!(
                        (place.host.as_str(), place.port, place.tls),
                        (host, port, tls)
                    );
                    assert_eq!(found.authority.as_str(), authority, "{text}");
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check("gw:4317", false, Ok(("gw", 4317, true, "gw:4317")));
        check("gw:4317", true, Ok(("gw", 4317, false, "gw:4317")));
        check("http://gw:4317", false, Ok(("gw", 4317, false, "gw:4317")));
        check("https://gw:4317/", true, Ok(("gw", 4317, true, "gw:4317")));
        check("dns:///gw:1", true, Ok(("gw", 1, false, "gw:1")));
        check("[::1]:4317", true, Ok(("::1", 4317, false, "[::1]:4317")));
        check("", true, Err("is required"));
        check("gw", true, Err("has no port"));
        check("http://gw", true, Err("has no port"));
        check(":4317", true, Err("has no host"));
        check("gw:port", true, Err("has no port"));
        check("a b:1", true, Err("is not an address"));
        check("http://gw:1/path", true, Err("is not an address"));
        check("me:secret@gw:1", true, Err("holds a user"));
        check("unix:///run/x", true, Err("scheme `unix`"));
        check("dns://8.8.8.8/gw:1", true, Err("names a DNS server"));
    }

    #[test]
    fn http_endpoints_are_taken_apart() {
        let check = |text: &str, suffix: &str, expected: Result<&str, &str>| {
            let found = HttpEndpoint::parse(text, suffix);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let Place { host, port, tls } = found.place;
                    let line = format!(
                        "{host} {port} {tls} {} {} {}",
                        found.host,
                        found.path,
                        found.userinfo.unwrap_or_default()
                    );
                    assert_eq!(line, expected, "{text}");
                }
                (Err(found), Err(expected)) => {
                    assert!(found.contains(expected), "{text}: {found}");
                    assert!(!found.contains("hunter2"), "{found}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        let traces = "/v1/traces";
        check(
            "http://gw:4318",
            traces,
            Ok("gw 4318 false gw:4318 /v1/traces "),
        );
        check("http://gw", traces, Ok("gw 80 false gw /v1/traces "));
        check("https://gw/", traces, Ok("gw 443 true gw /v1/traces "));
        check(
            "https://gw/otlp/",
            traces,
            Ok("gw 443 true gw /otlp/v1/traces "),
        );
        check(
            "http://gw:1/otlp?k=v",
            traces,
            Ok("gw 1 false gw:1 /otlp/v1/traces?k=v "),
        );
        check("http://gw:1/whole/", "", Ok("gw 1 false gw:1 /whole/ "));
        check("http://[::1]:1", "", Ok("::1 1 false [::1]:1 / "));
        check(
            "http://a%40b:p%3aw@gw:1",
            "",
            Ok("gw 1 false gw:1 / a@b:p:w"),
        );
        check("gw:4318", traces, Err("scheme"));
        check("localhost", traces, Err("scheme"));
        check("ftp://gw", traces, Err("scheme"));
        check("http://", traces, Err("is not an address"));
        check("http://me:hunter2@gw:x", traces, Err("a"));
    }
}
