//! Server addresses: `http(s)://user:password@host:port/path?setting=value`, several separated by commas.

use std::collections::BTreeMap;

use http::Uri;

use super::options::Options;
use super::settings::Strategy;
use crate::config::Section;
use crate::secret::Secret;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host, port and path: no user, no query.
    pub(crate) url: String,
    /// The user, if any.
    pub(crate) username: Option<String>,
    /// The password, if any.
    pub(crate) password: Option<Secret>,
    /// Settings sent with every statement.
    pub(crate) settings: BTreeMap<String, String>,
}

/// What endpoints and `connection_params` say together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    /// Those without a problem.
    pub(crate) endpoints: Vec<Endpoint>,
    /// In which order they are tried.
    pub(crate) strategy: Strategy,
    /// A database, where one is given and the option is left at its default.
    pub(crate) database: Option<String>,
    /// `async_insert`, where given: it wins over the option.
    pub(crate) async_insert: Option<bool>,
    /// `skip_verify`: whether any certificate will do.
    pub(crate) skip_verify: bool,
}

/// Options of the Go driver that mean nothing here: connections are pooled, and `timeout` is the limit.
const DRIVER_ONLY: [&str; 15] = [
    "block_buffer_size",
    "buffer_size",
    "client_info_product",
    "compress",
    "compress_level",
    "conn_max_lifetime",
    "connection_open_strategy",
    "debug",
    "dial_timeout",
    "http_path",
    "http_proxy",
    "max_compression_buffer",
    "max_idle_conns",
    "max_open_conns",
    "read_timeout",
];

const KEY: &str = "endpoint";

/// Reads the endpoints; problems go to `section`.
pub(crate) fn parse_endpoints(options: &Options, section: &mut Section<'_>) -> Given {
    let mut given = Given {
        endpoints: Vec::new(),
        strategy: Strategy::InOrder,
        database: None,
        async_insert: None,
        skip_verify: false,
    };
    let addresses: Vec<&str> = options.endpoint.split(',').map(str::trim).collect();
    let scheme = addresses
        .first()
        .and_then(|first| first.split_once("://"))
        .map(|(scheme, _)| scheme);
    for address in &addresses {
        let full = match (address.contains("://"), scheme) {
            (false, Some(scheme)) => format!("{scheme}://{address}"),
            _ => (*address).to_owned(),
        };
        match parse_endpoint(&full) {
            Ok((mut endpoint, query)) => {
                apply_parameters(&mut endpoint, &mut given, query, options, section);
                given.endpoints.push(endpoint);
            }
            Err(problem) => section.error(KEY, problem),
        }
    }
    given
}

fn parse_endpoint(address: &str) -> Result<(Endpoint, BTreeMap<String, String>), String> {
    const WANTED: &str = "write `http://host:8123` or `https://host:8443`";
    if address.is_empty() {
        return Err(format!("is required: {WANTED}"));
    }
    let (scheme, _) = address
        .split_once("://")
        .ok_or_else(|| format!("has no scheme: {WANTED}"))?;
    match scheme {
        "http" | "https" => {}
        "tcp" | "clickhouse" => {
            return Err(format!(
                "`{scheme}://` is ClickHouse's native protocol, which Tidegate does not speak: it sends the same \
                 columns over HTTP; {WANTED}"
            ));
        }
        _ => {
            return Err(format!(
                "`{scheme}` is not a scheme Tidegate knows: {WANTED}"
            ));
        }
    }
    // The address may hold a password: no message repeats it.
    let uri: Uri = address
        .parse()
        .map_err(|error| format!("is not an address ({error}): {WANTED}"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| format!("has no host: {WANTED}"))?;
    let query = parse_query(uri.query().unwrap_or_default());
    let secure = scheme == "https" || query.get("secure").is_some_and(|value| value == "true");
    let (scheme, default_port) = if secure {
        ("https", 8443)
    } else {
        ("http", 8123)
    };
    let host_and_port = authority
        .as_str()
        .rsplit_once('@')
        .map_or(authority.as_str(), |(_, host)| host);
    let has_port = host_and_port.len() > authority.host().len();
    if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
        return Err(format!("is not an address (host or port): {WANTED}"));
    }
    let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((name, password)) => (Some(decode(name)), Some(Secret::new(decode(password)))),
        None => (None, None),
    };
    let endpoint = Endpoint {
        url: format!(
            "{scheme}://{}:{}{}",
            authority.host(),
            authority.port_u16().unwrap_or(default_port),
            uri.path()
        ),
        username,
        password,
        settings: BTreeMap::new(),
    };
    Ok((endpoint, query))
}

fn apply_parameters(
    endpoint: &mut Endpoint,
    given: &mut Given,
    mut query: BTreeMap<String, String>,
    options: &Options,
    section: &mut Section<'_>,
) {
    query.extend(options.connection_params.clone());
    if let Some(strategy) = query.get("connection_open_strategy") {
        match strategy.as_str() {
            "in_order" => given.strategy = Strategy::InOrder,
            "random" => given.strategy = Strategy::Random,
            "round_robin" => given.strategy = Strategy::RoundRobin,
            _ => section.error(
                "connection_params.connection_open_strategy",
                "must be `in_order`, `random` or `round_robin`",
            ),
        }
    }
    for (name, value) in query {
        match name.as_str() {
            "secure" => {}
            "username" => endpoint.username = Some(value),
            "password" => endpoint.password = Some(Secret::new(value)),
            "database" if options.database == "default" => given.database = Some(value),
            "database" => {}
            "skip_verify" => given.skip_verify |= value == "1" || value == "true",
            "async_insert" => given.async_insert = Some(value == "1" || value == "true"),
            ignored if DRIVER_ONLY.contains(&ignored) => {
                if ignored != "connection_open_strategy" {
                    section.warning(
                        KEY,
                        format!("`{ignored}` is an option of another client and does nothing here"),
                    );
                }
            }
            _ => {
                endpoint.settings.insert(name, value);
            }
        }
    }
    if !options.username.is_empty() {
        endpoint.username = Some(options.username.clone());
    }
    if !options.password.expose().is_empty() {
        endpoint.password = Some(options.password.clone());
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
        .collect()
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| u8::try_from(digit).ok())
                };
                digit(*high)
                    .zip(digit(*low))
                    .map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
