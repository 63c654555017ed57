//! Whether a request is meant for this host. A page of a browser may point a name of its own at 127.0.0.1 after it was loaded (DNS
//! rebinding); what it then sends here is of its own origin, so the browser lets it read the answers. The name gives it away.

use std::net::IpAddr;

use http::uri::Authority;
use http::{Request, header};

/// Whether every host that `request` names is an address, `localhost` or this host. One that names none comes from no browser.
pub(crate) fn is_meant_here<B>(request: &Request<B>) -> bool {
    let headers = request.headers().get_all(header::HOST).iter();
    let named = headers.map(|value| Authority::try_from(value.as_bytes()).ok());
    let target = request.uri().authority().map(|target| Some(target.clone()));
    named
        .chain(target)
        .all(|named| named.is_some_and(|named| is_this_host(named.host(), &own_name())))
}

/// The name of this host; it may change while the process runs.
pub(crate) fn own_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// `own` with or without its domain. Every name below `localhost` is this host's to whoever looks names up.
fn is_this_host(named: &str, own: &str) -> bool {
    let bare = named.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let named = named
        .strip_suffix('.')
        .unwrap_or(named)
        .to_ascii_lowercase();
    let own = own.to_ascii_lowercase();
    let short = own.split('.').next().unwrap_or_default();
    let is_own = !named.is_empty() && (named == own || named == short);
    is_own || named == "localhost" || named.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_this_host() {
        let check = |named: &str, expected: bool| {
            assert_eq!(is_this_host(named, "Box.example.org"), expected, "{named}");
        };
        for named in [
            "127.0.0.1",
            "10.0.0.7",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "agent.localhost",
            "box",
            "box.example.org",
            "BOX.EXAMPLE.ORG.",
        ] {
            check(named, true);
        }
        for named in [
            "",
            ".",
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "box.evil.example",
            "example.org",
        ] {
            check(named, false);
        }
        // A host without a name has none that could be meant.
        assert!(!is_this_host("", "") && !is_this_host(".", ""));
    }

    #[test]
    fn every_name_in_a_request_counts() {
        let check = |target: &str, hosts: &[&str], expected: bool| {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header("host", *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(is_meant_here(&request), expected, "{target} {hosts:?}");
        };
        check("/", &[], true);
        check("/", &["localhost:8888"], true);
        check("/", &["[::1]:8888"], true);
        check("/", &[&own_name()], true);
        check("/", &["evil.example:8888"], false);
        check("/", &["localhost", "evil.example"], false);
        check("/", &["not a host"], false);
        check("/", &[""], false);
        check("http://127.0.0.1:8888/", &["localhost"], true);
        check("http://evil.example/", &["localhost"], false);
    }
}
