//! The servers of one exporter: which to try, in which order, and the statements sent to them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickhouse::{Client, Compression};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tracing::{error, info};

use super::encode::{Block, Table};
use super::endpoint::Endpoint;
use super::failure::{Class, Failure};
use super::native::Method;
use super::options::Delivery;
use super::post::{self, Connections};
use super::schema::{self, Known, Schema, Version, Watch};
use super::settings::{Settings, Strategy};
use super::token::Token;
use crate::auth::Pass;
use crate::component::ComponentError;
use crate::net::client_tls::ClientTlsSettings;
use crate::signal::Signal;

/// A server that failed is tried last for this long.
const COOLDOWN: Duration = Duration::from_secs(10);
/// `throw_on_max_partitions_per_insert_block` exists from this version on.
const PARTITIONS_SETTING: Version = Version {
    major: 23,
    minor: 12,
};

/// Below the three seconds after which ClickHouse closes an idle connection: a request must not meet the closing.
const IDLE_CONNECTION: Duration = Duration::from_secs(2);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// All servers.
pub(crate) struct Servers {
    settings: Settings,
    /// Shown with everything that is sent.
    pass: Pass,
    servers: Vec<Server>,
    /// There if every row is to be stored once.
    watch: Option<Watch>,
    turn: AtomicUsize,
}

struct Server {
    endpoint: Endpoint,
    /// For inserts.
    connections: Connections,
    /// For everything else.
    client: Client,
    schema: Schema,
    /// Guards when the server last failed, if it has not worked since.
    failed: Mutex<Option<Instant>>,
    /// Whether it denied access the last time: said once.
    denied: AtomicBool,
}

impl Servers {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When a certificate or key cannot be read or used.
    pub(crate) fn new(
        settings: Settings,
        pass: Pass,
        watch: Watch,
    ) -> Result<Self, ComponentError> {
        let (connections, client) = connector(&settings.tls)?;
        let servers = settings
            .endpoints
            .iter()
            .map(|endpoint| Server::new(connections.clone(), client.clone(), endpoint))
            .collect();
        Ok(Self {
            pass,
            servers,
            watch: (settings.delivery == Delivery::ExactlyOnce).then_some(watch),
            settings,
            turn: AtomicUsize::new(0),
        })
    }

    /// Inserts a block, trying each server at most once.
    ///
    /// # Errors
    /// The failure of the last server tried, with the shortest of all hints: none where a server gave none.
    pub(crate) async fn insert(
        &self,
        signal: Signal,
        block: &Block,
        token: &mut Token,
    ) -> Result<(), Failure> {
        let mut last: Option<Failure> = None;
        for server in self.order() {
            let mut attempt = Attempt {
                server,
                settled: false,
            };
            let result = self.insert_at(server, signal, block, token).await;
            attempt.settle(result.is_ok());
            match result {
                Ok(()) => return Ok(()),
                // The same data or the same mistake would fail on the next server too.
                Err(failure) if matches!(failure.class, Class::Rejected | Class::TooLarge) => {
                    return Err(failure);
                }
                Err(mut failure) => {
                    if let Some(before) = last {
                        // `None` is less than any hint: that server may be asked at any time.
                        failure.after = failure.after.min(before.after);
                    }
                    last = Some(failure);
                }
            }
        }
        Err(last.expect("settings hold at least one endpoint"))
    }

    async fn insert_at(
        &self,
        server: &Server,
        signal: Signal,
        block: &Block,
        token: &mut Token,
    ) -> Result<(), Failure> {
        let Settings {
            layout,
            create_schema,
            ..
        } = &self.settings;
        let with_pass = self.pass.header().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            server.client.clone().with_header(name.as_str(), value)
        });
        let asked = schema::Server {
            url: &server.endpoint.url,
            client: with_pass.as_ref().unwrap_or(&server.client),
            layout,
            create: *create_schema,
            watch: self.watch.as_ref(),
        };
        let result = match server.schema.known(asked, signal).await {
            Ok(known) => {
                let result = self.insert_known(server, &known, block, token).await;
                if matches!(&result, Err(failure) if failure.class == Class::Schema) {
                    server.schema.forget(signal, &known).await;
                }
                result
            }
            Err(failure) => Err(failure),
        };
        server.report_access(&result);
        result
    }

    async fn insert_known(
        &self,
        server: &Server,
        known: &Known,
        block: &Block,
        token: &mut Token,
    ) -> Result<(), Failure> {
        let Block { table, body, .. } = block;
        token.sending();
        let flag = |set| if set { "1" } else { "0" };
        let compressed = self.settings.method != Method::None;
        let mut settings = vec![
            ("decompress", flag(compressed)),
            ("async_insert", flag(self.settings.async_insert)),
            ("insert_deduplication_token", token.name()),
            // The lookup view of traces must skip what the table skips.
            ("deduplicate_blocks_in_dependent_materialized_views", "1"),
            // The block always has every column; optional ones are left out of the statement.
            ("input_format_skip_unknown_fields", "1"),
            // The status waits for the end: a failure is a failure from the first line on.
            ("wait_end_of_query", "1"),
        ];
        if self.settings.async_insert {
            settings.extend([
                ("wait_for_async_insert", "1"),
                ("async_insert_deduplicate", "1"),
            ]);
        }
        if known.version >= PARTITIONS_SETTING {
            // A batch with times all over the years is stored, not refused for ever.
            settings.push(("throw_on_max_partitions_per_insert_block", "0"));
        }
        let insert = post::Insert {
            statement: &self.statement(*table, known),
            settings: &settings,
            pass: &self.pass,
        };
        let result =
            post::insert(&server.connections, &server.endpoint, insert, body.clone()).await;
        token.sent(&result);
        result
    }

    fn statement(&self, table: Table, known: &Known) -> String {
        self.settings.layout.insert(table, &known.lacking)
    }

    /// Servers in the order of the strategy; those that failed a moment ago come last.
    fn order(&self) -> Vec<&Server> {
        let count = self.servers.len();
        let start = match self.settings.strategy {
            Strategy::InOrder => 0,
            Strategy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % count,
            Strategy::Random => random_below(count),
        };
        let (before, from) = self.servers.split_at(start);
        let mut order: Vec<&Server> = from.iter().chain(before).collect();
        order.sort_by_key(|server| server.is_cooling_down());
        order
    }
}

/// Connections for inserts, and a client without an address for everything else; clones share their connections.
fn connector(tls: &ClientTlsSettings) -> Result<(Connections, Client), ComponentError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config(&[])?)
        .https_or_http();
    if let Some(name) = &tls.server_name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone()));
    }
    let connector = builder.enable_http1().wrap_connector(tcp);
    let mut pool = HttpClient::builder(TokioExecutor::new());
    pool.pool_idle_timeout(IDLE_CONNECTION)
        .pool_timer(TokioTimer::new());
    Ok((
        pool.build(connector.clone()),
        Client::with_http_client(pool.build(connector)),
    ))
}

impl Server {
    fn new(connections: Connections, client: Client, endpoint: &Endpoint) -> Self {
        let mut client = client
            .with_url(&endpoint.url)
            .with_compression(Compression::None)
            .with_product_info("tidegate", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &endpoint.username {
            client = client.with_user(user);
        }
        if let Some(password) = &endpoint.password {
            client = client.with_password(password.expose());
        }
        for (name, value) in &endpoint.settings {
            client = client.with_setting(name, value);
        }
        Self {
            endpoint: endpoint.clone(),
            connections,
            client,
            schema: Schema::default(),
            failed: Mutex::new(None),
            denied: AtomicBool::new(false),
        }
    }

    fn is_cooling_down(&self) -> bool {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|failed| failed.elapsed() < COOLDOWN)
    }

    fn set_failed(&self, failed: bool) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed.then(Instant::now);
    }

    fn report_access(&self, result: &Result<(), Failure>) {
        let denied = matches!(result, Err(failure) if failure.class == Class::Denied);
        if result.is_err() && !denied {
            return;
        }
        if self.denied.swap(denied, Ordering::Relaxed) == denied {
            return;
        }
        match result {
            Err(cause) => error!(
                server = self.endpoint.url, %cause,
                "ClickHouse denies access: nothing can be stored until the user, password or grants are put right; \
                 data waits in the queue"
            ),
            Ok(()) => info!(server = self.endpoint.url, "ClickHouse grants access again"),
        }
    }
}

/// An attempt at one server: if it is cut short, as by a timeout, the server counts as failed.
struct Attempt<'a> {
    server: &'a Server,
    settled: bool,
}

impl Attempt<'_> {
    fn settle(&mut self, worked: bool) {
        self.settled = true;
        self.server.set_failed(!worked);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.server.set_failed(true);
        }
    }
}

/// A number below `bound`, from the hasher's random keys.
fn random_below(bound: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0u8);
    usize::try_from(bits % bound.max(1) as u64).unwrap_or_default()
}
