//! From options to what the exporter trusts: every problem is reported with its key.

use std::time::Duration;

use super::endpoint::{Endpoint, Given, parse_endpoints};
use super::native::Method;
use super::options::{Delivery, EngineOptions, MetricsTables, Options};
use super::schema::{Engine, Layout, Names};
use crate::auth::AuthSettings;
use crate::config::Section;
use crate::exporters::sender::SenderSettings;
use crate::net::client_tls::{ClientTlsOptions, ClientTlsSettings};

/// Leaves room until 2106, where the server's `DateTime` ends.
const TTL_MAX: Duration = Duration::from_secs(50 * 366 * 86_400);

/// In which order servers are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The first that works, in the order given.
    InOrder,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
}

/// Validated settings of the ClickHouse exporter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// At least one.
    pub(crate) endpoints: Vec<Endpoint>,
    /// In which order they are tried.
    pub(crate) strategy: Strategy,
    /// For those at `https://`.
    pub(crate) tls: ClientTlsSettings,
    /// Whose credentials are shown; then no endpoint has a user or a password.
    pub(crate) auth: Option<AuthSettings>,
    /// How bodies are compressed.
    pub(crate) method: Method,
    /// Whether the schema is made when it does not exist.
    pub(crate) create_schema: bool,
    /// Where tables are, what they are called and how they are made.
    pub(crate) layout: Layout,
    /// Whether the server gathers inserts.
    pub(crate) async_insert: bool,
    /// What is promised about an insert whose answer got lost.
    pub(crate) delivery: Delivery,
    /// Queue, retries, timeout.
    pub(crate) sender: SenderSettings,
}

impl Settings {
    /// Validates a component's table.
    pub(crate) fn parse(section: &mut Section<'_>) -> Option<Self> {
        let mut options: Options = section.options()?;
        refuse_unsupported(&options, section);
        apply_prefix(&mut options, section);
        let given = parse_endpoints(&options, section);
        let tls = tls(&options, &given, section);
        let auth = auth(&options, &given, section);
        let engine = engine(&options.table_engine, section);
        let database = given
            .database
            .clone()
            .unwrap_or_else(|| options.database.clone());
        check_names(&options, &database, section);
        let cluster = (!options.cluster_name.is_empty()).then(|| options.cluster_name.clone());
        let ttl = options.ttl.0;
        if ttl.subsec_nanos() != 0 {
            section.error("ttl", "must be a whole number of seconds");
        }
        if ttl > TTL_MAX {
            section.error("ttl", "must be at most 50 years: ClickHouse counts such times up to 2106 only, and would drop rows at once");
        }
        let sender = SenderSettings::resolve(
            section,
            options.timeout,
            &options.retry_on_failure,
            &options.sending_queue,
        );
        let Given {
            endpoints,
            strategy,
            async_insert,
            ..
        } = given;
        let async_insert = async_insert.unwrap_or(options.async_insert);
        if options.delivery == Delivery::ExactlyOnce {
            check_exactly_once(async_insert, &endpoints, section);
        }
        (!endpoints.is_empty()).then_some(Self {
            endpoints,
            strategy,
            tls: tls?,
            auth,
            method: options.compress.method(),
            create_schema: options.create_schema,
            layout: Layout {
                database,
                cluster,
                engine,
                ttl: (ttl != Duration::ZERO).then_some(ttl),
                names: Names {
                    logs: options.logs_table_name,
                    traces: options.traces_table_name,
                    gauge: options.metrics_tables.gauge.name,
                    sum: options.metrics_tables.sum.name,
                    histogram: options.metrics_tables.histogram.name,
                    exponential_histogram: options.metrics_tables.exponential_histogram.name,
                    summary: options.metrics_tables.summary.name,
                },
            },
            async_insert,
            delivery: options.delivery,
            sender,
        })
    }
}

fn tls(options: &Options, given: &Given, section: &mut Section<'_>) -> Option<ClientTlsSettings> {
    let https = |endpoint: &Endpoint| endpoint.url.starts_with("https:");
    let mut tls = options.tls.clone().unwrap_or_default();
    if tls.insecure && given.endpoints.iter().any(https) {
        section.warning(
            "tls.insecure",
            "does nothing here: `https://` is with TLS and `http://` without; a server that cannot prove who it is \
             needs `insecure_skip_verify`",
        );
    }
    let only_insecure = ClientTlsOptions {
        insecure: tls.insecure,
        ..ClientTlsOptions::default()
    };
    if tls != only_insecure && !given.endpoints.iter().any(https) {
        section.error(
            "tls",
            "has no effect on `http://`, everything would be sent in the clear: write `https://` in `endpoint`",
        );
    }
    tls.insecure_skip_verify |= given.skip_verify;
    ClientTlsSettings::resolve(tls, "tls", |key, problem| section.error(key, problem))
}

fn auth(options: &Options, given: &Given, section: &mut Section<'_>) -> Option<AuthSettings> {
    let auth = AuthSettings::resolve(options.auth.clone()?, "auth", section)?;
    let has_user = |endpoint: &Endpoint| endpoint.username.is_some() || endpoint.password.is_some();
    if given.endpoints.iter().any(has_user) {
        section.error(
            "auth",
            "give this or a user and a password, not both: ClickHouse refuses what has two kinds of credentials",
        );
    }
    Some(auth)
}

fn refuse_unsupported(options: &Options, section: &mut Section<'_>) {
    section.refuse(
        "json",
        &options.json,
        "attributes are stored in Map columns; leave it out",
    );
    section.disregard(
        "profiles_table_name",
        &options.profiles_table_name,
        "Tidegate takes no profiles",
    );
}

/// The older way to name the tables of data points; as in the Collector, any name in `metrics_tables` wins over it.
fn apply_prefix(options: &mut Options, section: &mut Section<'_>) {
    let prefix = &options.metrics_table_name;
    if prefix.is_empty() {
        return;
    }
    if options.metrics_tables == MetricsTables::default() {
        options.metrics_tables = MetricsTables::beginning_with(prefix);
        return;
    }
    section.warning(
        "metrics_table_name",
        "accepted, but without effect: `metrics_tables` names the tables",
    );
}

/// Reports what would store rows twice.
fn check_exactly_once(async_insert: bool, endpoints: &[Endpoint], section: &mut Section<'_>) {
    const REMEDY: &str = "leave it off, or write `delivery = \"at_least_once\"`";
    if async_insert {
        section.error(
            "async_insert",
            format!("cannot keep `delivery = \"exactly_once\"`, the default: {REMEDY}"),
        );
    }
    let mut settings = endpoints.iter().flat_map(|endpoint| &endpoint.settings);
    if settings.any(|(name, value)| name == "insert_deduplicate" && value == "0") {
        section.error(
            "connection_params",
            "`insert_deduplicate = 0` cannot keep `delivery = \"exactly_once\"`, the default: leave it out, or \
             write `delivery = \"at_least_once\"`",
        );
    }
}

fn engine(options: &EngineOptions, section: &mut Section<'_>) -> Engine {
    let name = &options.name;
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        section.error(
            "table_engine.name",
            "must be the name of a table engine, such as `MergeTree` or `ReplicatedMergeTree`",
        );
    }
    Engine {
        name: name.clone(),
        params: options.params.clone(),
    }
}

fn check_names(options: &Options, database: &str, section: &mut Section<'_>) {
    let metrics = &options.metrics_tables;
    let names = [
        ("database", database),
        ("logs_table_name", &options.logs_table_name),
        ("traces_table_name", &options.traces_table_name),
        ("metrics_tables.gauge.name", &metrics.gauge.name),
        ("metrics_tables.sum.name", &metrics.sum.name),
        ("metrics_tables.summary.name", &metrics.summary.name),
        ("metrics_tables.histogram.name", &metrics.histogram.name),
        (
            "metrics_tables.exponential_histogram.name",
            &metrics.exponential_histogram.name,
        ),
    ];
    for (index, (key, name)) in names.iter().enumerate() {
        if name.is_empty() {
            section.error(key, "must not be empty");
        }
        let twin = names
            .iter()
            .take(index)
            .skip(1)
            .find(|(_, other)| other == name);
        if let Some((other, _)) = twin.filter(|_| index > 0) {
            section.error(key, format!("is the same table as {other}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;
    use crate::secret::Secret;

    fn parse(text: &str) -> Result<Settings, String> {
        let mut found = Diagnostics::default();
        let settings = Section::from_text("exporters.clickhouse", text, &mut found)
            .and_then(|mut section| Settings::parse(&mut section));
        match settings {
            Some(settings) if !found.has_errors() => Ok(settings),
            _ => Err(found.to_string()),
        }
    }

    #[test]
    fn whom_to_trust_is_told_by_options_or_by_the_address() {
        let tls = |text: &str| parse(text).unwrap().tls;
        assert_eq!(tls("endpoint = 'https://ch'"), ClientTlsSettings::default());
        let anybody = tls("endpoint = 'https://ch'\ntls = { insecure_skip_verify = true }");
        assert_ne!(anybody, ClientTlsSettings::default());
        assert_eq!(tls("endpoint = 'https://ch?skip_verify=true'"), anybody);
        assert_eq!(
            tls("endpoint = 'https://ch?skip_verify=false'"),
            ClientTlsSettings::default()
        );
        // Plain HTTP by the Collector's word for it.
        tls("endpoint = 'http://ch'\ntls = { insecure = true }");
    }

    #[test]
    fn defaults_are_those_of_the_reference_but_for_async_insert() {
        let settings = parse("endpoint = 'http://localhost:8123'").unwrap();
        assert_eq!(settings.layout.database, "default");
        assert_eq!(
            settings.layout.names.exponential_histogram,
            "otel_metrics_exponential_histogram"
        );
        assert_eq!(settings.method, Method::Lz4);
        assert!(settings.create_schema && !settings.async_insert);
        assert_eq!((settings.layout.ttl, settings.layout.cluster), (None, None));
    }

    /// An endpoint in one line: address, user, password, settings.
    fn line(endpoint: &Endpoint) -> String {
        let Endpoint {
            url,
            username,
            password,
            settings,
        } = endpoint;
        let user = username.as_deref().unwrap_or("-");
        let password = password.as_ref().map_or("-", Secret::expose);
        format!("{url} {user} {password} {settings:?}")
    }

    #[test]
    fn endpoints_are_taken_apart() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = parse(text).unwrap().endpoints.iter().map(line).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("endpoint = 'http://ch'", &["http://ch:8123/ - - {}"]);
        check("endpoint = 'https://ch/x'", &["https://ch:8443/x - - {}"]);
        check(
            "endpoint = 'http://ch:9000?secure=true'",
            &["https://ch:9000/ - - {}"],
        );
        check(
            "endpoint = 'http://[::1]:8123'",
            &["http://[::1]:8123/ - - {}"],
        );
        check(
            "endpoint = 'http://a%40b:p%3aw@ch?max_threads=2&x=a+b'",
            &[r#"http://ch:8123/ a@b p:w {"max_threads": "2", "x": "a b"}"#],
        );
        check(
            "endpoint = 'http://a:1,b:2, http://c:3'",
            &[
                "http://a:1/ - - {}",
                "http://b:2/ - - {}",
                "http://c:3/ - - {}",
            ],
        );
        check(
            "endpoint = 'http://x:y@ch?username=u'\nusername = 'me'\npassword = 'pw'\n\
             connection_params = { max_threads = '1' }",
            &[r#"http://ch:8123/ me pw {"max_threads": "1"}"#],
        );
    }

    #[test]
    fn parameters_with_a_meaning_are_not_sent_as_settings() {
        let settings = parse(
            "endpoint = 'http://ch?database=d&connection_open_strategy=round_robin&async_insert=1&dial_timeout=5s'\n\
             delivery = 'at_least_once'",
        )
        .unwrap();
        assert_eq!(settings.layout.database, "d");
        assert_eq!(settings.strategy, Strategy::RoundRobin);
        assert!(settings.async_insert);
        assert!(
            settings
                .endpoints
                .iter()
                .all(|endpoint| endpoint.settings.is_empty())
        );
    }

    #[test]
    fn the_older_option_names_all_tables_of_data_points() {
        let names = |more: &str| {
            let names = parse(&format!("endpoint = 'http://ch'\n{more}"))
                .unwrap()
                .layout
                .names;
            format!("{} {}", names.gauge, names.exponential_histogram)
        };
        assert_eq!(
            names("metrics_table_name = 'm'"),
            "m_gauge m_exponential_histogram"
        );
        assert_eq!(
            names("metrics_table_name = 'm'\nmetrics_tables = { gauge = { name = 'g' } }"),
            "g otel_metrics_exponential_histogram"
        );
    }

    #[test]
    fn options_of_the_collector_that_ask_for_nothing_are_accepted() {
        for more in ["json = false", "profiles_table_name = 'otel_profiles'"] {
            parse(&format!("endpoint = 'http://ch'\n{more}")).unwrap();
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let check = |text: &str, expected: &str| {
            let problems = parse(text).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
            assert!(!problems.contains("hunter2"), "{problems}");
        };
        check("", "endpoint: is required");
        check("endpoint = 'tcp://u:hunter2@ch:9000'", "native protocol");
        check("endpoint = 'clickhouse://ch:9000'", "native protocol");
        check("endpoint = 'ch:8123'", "has no scheme");
        check("endpoint = 'ftp://ch'", "`ftp` is not a scheme");
        check("endpoint = 'http://u:hunter2@ch:x'", "is not an address");
        check("endpoint = 'http://ch'\ncompress = 'gzip'", "lz4");
        check("endpoint = 'http://ch'\nunknown = 1", "unknown");
        check(
            "endpoint = 'http://ch'\nusername = 'me'\nauth = { authenticator = 'basicauth' }",
            "auth: give this or a user and a password, not both",
        );
        check("endpoint = 'http://ch'\njson = true", "Map columns");
        check(
            "endpoint = 'http://ch'\ntls = { ca_file = 'ca.pem' }",
            "in the clear",
        );
        let both = "endpoint = 'tcp://h:9000'\ncompres = 'lz4'\nttl = '1ms'";
        check(both, "native protocol");
        check(both, "did you mean `compress`?");
        check(both, "whole number of seconds");
        check(
            "endpoint = 'http://ch'\nttl = '500000h'",
            "ttl: must be at most 50 years",
        );
        check(
            "endpoint = 'http://ch'\nttl = '1ms'",
            "ttl: must be a whole number",
        );
        check(
            "endpoint = 'http://ch'\ndatabase = ''",
            "database: must not be empty",
        );
        check(
            "endpoint = 'http://ch'\nlogs_table_name = 'otel_traces'",
            "same table",
        );
        check(
            "endpoint = 'http://ch'\ntable_engine = { name = 'Merge Tree' }",
            "table_engine.name",
        );
        check(
            "endpoint = 'http://ch?connection_open_strategy=first'",
            "in_order",
        );
        check("endpoint = 'http://ch'\ndelivery = 'once'", "exactly_once");
        check(
            "endpoint = 'http://ch'\nasync_insert = true",
            "async_insert: cannot keep `delivery = \"exactly_once\"`",
        );
        check(
            "endpoint = 'http://ch?async_insert=1'",
            "write `delivery = \"at_least_once\"`",
        );
        check(
            "endpoint = 'http://ch'\nconnection_params = { insert_deduplicate = '0' }",
            "insert_deduplicate",
        );
    }
}
