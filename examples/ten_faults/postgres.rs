//! The shop on PostgreSQL.

use diesel::{
    PgConnection,
    r2d2::{self, CustomizeConnection},
};

use crate::Prepared;

#[allow(clippy::duplicate_mod, reason = "the same shop on another database")]
#[path = "shop.rs"]
pub(crate) mod shop;

pub(crate) type Db = PgConnection;

impl CustomizeConnection<PgConnection, r2d2::Error> for Prepared {}
