//! Products and their stock in the database. Each reduction is kept under its order's id, so that it happens once.

use rusqlite::{Transaction, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ORDER_ID_CHARACTERS_MAX, ORDER_ID_PATTERN, QUANTITY_MAX};
use crate::database::{Database, DatabaseError, Session, Statement};

/// What the shop sells: name and price in cents.
const PRODUCTS: [(&str, i64); 5] = [
    ("anchor", 4_900),
    ("buoy", 1_250),
    ("chart", 2_400),
    ("lantern", 3_150),
    ("rope", 890),
];

const LIST: Statement = Statement {
    operation: "SELECT",
    table: "products",
    text: "SELECT id, name, price_cents, stock FROM products ORDER BY id",
};
const FIND_REDUCTION: Statement = Statement {
    operation: "SELECT",
    table: "reductions",
    text: "SELECT product_id, quantity, stock_left FROM reductions WHERE order_id = ?1",
};
const REDUCE: Statement = Statement {
    operation: "UPDATE",
    table: "products",
    text: "UPDATE products SET stock = stock - ?2 WHERE id = ?1 AND stock >= ?2 RETURNING stock",
};
const FIND_STOCK: Statement = Statement {
    operation: "SELECT",
    table: "products",
    text: "SELECT stock FROM products WHERE id = ?1",
};
const KEEP_REDUCTION: Statement = Statement {
    operation: "INSERT",
    table: "reductions",
    text: "INSERT INTO reductions (order_id, product_id, quantity, stock_left) VALUES (?1, ?2, ?3, ?4)",
};

/// A product and what is left of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) price_cents: i64,
    /// Never below zero.
    #[schemars(range(min = 0))]
    pub(crate) stock: i64,
}

/// What an order takes from the stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reduction {
    /// The same order reduces the stock once, however often it is sent: 1 to 64 letters, digits, `.`, `_`, `:` or `-`.
    #[schemars(length(min = 1, max = ORDER_ID_CHARACTERS_MAX), regex(pattern = ORDER_ID_PATTERN))]
    pub(crate) order_id: String,
    pub(crate) product_id: i64,
    #[schemars(range(min = 1, max = QUANTITY_MAX))]
    pub(crate) quantity: i64,
}

/// What became of a reduction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Reduced {
        stock_left: i64,
    },
    /// It had been carried out before.
    Replayed {
        stock_left: i64,
    },
    NotEnough {
        stock: i64,
    },
    NoSuchProduct,
    /// The order's id was used for something else.
    Conflict,
}

/// Makes the tables, and fills them if they are new.
pub(crate) fn prepare(transaction: &Transaction<'_>, stock: i64) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS products (
             id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, price_cents INTEGER NOT NULL,
             stock INTEGER NOT NULL CHECK (stock >= 0)) STRICT;
         CREATE TABLE IF NOT EXISTS reductions (
             order_id TEXT PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES products,
             quantity INTEGER NOT NULL CHECK (quantity > 0), stock_left INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    )?;
    for (name, price) in PRODUCTS {
        transaction.execute(
            "INSERT OR IGNORE INTO products (name, price_cents, stock) VALUES (?1, ?2, ?3)",
            params![name, price, stock],
        )?;
    }
    Ok(())
}

pub(crate) async fn list(database: &Database) -> Result<Vec<Product>, DatabaseError> {
    let product = |row: &rusqlite::Row<'_>| {
        Ok(Product {
            id: row.get(0)?,
            name: row.get(1)?,
            price_cents: row.get(2)?,
            stock: row.get(3)?,
        })
    };
    database
        .read(move |session| session.query(&LIST, [], product))
        .await
}

/// Takes from the stock, all or nothing, once for each order.
pub(crate) async fn reduce(
    database: &Database,
    reduction: Reduction,
) -> Result<Outcome, DatabaseError> {
    database
        .write(move |session| reduce_within(session, &reduction))
        .await
}

fn reduce_within(session: &Session<'_>, wanted: &Reduction) -> rusqlite::Result<Outcome> {
    let earlier = session.query(&FIND_REDUCTION, [&wanted.order_id], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
        ))
    })?;
    if let [(product, quantity, stock_left)] = earlier.as_slice() {
        let same = (*product, *quantity) == (wanted.product_id, wanted.quantity);
        let stock_left = *stock_left;
        return Ok(if same {
            Outcome::Replayed { stock_left }
        } else {
            Outcome::Conflict
        });
    }
    let taken = params![wanted.product_id, wanted.quantity];
    let reduced = session.query(&REDUCE, taken, |row| row.get::<_, i64>(0))?;
    let [stock_left] = reduced.as_slice() else {
        let stock = session.query(&FIND_STOCK, [wanted.product_id], |row| row.get(0))?;
        return Ok(match stock.as_slice() {
            [stock] => Outcome::NotEnough { stock: *stock },
            _ => Outcome::NoSuchProduct,
        });
    };
    let kept = params![
        wanted.order_id,
        wanted.product_id,
        wanted.quantity,
        stock_left
    ];
    session.query(&KEEP_REDUCTION, kept, |_| Ok(()))?;
    Ok(Outcome::Reduced {
        stock_left: *stock_left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tests::nowhere;

    fn reduction(order: &str, product_id: i64, quantity: i64) -> Reduction {
        Reduction {
            order_id: order.to_owned(),
            product_id,
            quantity,
        }
    }

    #[tokio::test]
    async fn stock_is_taken_once_for_each_order_and_never_below_zero() {
        let database = Database::open(None, nowhere(), |it| prepare(it, 10)).unwrap();
        for (order, product, quantity, expected) in [
            ("a", 1, 4, Outcome::Reduced { stock_left: 6 }),
            ("a", 1, 4, Outcome::Replayed { stock_left: 6 }),
            ("a", 1, 5, Outcome::Conflict),
            ("a", 2, 4, Outcome::Conflict),
            ("b", 1, 7, Outcome::NotEnough { stock: 6 }),
            ("b", 1, 6, Outcome::Reduced { stock_left: 0 }),
            ("c", 1, 1, Outcome::NotEnough { stock: 0 }),
            ("c", 99, 1, Outcome::NoSuchProduct),
            ("c", 2, 1, Outcome::Reduced { stock_left: 9 }),
        ] {
            let outcome = reduce(&database, reduction(order, product, quantity)).await;
            assert_eq!(outcome, Ok(expected), "{order} {product} {quantity}");
        }
        let stock: Vec<_> = list(&database)
            .await
            .unwrap()
            .iter()
            .map(|it| it.stock)
            .collect();
        assert_eq!(stock, [0, 9, 10, 10, 10]);
    }

    #[test]
    fn a_database_that_was_there_keeps_its_stock() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory.db");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for expected in [6, 2] {
            let database = Database::open(Some(&file), nowhere(), |it| prepare(it, 10)).unwrap();
            let order = format!("order-{expected}");
            let outcome = runtime.block_on(reduce(&database, reduction(&order, 1, 4)));
            assert_eq!(
                outcome,
                Ok(Outcome::Reduced {
                    stock_left: expected
                })
            );
        }
    }
}
