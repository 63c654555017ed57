//! Whether the OpenAPI document says all that the service answers, and no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};
use support::schema::misfit;
use support::{Answer, Client, Service};

/// Nobody listens there: these tests look at answers.
const NOWHERE: &str = "http://127.0.0.1:9";

const JSON: (&str, &str) = ("content-type", "application/json");

/// A client that compares each answer with the document, and remembers what it has seen.
struct Documented {
    client: Client,
    document: Json,
    seen: BTreeSet<String>,
}

impl Documented {
    async fn of(service: &Service) -> Self {
        let mut client = service.client().await;
        let document = client.get("/openapi.json").await.body;
        Self {
            client,
            document,
            seen: BTreeSet::new(),
        }
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = self.client.send(method, target, headers, body).await;
        let path = target.split('?').next().unwrap();
        let operation = operation_at(path, &method.to_lowercase());
        let status = answer.status.to_string();
        let range = format!("{}XX", answer.status / 100);
        let media = answer.kind.split(';').next().unwrap();
        let content = [&status, &range]
            .map(|it| format!("{operation}/responses/{it}/content/{}", escape(media)))
            .into_iter()
            .find(|it| self.document.pointer(it).is_some());
        let what = format!("{method} {target} {body}: {status} {media} {}", answer.text);
        let content = content.unwrap_or_else(|| panic!("not documented: {what}"));
        let answered = if media.ends_with("json") {
            answer.body.clone()
        } else {
            Json::String(answer.text.clone())
        };
        assert_eq!(self.misfit(&content, &answered), None, "{what}");
        self.seen.insert(content);
        let taken = format!("{operation}/requestBody/content/application~1json");
        if answer.status < 300 && self.document.pointer(&taken).is_some() {
            let sent = serde_json::from_str(body).unwrap();
            assert_eq!(self.misfit(&taken, &sent), None, "{what}");
        }
        answer
    }

    /// Sends requests `METHOD TARGET` with a body of JSON, if there is one, and checks the statuses.
    async fn check(&mut self, requests: &[(&str, &str, u16)]) {
        for (request, body, status) in requests {
            let (method, target) = request.split_once(' ').unwrap();
            let headers = &[JSON][usize::from(body.is_empty())..];
            let answer = self.send(method, target, headers, body).await;
            assert_eq!(answer.status, *status, "{request} {body}: {}", answer.text);
        }
    }

    /// Why a value does not fit the schema of what is at `content` in the document.
    fn misfit(&self, content: &str, value: &Json) -> Option<String> {
        let schema = self.document.pointer(&format!("{content}/schema"));
        misfit(&self.document, schema.unwrap(), value)
    }

    fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.clone()))
            })
            .collect()
    }

    /// What the document says is answered, and was not.
    fn unseen(&self) -> Vec<String> {
        let mut documented = BTreeSet::new();
        for (path, method) in self.operations() {
            let responses = format!("{}/responses", operation_at(&path, &method));
            let all = self.document.pointer(&responses).unwrap();
            for (status, response) in all.as_object().unwrap() {
                for media in response["content"].as_object().unwrap().keys() {
                    documented.insert(format!("{responses}/{status}/content/{}", escape(media)));
                }
            }
        }
        documented.difference(&self.seen).cloned().collect()
    }
}

fn operation_at(path: &str, method: &str) -> String {
    format!("/paths/{}/{method}", escape(path))
}

/// A key within a JSON pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

async fn start(role: &[&str], database: &Path) -> Service {
    let fixed = [
        "--database",
        database.to_str().unwrap(),
        "--max-body-bytes",
        "500",
        "--shutdown-timeout-ms",
        "100",
    ];
    Service::start(NOWHERE, &[role, &fixed].concat(), &[]).await
}

/// What makes every query of a database fail that needs the table.
fn drop_table(database: &Path, table: &str) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let text = format!("PRAGMA foreign_keys = OFF; DROP TABLE {table}");
    connection.execute_batch(&text).unwrap();
}

/// Whatever a route for a body answers to what is no such body.
async fn check_bodies(service: &mut Documented, request: &str) {
    let large = format!("{{\"more\":\"{}\"}}", "x".repeat(500));
    for (body, status) in [
        ("{", 400),
        (large.as_str(), 413),
        ("[1,1]", 422),
        ("7", 422),
    ] {
        service.check(&[(request, body, status)]).await;
    }
    let (method, path) = request.split_once(' ').unwrap();
    let coded = |coding| [JSON, ("content-encoding", coding)];
    for (headers, status) in [(&[][..], 415), (&coded("br"), 415), (&coded("gzip"), 400)] {
        let answer = service.send(method, path, headers, "{}").await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

async fn check_common_routes(service: &mut Documented) {
    check_bodies(service, "POST /api/vector/add").await;
    let accept = [("accept", "text/plain")];
    assert_eq!(
        service.send("GET", "/metrics", &accept, "").await.status,
        200
    );
    service
        .check(&[
            ("GET /health", "", 200),
            ("GET /openapi.json", "", 200),
            ("GET /docs", "", 200),
            ("GET /metrics", "", 200),
            ("POST /api/vector/add", r#"{"a":[1],"b":[2]}"#, 200),
            ("POST /api/vector/add", r#"{"a":[1],"b":[2],"c":1}"#, 422),
            ("POST /api/vector/add", "[[1],[2]]", 422),
            ("GET /simulate/latency?ms=0", "", 200),
            ("GET /simulate/error?rate=0", "", 200),
            ("GET /simulate/error", "", 500),
            ("GET /simulate/error?status=400", "", 400),
            ("GET /simulate/error?status=418", "", 418),
            ("GET /simulate/error?status=599", "", 599),
            ("POST /simulate/heavy-task?ms=3000", "", 202),
            ("POST /simulate/heavy-task?ms=3000", "", 202),
            ("POST /simulate/heavy-task?ms=3000", "", 202),
            ("POST /simulate/heavy-task?ms=3000", "", 202),
            ("POST /simulate/heavy-task?ms=3000", "", 503),
        ])
        .await;
}

/// What is beyond the bounds of a parameter is refused, and each has bounds.
async fn check_parameters(service: &mut Documented) {
    for (path, method) in service.operations() {
        let operation = service.document.pointer(&operation_at(&path, &method));
        let parameters = operation.unwrap()["parameters"].clone();
        for parameter in parameters.as_array().unwrap() {
            let schema = &parameter["schema"];
            if parameter["in"] != "query" {
                assert!(schema["pattern"].is_string() && schema["maxLength"].is_u64());
                continue;
            }
            let bound = |key: &str| schema[key].as_f64().unwrap();
            let (least, most) = (bound("minimum"), bound("maximum"));
            assert!((least..=most).contains(&bound("default")));
            for beyond in [least - 1.0, most + 1.0] {
                let name = parameter["name"].as_str().unwrap();
                let target = format!("{path}?{name}={beyond}");
                let answer = service.send(&method.to_uppercase(), &target, &[], "").await;
                assert_eq!(answer.status, 400, "{target}");
            }
        }
    }
}

/// The example of each body is taken, and stands on the page with its fields.
async fn check_examples_and_page(service: &mut Documented) {
    let page = service.send("GET", "/docs", &[], "").await.text;
    for part in [
        "<meta name=\"viewport\"",
        "<link rel=\"icon\" href=\"data:,\">",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for (path, method) in service.operations() {
        let operation = service.document.pointer(&operation_at(&path, &method));
        let operation = operation.unwrap().clone();
        let id = operation["operationId"].as_str().unwrap();
        let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
        assert!(id.chars().all(is_plain), "{id}");
        let url = format!("http://{}{path}", service.client.address());
        assert!(page.contains(&url), "{url}: {page}");
        let body = &operation["requestBody"]["content"]["application/json"];
        let Some(fields) = body["schema"]["$ref"].as_str() else {
            continue;
        };
        let schema = service.document.pointer(fields.trim_start_matches('#'));
        for field in schema.unwrap()["properties"].as_object().unwrap().keys() {
            let row = format!("<code>body {field}</code>");
            assert!(page.contains(&row), "{row}: {page}");
        }
        let example = body["example"].to_string();
        let method = method.to_uppercase();
        let answer = service.send(&method, &path, &[JSON], &example).await;
        assert!(answer.status < 300, "{example}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_document_has_every_answer_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (stock, orders) = (
        folder.path().join("stock.db"),
        folder.path().join("orders.db"),
    );
    let inventory = start(&["inventory", "--stock", "10"], &stock).await;
    let url = format!("http://{}", inventory.address);
    let role = ["order", "--inventory", &url, "--call-retry-delay-ms", "1"];
    let order = start(&role, &orders).await;
    let mut inventory = Documented::of(&inventory).await;
    let mut order = Documented::of(&order).await;
    for service in [&mut inventory, &mut order] {
        check_examples_and_page(service).await;
        check_parameters(service).await;
        check_common_routes(service).await;
    }
    check_bodies(&mut inventory, "POST /reduce-stock").await;
    check_bodies(&mut order, "POST /order-product").await;
    let reduce = "POST /reduce-stock";
    let buy = "POST /order-product";
    inventory
        .check(&[
            ("GET /list-products", "", 200),
            (
                reduce,
                r#"{"order_id":"b","product_id":1,"quantity":100}"#,
                409,
            ),
            (reduce, r#"["b",1,1]"#, 422),
        ])
        .await;
    order
        .check(&[
            ("GET /list-products", "", 200),
            (buy, r#"{"order_id":"c","product_id":1,"quantity":1}"#, 201),
            (buy, r#"{"order_id":"c","product_id":1,"quantity":1}"#, 200),
            (buy, r#"{"product_id":1,"quantity":100}"#, 409),
            ("GET /list-orders", "", 200),
        ])
        .await;
    let keys = [JSON, ("idempotency-key", "d"), ("idempotency-key", "e")];
    let body = r#"{"product_id":1,"quantity":1}"#;
    let answer = order.send("POST", "/order-product", &keys, body).await;
    assert_eq!(answer.status, 400, "{}", answer.text);

    drop_table(&stock, "products");
    let take = r#"{"order_id":"f","product_id":1,"quantity":1}"#;
    inventory
        .check(&[("GET /list-products", "", 503), (reduce, take, 503)])
        .await;
    order
        .check(&[("GET /list-products", "", 503), (buy, take, 503)])
        .await;
    drop_table(&orders, "orders");
    order
        .check(&[("GET /list-orders", "", 503), (buy, take, 503)])
        .await;
    for service in [inventory, order] {
        assert_eq!(service.unseen(), Vec::<String>::new());
    }
}

#[test]
fn schemas_tell_values_apart() {
    let document = json!({ "id": { "type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]+$" } });
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "$ref": "#/id" },
            "size": { "type": ["integer", "null"], "minimum": 1, "maximum": 9 },
            "sizes": { "type": "array", "items": { "type": "number" } },
            "state": { "oneOf": [{ "const": "on" }, { "const": "off" }] },
        },
        "additionalProperties": false,
    });
    let check = |value: Json, expected: bool| {
        let misfit = misfit(&document, &schema, &value);
        assert_eq!(misfit.is_none(), expected, "{value}: {misfit:?}");
    };
    check(
        json!({ "id": "a", "size": 9, "sizes": [1, 0.5], "state": "on" }),
        true,
    );
    check(json!({ "id": "abc", "size": null, "sizes": [] }), true);
    for wrong in [
        json!([]),
        json!({}),
        json!({ "id": "" }),
        json!({ "id": "abcd" }),
        json!({ "id": "A" }),
        json!({ "id": 1 }),
        json!({ "id": "a", "size": 0 }),
        json!({ "id": "a", "size": 10 }),
        json!({ "id": "a", "size": 1.5 }),
        json!({ "id": "a", "sizes": ["1"] }),
        json!({ "id": "a", "state": "broken" }),
        json!({ "id": "a", "more": 1 }),
    ] {
        check(wrong, false);
    }
}
