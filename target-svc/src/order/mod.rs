//! The order role: takes orders, and has the inventory reduce the stock for each of them once.

mod store;

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::store::{Order, Status};
use crate::body::{TOO_LARGE, UNSUPPORTED, read_json};
use crate::client::{Answer, InventoryClient};
use crate::database::Database;
use crate::inventory::{
    DATABASE_AWAY, ORDER_ID_CHARACTERS_MAX, ORDER_ID_PATTERN, Products, QUANTITY_MAX, REDUCE_STOCK,
    Reduced, Reduction, check_order_id, check_quantity, order_id_schema,
};
use crate::problem::{Problem, ProblemText};
use crate::query::{NumberParameter, Query};
use crate::routes::{Parameter, RequestBody, Route};

pub(crate) use self::store::prepare;

/// A thousand orders are about 200 kB of JSON.
const LIMIT: NumberParameter<i64> = NumberParameter {
    name: "limit",
    about: "How many orders at most",
    range: 1..=1_000,
    default: 100,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the handlers share.
pub(crate) struct OrderService {
    pub(crate) database: Database,
    pub(crate) inventory: InventoryClient,
    pub(crate) orders: Counter<u64>,
    pub(crate) body_bytes_max: usize,
}

/// What a customer sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    product_id: i64,
    #[schemars(range(min = 1, max = QUANTITY_MAX))]
    quantity: i64,
    /// Makes the order idempotent, as the header `Idempotency-Key` does; a new id if neither is given.
    #[schemars(length(min = 1, max = ORDER_ID_CHARACTERS_MAX), regex(pattern = ORDER_ID_PATTERN))]
    order_id: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Orders {
    orders: Vec<Order>,
}

pub(crate) fn routes(service: &Arc<OrderService>) -> Vec<Route> {
    vec![
        Route {
            parameters: vec![LIMIT.documented()],
            answers: &[
                ("200", "The latest orders, the newest first"),
                ("400", "A parameter is wrong"),
                DATABASE_AWAY,
            ],
            ..Route::new::<Orders>(
                "GET",
                "/list-orders",
                "Latest orders",
                get(list_orders).with_state(Arc::clone(service)),
            )
        },
        Route {
            answers: &[
                ("200", "All products"),
                ("503", "The inventory does not answer"),
            ],
            ..Route::new::<Products>(
                "GET",
                "/list-products",
                "Products and their stock, from the inventory",
                get(list_products).with_state(Arc::clone(service)),
            )
        },
        order_route(service),
    ]
}

fn order_route(service: &Arc<OrderService>) -> Route {
    Route {
        request: Some(RequestBody::new::<Wanted>(
            r#"{"product_id":1,"quantity":2}"#,
        )),
        parameters: vec![Parameter {
            place: "header",
            name: "Idempotency-Key",
            about: "The order's id, with quotes or without: sent again, it is the same order",
            schema: order_id_schema(),
        }],
        answers: &[
            (
                "200",
                "The order had been confirmed before, and nothing is taken from the stock by this request",
            ),
            (
                "201",
                "The order is confirmed by this request, and the stock is reduced",
            ),
            (
                "400",
                "The body is no JSON or cannot be decompressed, or the order's id is given twice and differs",
            ),
            ("409", "There is not enough in stock"),
            TOO_LARGE,
            UNSUPPORTED,
            (
                "422",
                "The body is of another shape, there is no such product, or the id was used for another order",
            ),
            (
                "503",
                "The inventory or the database does not answer: send the order again with the problem's `order_id`",
            ),
        ],
        ..Route::new::<Order>(
            "POST",
            "/order-product",
            "Order a product",
            post(order_product).with_state(Arc::clone(service)),
        )
    }
}

async fn list_orders(
    State(service): State<Arc<OrderService>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["limit"])?;
    let limit = query.number(&LIMIT)?;
    let orders = store::list(&service.database, limit).await?;
    Ok(Json(Orders { orders }).into_response())
}

async fn list_products(State(service): State<Arc<OrderService>>) -> Result<Response, Problem> {
    let called = service
        .inventory
        .call(Method::GET, "/list-products", None)
        .await;
    let answer = called.map_err(|it| inventory_away(&it.reason))?;
    if answer.status != StatusCode::OK {
        return Err(inventory_away(&format!("it answered {}", answer.status)));
    }
    let products: Products = parse(&answer)?;
    Ok(Json(products).into_response())
}

async fn order_product(
    State(service): State<Arc<OrderService>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shape = r#"{"product_id":number,"quantity":number,"order_id":"optional"}"#;
    let wanted: Wanted = read_json(&headers, body, service.body_bytes_max, shape).await?;
    check_quantity(wanted.quantity)?;
    let id = order_id(&headers, wanted.order_id.as_deref())?;
    let ordered = place_and_fulfil(&service, id.clone(), &wanted).await;
    ordered.map_err(|problem| problem.about_order(id))
}

async fn place_and_fulfil(
    service: &OrderService,
    id: String,
    wanted: &Wanted,
) -> Result<Response, Problem> {
    let order = store::place(&service.database, id, wanted.product_id, wanted.quantity).await?;
    if (order.product_id, order.quantity) != (wanted.product_id, wanted.quantity) {
        let detail = format!(
            "the id `{}` belongs to an order of something else",
            order.order_id
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let (order, by_this) = match order.status {
        Status::Pending => fulfil(service, order).await?,
        Status::Confirmed | Status::Rejected | Status::Invalid => (order, false),
    };
    answer(order, by_this)
}

/// Has the inventory reduce the stock, and keeps its decision. Without one, the order stays pending. Whether the order ended
/// by this is returned with it: the same order may have been sent twice at once.
async fn fulfil(service: &OrderService, order: Order) -> Result<(Order, bool), Problem> {
    let reduction = Reduction {
        order_id: order.order_id.clone(),
        product_id: order.product_id,
        quantity: order.quantity,
    };
    let body = serde_json::to_vec(&reduction).expect("text and numbers have a JSON form");
    let called = service
        .inventory
        .call(Method::POST, REDUCE_STOCK, Some(Bytes::from(body)))
        .await;
    let reply = called.map_err(|it| inventory_away(&it.reason))?;
    let (status, reason) = match reply.status {
        StatusCode::OK => {
            let reduced: Reduced = parse(&reply)?;
            tracing::info!(
                order.id = order.order_id,
                stock_left = reduced.stock_left,
                "order confirmed"
            );
            (Status::Confirmed, None)
        }
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            let problem: ProblemText = parse(&reply)?;
            tracing::info!(
                order.id = order.order_id,
                reason = problem.detail,
                "order rejected"
            );
            let status = match reply.status {
                StatusCode::CONFLICT => Status::Rejected,
                _ => Status::Invalid,
            };
            (status, Some(problem.detail))
        }
        other => return Err(inventory_away(&format!("it answered {other}"))),
    };
    let (order, by_this) = store::settle(&service.database, order.order_id, status, reason).await?;
    if by_this {
        let status = KeyValue::new("order.status", order.status.name());
        service.orders.add(1, &[status]);
    }
    Ok((order, by_this))
}

fn answer(order: Order, by_this: bool) -> Result<Response, Problem> {
    let refused = |status| {
        Err(Problem::new(
            status,
            order.reason.clone().unwrap_or_default(),
        ))
    };
    match order.status {
        Status::Confirmed if by_this => Ok((StatusCode::CREATED, Json(order)).into_response()),
        Status::Confirmed => Ok(Json(order).into_response()),
        Status::Rejected => refused(StatusCode::CONFLICT),
        Status::Invalid => refused(StatusCode::UNPROCESSABLE_ENTITY),
        Status::Pending => Err(inventory_away("it has not decided")),
    }
}

fn inventory_away(reason: &str) -> Problem {
    Problem::unavailable(format!("the inventory is not available: {reason}"))
}

/// What the inventory says must be what this version understands; anything else is as good as no answer.
fn parse<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Problem> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| inventory_away(&format!("its answer is of another shape: {error}")))
}

/// The id of the order: from the header, from the body, or a new one.
fn order_id(headers: &HeaderMap, in_body: Option<&str>) -> Result<String, Problem> {
    // The draft of the header writes it as a quoted string; most clients do not.
    let mut in_headers = headers
        .get_all(IDEMPOTENCY_KEY)
        .iter()
        .map(|it| it.to_str().unwrap_or_default().trim_matches('"'));
    let in_header = in_headers.next();
    if in_headers.any(|it| Some(it) != in_header) {
        let detail = "there are two headers `Idempotency-Key` that differ: give one of them";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let id = match (in_header, in_body) {
        (Some(header), Some(body)) if header != body => {
            let detail =
                "`Idempotency-Key` and `order_id` differ: give one of them, or the same in both";
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        (Some(id), _) | (None, Some(id)) => id.to_owned(),
        (None, None) => RandomIdGenerator::default().new_trace_id().to_string(),
    };
    check_order_id(&id)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_comes_from_the_header_or_the_body() {
        let check = |in_headers: &[&str], body: Option<&str>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for text in in_headers {
                headers.append(IDEMPOTENCY_KEY, text.parse().unwrap());
            }
            let id = order_id(&headers, body).ok();
            assert_eq!(id.as_deref(), expected, "{in_headers:?} {body:?}");
        };
        check(&["a"], None, Some("a"));
        check(&["\"a\""], None, Some("a"));
        check(&["a", "\"a\""], None, Some("a"));
        check(&["a", "b"], None, None);
        check(&["a", "b"], Some("a"), None);
        check(&["a", ""], None, None);
        check(&[], Some("b-1:2_3.x"), Some("b-1:2_3.x"));
        check(&["a"], Some("a"), Some("a"));
        check(&["a"], Some("b"), None);
        check(&[""], None, None);
        check(&[], Some("with space"), None);
        check(&[], Some(&"x".repeat(65)), None);
        let new = || order_id(&HeaderMap::new(), None).unwrap();
        assert_ne!(new(), new());
    }
}
