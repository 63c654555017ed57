//! The inventory role: products, and a stock that never goes below zero.

mod store;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use self::store::{Outcome, Product};
use crate::body::{NO_JSON, TOO_LARGE, UNSUPPORTED, read_json};
use crate::database::Database;
use crate::problem::Problem;
use crate::routes::{RequestBody, Route};

pub(crate) use self::store::{Reduction, prepare};

pub(crate) const REDUCE_STOCK: &str = "/reduce-stock";

/// A single order is never for more; sums of such orders stay far from the limits of 64 bits.
pub(crate) const QUANTITY_MAX: i64 = 1_000_000;

/// Long enough for a UUID or a ULID with a prefix; ids are kept in the database for good.
pub(crate) const ORDER_ID_CHARACTERS_MAX: usize = 64;
pub(crate) const ORDER_ID_PATTERN: &str = "^[A-Za-z0-9._:-]+$";

pub(crate) const DATABASE_AWAY: (&str, &str) = ("503", "The database fails or has too much to do");

/// What the handlers share.
pub(crate) struct InventoryService {
    pub(crate) database: Database,
    pub(crate) body_bytes_max: usize,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Products {
    pub(crate) products: Vec<Product>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Reduced {
    #[schemars(length(min = 1, max = ORDER_ID_CHARACTERS_MAX), regex(pattern = ORDER_ID_PATTERN))]
    pub(crate) order_id: String,
    /// What was left after this reduction.
    pub(crate) stock_left: i64,
    /// Whether the same order had been carried out before, so that nothing was taken now.
    pub(crate) replayed: bool,
}

pub(crate) fn routes(service: &Arc<InventoryService>) -> Vec<Route> {
    vec![
        Route {
            answers: &[("200", "All products"), DATABASE_AWAY],
            ..Route::new::<Products>(
                "GET",
                "/list-products",
                "Products and their stock",
                get(list_products).with_state(Arc::clone(service)),
            )
        },
        Route {
            request: Some(RequestBody::new::<Reduction>(
                r#"{"order_id":"a1","product_id":1,"quantity":2}"#,
            )),
            answers: &[
                (
                    "200",
                    "The stock is reduced, now or by the same order before",
                ),
                NO_JSON,
                ("409", "There is not enough in stock; nothing has changed"),
                TOO_LARGE,
                UNSUPPORTED,
                (
                    "422",
                    "The body is of another shape, there is no such product, or the order's id was used otherwise",
                ),
                DATABASE_AWAY,
            ],
            ..Route::new::<Reduced>(
                "POST",
                REDUCE_STOCK,
                "Take from the stock",
                post(reduce_stock).with_state(Arc::clone(service)),
            )
        },
    ]
}

async fn list_products(State(service): State<Arc<InventoryService>>) -> Result<Response, Problem> {
    let products = store::list(&service.database).await?;
    Ok(Json(Products { products }).into_response())
}

async fn reduce_stock(
    State(service): State<Arc<InventoryService>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shape = r#"{"order_id":"text","product_id":number,"quantity":number}"#;
    let wanted: Reduction = read_json(&headers, body, service.body_bytes_max, shape).await?;
    check_quantity(wanted.quantity)?;
    check_order_id(&wanted.order_id)?;
    let outcome = store::reduce(&service.database, wanted.clone()).await?;
    let (stock_left, replayed) = match outcome {
        Outcome::Reduced { stock_left } => (stock_left, false),
        Outcome::Replayed { stock_left } => (stock_left, true),
        refused => return Err(refusal(&wanted, &refused)),
    };
    tracing::info!(
        order.id = wanted.order_id,
        stock_left,
        replayed,
        "stock reduced"
    );
    let order_id = wanted.order_id;
    Ok(Json(Reduced {
        order_id,
        stock_left,
        replayed,
    })
    .into_response())
}

fn refusal(wanted: &Reduction, outcome: &Outcome) -> Problem {
    let Reduction {
        order_id,
        product_id,
        quantity,
    } = wanted;
    match outcome {
        Outcome::NotEnough { stock } => Problem::new(
            StatusCode::CONFLICT,
            format!("product {product_id} has {stock} in stock, which is less than {quantity}"),
        ),
        Outcome::NoSuchProduct => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("there is no product {product_id}"),
        ),
        Outcome::Conflict | Outcome::Reduced { .. } | Outcome::Replayed { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the order `{order_id}` reduced the stock by something else"),
        ),
    }
}

pub(crate) fn check_quantity(quantity: i64) -> Result<(), Problem> {
    if (1..=QUANTITY_MAX).contains(&quantity) {
        return Ok(());
    }
    let detail = format!("`quantity` is a number from 1 to {QUANTITY_MAX}, not {quantity}");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// What [`check_order_id`] allows.
pub(crate) fn order_id_schema() -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": ORDER_ID_CHARACTERS_MAX,
        "pattern": ORDER_ID_PATTERN,
    })
}

pub(crate) fn check_order_id(id: &str) -> Result<(), Problem> {
    let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | ':' | '-');
    if (1..=ORDER_ID_CHARACTERS_MAX).contains(&id.len()) && id.chars().all(allowed) {
        return Ok(());
    }
    let detail = format!(
        "an order's id has 1 to {ORDER_ID_CHARACTERS_MAX} letters, digits, `.`, `_`, `:` or `-`"
    );
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}
