//! What a process is: the servers of its role, with their databases, and who calls whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;

use crate::cli::{Address, Args, Role};
use crate::client::{CallSettings, InventoryClient};
use crate::database::Database;
use crate::inventory::{self, InventoryService};
use crate::measure::{Measure, QUERY_BOUNDARIES, REQUEST_BOUNDARIES};
use crate::observe::Observer;
use crate::order::{self, OrderService};
use crate::routes::{Route, router};
use crate::telemetry::Telemetry;

/// Enough for a load test to run for a while.
const STOCK_DEFAULT: u64 = 1_000_000;

/// A server that is bound, and has not begun to answer.
pub(crate) struct Server {
    /// Told where the process has more than one.
    pub(crate) name: Option<&'static str>,
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
    pub(crate) app: Router,
    /// To be closed when the server has ended.
    pub(crate) database: Database,
}

/// The name of the service in its telemetry, unless the environment says another.
pub(crate) fn service_name(role: Role) -> &'static str {
    match role {
        Role::All => env!("CARGO_PKG_NAME"),
        Role::Order => "order",
        Role::Inventory => "inventory",
    }
}

/// Opens the databases and binds the servers of the role: first the one that others call from outside.
///
/// # Errors
///
/// An address is taken, or a database cannot be opened.
pub(crate) async fn bind(args: &Args, telemetry: &Telemetry) -> anyhow::Result<Vec<Server>> {
    let listen = |default: &'static str| args.listen.as_deref().unwrap_or(default).to_owned();
    let builder = Builder { args, telemetry };
    match args.role {
        Role::Inventory => Ok(vec![
            builder.inventory(&listen("127.0.0.1:8081"), None).await?,
        ]),
        Role::Order => {
            let inventories = args.calls.inventory.clone();
            Ok(vec![
                builder
                    .order(&listen("127.0.0.1:8080"), inventories)
                    .await?,
            ])
        }
        Role::All => {
            let inventory = builder.inventory("127.0.0.1:0", Some("inventory")).await?;
            let inventories = vec![Address::from(inventory.address)];
            let order = builder
                .order(&listen("127.0.0.1:8080"), inventories)
                .await?;
            Ok(vec![order, inventory])
        }
    }
}

struct Builder<'a> {
    args: &'a Args,
    telemetry: &'a Telemetry,
}

impl Builder<'_> {
    async fn inventory(&self, listen: &str, name: Option<&'static str>) -> anyhow::Result<Server> {
        let stock = self.args.stock.unwrap_or(STOCK_DEFAULT);
        let stock = i64::try_from(stock).context("the stock is too large")?;
        let database = self.database(|it| inventory::prepare(it, stock))?;
        let service = Arc::new(InventoryService {
            database: database.clone(),
            body_bytes_max: self.args.max_body_bytes,
        });
        let routes = inventory::routes(&service);
        self.server(listen, name, "inventory", routes, database)
            .await
    }

    async fn order(&self, listen: &str, inventories: Vec<Address>) -> anyhow::Result<Server> {
        let calls = &self.args.calls;
        let settings = CallSettings {
            addresses: inventories,
            attempts: usize::from(calls.call_attempts),
            timeout: Duration::from_millis(calls.call_timeout_ms),
            delay: Duration::from_millis(calls.call_retry_delay_ms),
        };
        let durations = Measure::new(
            self.telemetry.meter(),
            self.telemetry.exemplars(),
            "http.client.request.duration",
            "Duration of HTTP client requests.",
            &REQUEST_BOUNDARIES,
        );
        let orders = self
            .telemetry
            .meter()
            .u64_counter("target_svc.orders")
            .with_unit("{order}")
            .with_description("Orders that the inventory decided on.")
            .build();
        let database = self.database(order::prepare)?;
        let service = Arc::new(OrderService {
            database: database.clone(),
            inventory: InventoryClient::new(settings, durations),
            orders,
            body_bytes_max: self.args.max_body_bytes,
        });
        let routes = order::routes(&service);
        self.server(listen, None, "order", routes, database).await
    }

    fn database(
        &self,
        prepare: impl Fn(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> anyhow::Result<Database> {
        let durations = Measure::new(
            self.telemetry.meter(),
            self.telemetry.exemplars(),
            "db.client.operation.duration",
            "Duration of database client operations.",
            &QUERY_BOUNDARIES,
        );
        Database::open(self.args.database.as_deref(), durations, prepare)
    }

    async fn server(
        &self,
        listen: &str,
        name: Option<&'static str>,
        role: &str,
        routes: Vec<Route>,
        database: Database,
    ) -> anyhow::Result<Server> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let observer = Observer::new(self.telemetry.meter(), self.telemetry.exemplars(), address);
        let title = format!("target-svc, {role}");
        let scrape = self.telemetry.scrape();
        let app = router(&title, self.args.max_body_bytes, observer, scrape, routes);
        Ok(Server {
            name,
            address,
            listener,
            app,
            database,
        })
    }
}
