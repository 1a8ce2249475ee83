//! Pools of `MysqlConnection`, by the type parameter alone. The test is that this compiles: nothing is linked, so the client
//! library is not needed.

#![allow(
    dead_code,
    missing_docs,
    reason = "looked at for what it names, and not run"
)]

use actix_vitals::Vitals;
use actix_vitals::database::{CheckoutError, Explainable, Pool};
use diesel::MysqlConnection;
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};

fn pool_of<C>(vitals: &Vitals, url: &str) -> Result<Pool<C>, CheckoutError>
where
    C: R2D2Connection + Explainable + Send + 'static,
{
    vitals
        .instrument(r2d2::Pool::builder())
        .build(ConnectionManager::<C>::new(url))
}

fn pool(vitals: &Vitals) -> Result<Pool<MysqlConnection>, CheckoutError> {
    pool_of(vitals, "mysql://localhost/shop")
}

fn record(vitals: &Vitals, connection: &mut MysqlConnection) {
    vitals.instrument_connection(connection);
}

fn main() {}
