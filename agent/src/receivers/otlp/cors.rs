//! Cross-origin requests: which origins may post, and the headers that tell browsers so.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use super::options::CorsOptions;

/// Request headers that need no listing: what the Collector's CORS handler allows by default.
const SAFE_HEADERS: [&str; 4] = ["accept", "content-type", "origin", "x-requested-with"];

/// What a preflight's answer depends on.
const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// Which origins may do what. Credentials are always allowed, as in the Collector; but where any origin may post, it is told so
/// with `*`, and browsers then send none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorsSettings {
    /// Lower case, not empty.
    origins: Vec<String>,
    /// Lower case.
    headers: Vec<String>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

impl CorsSettings {
    /// `None` without origins: then CORS is off, and `warn` hears of fields that have no effect.
    pub(super) fn parse(options: CorsOptions, mut warn: impl FnMut(&str, &str)) -> Option<Self> {
        if options.allowed_origins.is_empty() {
            if !options.allowed_headers.is_empty() {
                warn("allowed_headers", "has no effect without allowed_origins");
            }
            return None;
        }
        let exposed = options.exposed_headers.join(", ");
        let exposed = (!exposed.is_empty())
            .then(|| HeaderValue::try_from(exposed).ok())
            .flatten();
        if exposed.is_none() && !options.exposed_headers.is_empty() {
            warn("exposed_headers", "ignored: not valid header names");
        }
        Some(Self {
            origins: lower(options.allowed_origins),
            headers: lower(options.allowed_headers),
            exposed,
            max_age: (options.max_age > 0).then(|| HeaderValue::from(options.max_age)),
        })
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.origins.iter().any(|pattern| matches(pattern, &origin))
    }

    fn allows_headers(&self, requested: &str) -> bool {
        requested
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .all(|name| {
                SAFE_HEADERS.contains(&name.as_str())
                    || self
                        .headers
                        .iter()
                        .any(|allowed| allowed == "*" || *allowed == name)
            })
    }

    /// The headers that answer a preflight; `None` if the request is none. A preflight that asks for too much is answered
    /// without permission.
    pub(super) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        let wanted = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS {
            return None;
        }
        let mut answer = HeaderMap::new();
        answer.insert(VARY, PREFLIGHT_VARY);
        let origin = request.get(ORIGIN)?;
        let requested = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        let permitted = wanted == "POST"
            && origin
                .to_str()
                .is_ok_and(|origin| self.allows_origin(origin))
            && requested
                .is_none_or(|names| names.to_str().is_ok_and(|names| self.allows_headers(names)));
        if !permitted {
            return Some(answer);
        }
        self.permit(&mut answer, origin);
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST"),
        );
        if let Some(requested) = requested {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        if let Some(max_age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        Some(answer)
    }

    /// The headers that the response to a request with this origin carries.
    pub(super) fn actual(&self, origin: Option<&HeaderValue>) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else {
            return answer;
        };
        if origin
            .to_str()
            .is_ok_and(|origin| self.allows_origin(origin))
        {
            self.permit(&mut answer, origin);
            if let Some(exposed) = &self.exposed {
                answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
        }
        answer
    }

    fn permit(&self, answer: &mut HeaderMap, origin: &HeaderValue) {
        let anybody = self.origins.iter().any(|pattern| pattern == "*");
        let told = match anybody {
            true => HeaderValue::from_static("*"),
            false => origin.clone(),
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, told);
        answer.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}

fn lower(names: Vec<String>) -> Vec<String> {
    names
        .into_iter()
        .map(|name| name.to_ascii_lowercase())
        .collect()
}

/// Whether `text` is `pattern`, whose first `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], headers: &[&str]) -> CorsSettings {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let options = CorsOptions {
            allowed_origins: owned(origins),
            allowed_headers: owned(headers),
            exposed_headers: vec!["X-Seen".to_owned()],
            max_age: 600,
        };
        CorsSettings::parse(options, |_, message| panic!("{message}")).unwrap()
    }

    #[test]
    fn origins_match_with_wildcards() {
        let check = |pattern: &str, origin: &str, expected: bool| {
            let found = cors(&[pattern], &[]).allows_origin(origin);
            assert_eq!(found, expected, "{pattern} {origin}");
        };
        check("*", "https://a.example", true);
        check("https://a.example", "https://A.example", true);
        check("https://a.example", "https://a.example.evil", false);
        check("https://*.example.com", "https://a.b.example.com", true);
        check("https://*.example.com", "https://example.com", false);
        check("https://*.example.com", "http://a.example.com", false);
        check("https://ab*ba", "https://aba", false);
    }

    fn cors_of_anybody() -> CorsSettings {
        cors(&["https://app", "*"], &[])
    }

    fn preflight(cors: &CorsSettings, headers: &[(&str, &str)]) -> Option<HeaderMap> {
        let mut request = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.insert(name, value.parse().unwrap());
        }
        cors.preflight(&Method::OPTIONS, &request)
    }

    #[test]
    fn a_preflight_is_permitted_or_answered_without_permission() {
        let cors = cors(&["https://app"], &["X-Token"]);
        let check = |origin: &str, method: &str, headers: &str, expected: bool| {
            let answer = preflight(
                &cors,
                &[
                    ("origin", origin),
                    ("access-control-request-method", method),
                    ("access-control-request-headers", headers),
                ],
            );
            let allowed = answer.unwrap().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed, expected, "{origin} {method} {headers}");
        };
        check("https://app", "POST", "content-type", true);
        check("https://app", "POST", "content-type, X-TOKEN", true);
        check("https://app", "POST", "x-other", false);
        check("https://app", "DELETE", "content-type", false);
        check("https://evil", "POST", "content-type", false);
        assert!(preflight(&cors, &[("origin", "https://app")]).is_none());
    }

    #[test]
    fn responses_name_the_origin_that_asked() {
        let cors = cors(&["https://*"], &[]);
        let origin = HeaderValue::from_static("https://app");
        let answer = cors.actual(Some(&origin));
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], "X-Seen");
        let open = cors_of_anybody().actual(Some(&origin));
        assert_eq!(open[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let stranger = cors.actual(Some(&HeaderValue::from_static("http://app")));
        assert!(!stranger.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(stranger[VARY], "Origin");
    }
}
