//! Orders in the database: pending until the inventory has answered, so that whoever asks again goes on where it stopped.

use rusqlite::{Row, Transaction, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::{Database, DatabaseError, Session, Statement};
use crate::inventory::{ORDER_ID_CHARACTERS_MAX, ORDER_ID_PATTERN, QUANTITY_MAX};

const PLACE: Statement = Statement {
    operation: "INSERT",
    table: "orders",
    text: "INSERT INTO orders (id, product_id, quantity, status) VALUES (?1, ?2, ?3, 'pending')",
};
const FIND: Statement = Statement {
    operation: "SELECT",
    table: "orders",
    text: "SELECT id, product_id, quantity, status, reason, created_at FROM orders WHERE id = ?1",
};
const SETTLE: Statement = Statement {
    operation: "UPDATE",
    table: "orders",
    text: "UPDATE orders SET status = ?2, reason = ?3 WHERE id = ?1 AND status = 'pending' RETURNING id",
};
const LIST: Statement = Statement {
    operation: "SELECT",
    table: "orders",
    text: "SELECT id, product_id, quantity, status, reason, created_at FROM orders ORDER BY number DESC LIMIT ?1",
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// The inventory has not answered: ask again with the same id.
    Pending,
    /// The stock has been reduced.
    Confirmed,
    /// There was not enough; the stock is as it was.
    Rejected,
    /// There is no such product, or the inventory knows the id as something else; the stock is as it was.
    Invalid,
}

/// An order as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    #[schemars(length(min = 1, max = ORDER_ID_CHARACTERS_MAX), regex(pattern = ORDER_ID_PATTERN))]
    pub(crate) order_id: String,
    pub(crate) product_id: i64,
    #[schemars(range(min = 1, max = QUANTITY_MAX))]
    pub(crate) quantity: i64,
    pub(crate) status: Status,
    /// Why it was rejected, or is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// RFC 3339, in UTC.
    pub(crate) created_at: String,
}

pub(crate) fn prepare(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS orders (
             number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, product_id INTEGER NOT NULL,
             quantity INTEGER NOT NULL CHECK (quantity > 0),
             status TEXT NOT NULL CHECK (status IN ('pending', 'confirmed', 'rejected', 'invalid')), reason TEXT,
             created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))) STRICT",
    )
}

/// Keeps an order as pending, or finds the one with its id.
pub(crate) async fn place(
    database: &Database,
    id: String,
    product_id: i64,
    quantity: i64,
) -> Result<Order, DatabaseError> {
    let work = move |session: &Session<'_>| {
        let earlier = session.query(&FIND, [&id], order_of)?;
        if let Some(order) = earlier.into_iter().next() {
            return Ok(order);
        }
        session.query(&PLACE, params![id, product_id, quantity], |_| Ok(()))?;
        found(session, &id)
    };
    database.write(work).await
}

/// Says how an order ended. One that had ended stays as it is. What is kept is returned, and whether it ended by this.
pub(crate) async fn settle(
    database: &Database,
    id: String,
    status: Status,
    reason: Option<String>,
) -> Result<(Order, bool), DatabaseError> {
    let work = move |session: &Session<'_>| {
        let settled = session.query(&SETTLE, params![id, status.name(), reason], |_| Ok(()))?;
        Ok((found(session, &id)?, !settled.is_empty()))
    };
    database.write(work).await
}

/// The latest orders, the newest first.
pub(crate) async fn list(database: &Database, limit: i64) -> Result<Vec<Order>, DatabaseError> {
    database
        .read(move |session| session.query(&LIST, [limit], order_of))
        .await
}

fn found(session: &Session<'_>, id: &str) -> rusqlite::Result<Order> {
    let orders = session.query(&FIND, [id], order_of)?;
    orders
        .into_iter()
        .next()
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn order_of(row: &Row<'_>) -> rusqlite::Result<Order> {
    let status: String = row.get(3)?;
    Ok(Order {
        order_id: row.get(0)?,
        product_id: row.get(1)?,
        quantity: row.get(2)?,
        status: Status::of(&status),
        reason: row.get(4)?,
        created_at: row.get(5)?,
    })
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }

    /// The table's own check allows no other names.
    fn of(name: &str) -> Self {
        match name {
            "confirmed" => Self::Confirmed,
            "rejected" => Self::Rejected,
            "invalid" => Self::Invalid,
            _ => Self::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tests::nowhere;

    #[tokio::test]
    async fn an_order_is_kept_once_and_ends_once() {
        let database = Database::open(None, nowhere(), prepare).unwrap();
        let place = |quantity| place(&database, "a".to_owned(), 1, quantity);
        let placed = place(2).await.unwrap();
        assert_eq!((placed.quantity, placed.status), (2, Status::Pending));
        assert_eq!(place(3).await, Ok(placed));
        let settle = |status| settle(&database, "a".to_owned(), status, None);
        for (status, by_this) in [(Status::Confirmed, true), (Status::Rejected, false)] {
            let (order, settled) = settle(status).await.unwrap();
            assert_eq!((order.status, settled), (Status::Confirmed, by_this));
        }
        assert_eq!(list(&database, 10).await.unwrap().len(), 1);
    }
}
