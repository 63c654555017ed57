//! Both roles as processes: stock under concurrency, orders that happen once, and one trace through all of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value as Json, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use support::{Client, Collector, Service, attribute, hex};

/// Nobody listens there: these tests look at answers.
const NOWHERE: &str = "http://127.0.0.1:9";
const QUICK_END: [&str; 2] = ["--shutdown-timeout-ms", "100"];

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

async fn inventory(endpoint: &str, args: &[&str]) -> Service {
    Service::start(
        endpoint,
        &[&["inventory"], &QUICK_END[..], args].concat(),
        &[],
    )
    .await
}

async fn order(endpoint: &str, inventories: &[&Service], args: &[&str]) -> Service {
    let urls: Vec<_> = inventories
        .iter()
        .map(|it| format!("http://{}", it.address))
        .collect();
    let urls = urls.join(",");
    let fixed = ["order", "--inventory", urls.as_str()];
    Service::start(endpoint, &[&fixed, &QUICK_END[..], args].concat(), &[]).await
}

async fn stock_of(client: &mut Client, product: usize) -> i64 {
    let answer = client.get("/list-products").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["products"][product - 1]["stock"]
        .as_i64()
        .unwrap()
}

#[tokio::test]
async fn the_stock_is_what_the_orders_left_and_never_below_zero() {
    let folder = tempfile::tempdir().unwrap();
    let orders = folder.path().join("orders.db");
    let shared = ["--database", orders.to_str().unwrap()];
    let inventory = inventory(NOWHERE, &["--stock", "50"]).await;
    let replicas = [
        order(NOWHERE, &[&inventory], &shared).await,
        order(NOWHERE, &[&inventory], &shared).await,
    ];
    let mut customers = tokio::task::JoinSet::new();
    for customer in 0..8_i64 {
        let mut client = replicas[customer as usize % 2].client().await;
        customers.spawn(async move {
            let mut bought = 0;
            for number in 0..10 {
                let quantity = 1 + (customer + number) % 3;
                let answer = client
                    .order(&format!("{customer}-{number}"), 1, quantity)
                    .await;
                match answer.status {
                    201 => bought += quantity,
                    409 => assert!(answer.text.contains("in stock"), "{}", answer.text),
                    other => panic!("{other}: {}", answer.text),
                }
            }
            bought
        });
    }
    let bought: i64 = customers.join_all().await.iter().sum();
    let mut client = replicas[0].client().await;
    let left = stock_of(&mut client, 1).await;
    assert_eq!(bought + left, 50);
    assert!(
        (0..3).contains(&left),
        "{left}: someone was refused, and nobody wanted more than three"
    );

    let listed = replicas[1]
        .client()
        .await
        .get("/list-orders?limit=1000")
        .await;
    let listed = listed.body["orders"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 80, "both replicas know all orders");
    let confirmed = listed.iter().filter(|it| it["status"] == "confirmed");
    let sum: i64 = confirmed.map(|it| it["quantity"].as_i64().unwrap()).sum();
    assert_eq!(sum, bought);
}

#[tokio::test]
async fn an_order_happens_once_though_the_inventory_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let stock = folder.path().join("stock.db");
    let args = ["--stock", "1000", "--database", stock.to_str().unwrap()];
    let first = inventory(NOWHERE, &args).await;
    let second = inventory(NOWHERE, &args).await;
    let order = order(NOWHERE, &[&first, &second], &["--call-retry-delay-ms", "1"]).await;

    let mut customers = tokio::task::JoinSet::new();
    for customer in 0..4 {
        let mut client = order.client().await;
        customers.spawn(async move {
            for number in 0..25 {
                let id = format!("{customer}-{number}");
                // Whoever has no answer asks again, and whoever has one may ask again.
                let start = std::time::Instant::now();
                while client.order(&id, 2, 1).await.status >= 500 {
                    assert!(start.elapsed() < support::DEADLINE);
                }
                let again = client.order(&id, 2, 1).await;
                assert_eq!(again.status, 200, "{}", again.text);
                let other = client.order(&id, 2, 2).await;
                assert_eq!(other.status, 422, "{}", other.text);
            }
        });
    }
    let mut watching = second.client().await;
    let start = std::time::Instant::now();
    while stock_of(&mut watching, 2).await > 990 {
        assert!(start.elapsed() < support::DEADLINE);
    }
    first.stop_by("KILL").await;
    customers.join_all().await;
    assert_eq!(
        stock_of(&mut watching, 2).await,
        900,
        "100 orders of one piece each"
    );
}

/// Passes everything on to `inventory`, but keeps the answers of the first connection for itself. Where it listens.
async fn swallows_the_first_answer(inventory: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(inventory).await.unwrap();
            if std::mem::take(&mut is_first) {
                let (mut from_client, _) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let mut answer = [0];
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = from_server.read(&mut answer) => {}
                }
                continue;
            }
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    address
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_on_the_way_is_carried_out_once() {
    let inventory = inventory(NOWHERE, &["--stock", "10"]).await;
    let way = swallows_the_first_answer(inventory.address).await;
    let url = format!("http://{way}");
    let args = ["order", "--inventory", &url, "--call-retry-delay-ms", "1"];
    let order = Service::start(NOWHERE, &[&args[..], &QUICK_END].concat(), &[]).await;
    let answer = order.client().await.order("a", 1, 4).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(stock_of(&mut inventory.client().await, 1).await, 6);
    let replayed = inventory.stop().await.log;
    let replayed = replayed.iter().map(Json::to_string);
    assert_eq!(
        replayed
            .filter(|line| line.contains("\"replayed\":true"))
            .count(),
        1,
        "the first call was carried out, the second one knew it"
    );
}

#[tokio::test]
async fn an_order_that_was_refused_stays_refused_for_the_same_reason() {
    let inventory = inventory(NOWHERE, &["--stock", "10"]).await;
    let order = order(NOWHERE, &[&inventory], &[]).await;
    let mut client = order.client().await;
    for (id, product, status, kept) in [("a", 1, 409, "rejected"), ("b", 99, 422, "invalid")] {
        let first = client.order(id, product, 11).await;
        let again = client.order(id, product, 11).await;
        assert_eq!((first.status, again.status), (status, status), "{id}");
        assert_eq!(first.text, again.text);
        let latest = client.get("/list-orders?limit=1").await.body["orders"][0].clone();
        assert_eq!(latest["status"], kept);
        assert!(first.text.contains(latest["reason"].as_str().unwrap()));
    }
    assert_eq!(stock_of(&mut client, 1).await, 10);
}

#[tokio::test]
async fn without_an_inventory_an_order_is_pending_and_the_answer_says_so() {
    let gone = inventory(NOWHERE, &[]).await;
    let order = order(NOWHERE, &[&gone], &["--call-retry-delay-ms", "1"]).await;
    gone.stop_by("KILL").await;
    let mut client = order.client().await;
    let answer = client.order("a", 1, 1).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["order_id"], "a");
    assert_eq!(client.get("/list-products").await.status, 503);
    let listed = client.get("/list-orders").await.body;
    assert_eq!(listed["orders"][0]["status"], "pending");
}

#[tokio::test]
async fn an_order_without_an_id_is_sent_again_with_the_id_of_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stock.db");
    let args = ["--stock", "10", "--database", file.to_str().unwrap()];
    let inventory = inventory(NOWHERE, &args).await;
    let order = order(NOWHERE, &[&inventory], &["--call-retry-delay-ms", "1"]).await;
    let mut client = order.client().await;
    let stock = rusqlite::Connection::open(&file).unwrap();

    stock
        .execute_batch("ALTER TABLE products RENAME TO gone")
        .unwrap();
    let headers = [("content-type", "application/json")];
    let body = r#"{"product_id":1,"quantity":2}"#;
    let away = client.send("POST", "/order-product", &headers, body).await;
    assert_eq!(
        (away.status, away.kind.as_str()),
        (503, "application/problem+json")
    );
    let id = away.body["order_id"].as_str().unwrap();
    let sentence = format!("try again with the same id, `{id}`");
    assert!(away.text.contains(&sentence), "{}", away.text);
    let products = client.get("/list-products").await;
    assert_eq!(products.status, 503);
    assert!(!products.text.contains("same id"), "{}", products.text);
    let pending = client.get("/list-orders").await.body["orders"][0].clone();
    assert_eq!(
        (&pending["order_id"], &pending["status"]),
        (&json!(id), &json!("pending"))
    );

    stock
        .execute_batch("ALTER TABLE gone RENAME TO products")
        .unwrap();
    for status in [201, 200, 200] {
        let answer = client.order(id, 1, 2).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert_eq!(stock_of(&mut client, 1).await, 8);
    let orders = client.get("/list-orders").await.body["orders"].clone();
    assert_eq!(orders.as_array().unwrap().len(), 1, "{orders}");
}

fn named<'a>(spans: &'a [Span], name: &str, port: Option<u16>) -> Vec<&'a Span> {
    let at = |it: &&Span| port.is_none_or(|port| attribute(&it.attributes, "server.port") == port);
    spans
        .iter()
        .filter(|it| it.name == name)
        .filter(at)
        .collect()
}

#[tokio::test]
async fn an_order_is_one_trace_through_both_roles_and_their_databases() {
    let collector = Collector::start().await;
    let wait = ["--shutdown-timeout-ms", "10000"];
    let inventory = Service::start(
        &collector.endpoint,
        &[&["inventory"], &wait[..]].concat(),
        &[],
    )
    .await;
    let url = format!("http://{}", inventory.address);
    let order = Service::start(&collector.endpoint, &["order", "--inventory", &url], &[]).await;
    let (order_port, inventory_port) = (order.address.port(), inventory.address.port());
    let parent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", parent.as_str()),
    ];
    let mut client = order.client().await;
    let body = r#"{"product_id":1,"quantity":2,"order_id":"a"}"#;
    let answer = client.send("POST", "/order-product", &headers, body).await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (201, &json!("confirmed"))
    );
    let page = client.get("/metrics").await.text;
    let logs = [order.stop().await.log, inventory.stop().await.log];

    let all = collector.spans();
    let spans: Vec<_> = all
        .into_iter()
        .filter(|it| hex(&it.trace_id) == TRACE_ID)
        .collect();
    let ordered = named(&spans, "POST /order-product", Some(order_port))[0];
    let call = named(&spans, "POST /reduce-stock", Some(inventory_port));
    let [client_span, server_span] = call.as_slice() else {
        panic!("{call:?}")
    };
    let (client_span, server_span) = if client_span.kind == 3 {
        (client_span, server_span)
    } else {
        (server_span, client_span)
    };
    assert_eq!(client_span.parent_span_id, ordered.span_id);
    assert_eq!(server_span.parent_span_id, client_span.span_id);
    for (name, parent) in [
        ("INSERT orders", &ordered.span_id),
        ("UPDATE orders", &ordered.span_id),
        ("UPDATE products", &server_span.span_id),
    ] {
        let found = named(&spans, name, None);
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(
            (&found[0].parent_span_id, found[0].kind),
            (parent, 3),
            "{name}"
        );
        for (key, value) in [
            ("db.system.name", "sqlite"),
            ("db.namespace", ":memory:"),
            ("db.query.summary", name),
        ] {
            assert_eq!(attribute(&found[0].attributes, key), value, "{name}");
        }
        assert!(attribute(&found[0].attributes, "db.query.text").is_string());
    }
    check_logs(&logs);
    check_exemplars(&collector, &page);
}

/// Each role has logged its part within the trace.
fn check_logs(logs: &[Vec<Json>]) {
    for (log, message) in logs.iter().zip(["order confirmed", "stock reduced"]) {
        let line = log.iter().find(|it| it["message"] == message).unwrap();
        assert_eq!(line["trace_id"], TRACE_ID, "{line}");
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    }
}

/// Each of the three durations points to the trace, over OTLP; and the page does, where it is the order's.
fn check_exemplars(collector: &Collector, page: &str) {
    let metrics = collector.metrics();
    for name in [
        "http.server.request.duration",
        "http.client.request.duration",
        "db.client.operation.duration",
    ] {
        let histograms = metrics
            .iter()
            .filter(|it| it.name == name)
            .filter_map(|it| match &it.data {
                Some(Data::Histogram(it)) => Some(it),
                _ => None,
            });
        let exemplars = histograms
            .flat_map(|it| &it.data_points)
            .flat_map(|it| &it.exemplars);
        let traces: BTreeSet<_> = exemplars.map(|it| hex(&it.trace_id)).collect();
        assert!(traces.contains(TRACE_ID), "{name}: {traces:?}");
        let bucket = format!("{}_seconds_bucket", name.replace('.', "_"));
        let line = |it: &&str| {
            it.starts_with(&bucket) && it.contains(&format!("# {{trace_id=\"{TRACE_ID}\""))
        };
        assert!(page.lines().any(|it| line(&it)), "{name}: {page}");
    }
    assert!(
        page.contains("target_svc_orders_total{order_status=\"confirmed\"} 1"),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_documented_route_refuses_what_it_does_not_take() {
    let inventory = inventory(NOWHERE, &[]).await;
    let order = order(NOWHERE, &[&inventory], &[]).await;
    for (service, routes) in [(&inventory, 10), (&order, 11)] {
        let mut client = service.client().await;
        let document = client.get("/openapi.json").await.body;
        assert_eq!(document["openapi"], "3.1.0");
        let page = client.get("/docs").await.text;
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), routes, "{:?}", paths.keys());
        for (path, methods) in paths {
            assert!(page.contains(path.as_str()), "{path}");
            check_route(&mut client, path, methods).await;
        }
    }
}

/// Sends a route what it must refuse, whatever it does.
async fn check_route(client: &mut Client, path: &str, methods: &Json) {
    let methods = methods.as_object().unwrap();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "BREW"] {
        if !methods.contains_key(&method.to_lowercase()) {
            check_problem(client, method, path, "application/json", "{}").await;
        }
    }
    let Some((method, operation)) = methods.iter().next() else {
        return;
    };
    let method = method.to_uppercase();
    if operation.get("requestBody").is_some() {
        for body in [
            "",
            "{",
            "[]",
            "[1,1]",
            "[[1],[1]]",
            "[\"x\",1,1]",
            "null",
            "{}",
            "7",
            "\"x\"",
            "{\"product_id\":1}",
            "\u{0}",
            r#"{"product_id":1,"quantity":0,"order_id":"x"}"#,
            r#"{"product_id":1,"quantity":-1,"order_id":"x"}"#,
            r#"{"product_id":1,"quantity":1e99,"order_id":"x"}"#,
            r#"{"product_id":1,"quantity":9223372036854775807,"order_id":"x"}"#,
            r#"{"product_id":1,"quantity":1,"order_id":""}"#,
            r#"{"product_id":1,"quantity":1,"order_id":"a b"}"#,
            r#"{"product_id":-5,"quantity":1,"order_id":"none"}"#,
            r#"{"product_id":1,"quantity":1,"order_id":"x","more":1}"#,
        ] {
            check_problem(client, &method, path, "application/json", body).await;
        }
        check_problem(client, &method, path, "text/plain", "{}").await;
    }
    let parameters = operation["parameters"].as_array().unwrap();
    for parameter in parameters.iter().filter(|it| it["in"] == "query") {
        let name = parameter["name"].as_str().unwrap();
        for value in ["x", "-1", "99999999", "", "NaN", "1&more=1"] {
            check_problem(client, &method, &format!("{path}?{name}={value}"), "", "").await;
        }
    }
}

async fn check_problem(client: &mut Client, method: &str, path: &str, kind: &str, body: &str) {
    let headers = [("content-type", kind)];
    let answer = client
        .send(method, path, &headers[usize::from(kind.is_empty())..], body)
        .await;
    let what = format!("{method} {path} {body:?}: {}", answer.text);
    assert!(
        (400..500).contains(&answer.status),
        "{} {what}",
        answer.status
    );
    assert_eq!(answer.kind, "application/problem+json", "{what}");
    assert_eq!(answer.body["status"], answer.status, "{what}");
    assert!(
        answer.body["detail"]
            .as_str()
            .is_some_and(|it| !it.is_empty()),
        "{what}"
    );
}

#[tokio::test]
async fn failures_happen_on_demand_only() {
    let service = Service::start(NOWHERE, &QUICK_END, &[]).await;
    let mut client = service.client().await;
    let start = std::time::Instant::now();
    assert_eq!(client.get("/simulate/latency?ms=120").await.status, 200);
    assert!(start.elapsed().as_millis() >= 120);
    assert_eq!(client.get("/simulate/error").await.status, 500);
    assert_eq!(client.get("/simulate/error?status=418").await.status, 418);
    assert_eq!(client.get("/simulate/error?rate=0").await.status, 200);
    for expected in [202, 202, 202, 202, 503] {
        let answer = client
            .send("POST", "/simulate/heavy-task?ms=3000", &[], "")
            .await;
        assert_eq!(answer.status, expected, "{}", answer.text);
    }
    let answer = client.order("a", 1, 1).await;
    assert_eq!(
        answer.status, 201,
        "without a role it is both: {}",
        answer.text
    );
}

#[tokio::test]
async fn a_clean_stop_leaves_everything_in_the_database_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let args = ["--database", file.to_str().unwrap()];
    // Without telemetry there is nothing else that the end would wait for.
    let disabled = [("OTEL_SDK_DISABLED", "true")];
    for number in 1..=5 {
        let service = Service::start(NOWHERE, &args, &disabled).await;
        let answer = service
            .client()
            .await
            .order(&format!("{number}"), 1, 1)
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert!(service.stop().await.success);
        let files: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(files, ["shop.db"]);
        let reader = rusqlite::Connection::open(&file).unwrap();
        let kept = reader.query_row("SELECT count(*) FROM orders", [], |row| row.get(0));
        assert_eq!(kept, Ok(number));
    }
}
