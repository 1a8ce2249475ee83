//! The three pools behind one trait.

use std::fmt::Debug;
use std::ops::DerefMut;
use std::time::Duration;

use ::deadpool::Runtime;
use actix_vitals::Vitals;
use actix_vitals::database::{bb8, deadpool, mobc};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};

use crate::engine::Engine;

/// How long callers wait for a connection. An opening is part of it, whose hashes are slow without optimisation.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A pool that the tests can use.
pub(crate) trait TestPool: Clone + Debug + 'static {
    type Connection: Engine;
    type Held<'a>: DerefMut<Target = Self::Connection>;

    /// A pool of this name and size.
    async fn open(vitals: &Vitals, name: &str, url: &str, size: u32) -> Self;

    /// A connection; the error says whether the wait timed out.
    async fn get(&self) -> Result<Self::Held<'_>, String>;

    /// A connection that the inner pool returns, so that no hold is observed.
    async fn get_native(&self) -> impl DerefMut<Target = Self::Connection>;

    /// Connections in use, idle and allowed, by the pool's own account.
    async fn status(&self) -> [f64; 3];
}

type Manager<C> = AsyncDieselConnectionManager<C>;

impl<C: Engine> TestPool for deadpool::Pool<C>
where
    Manager<C>: ::deadpool::managed::Manager<Type = C, Error = PoolError>,
{
    type Connection = C;
    type Held<'a> = deadpool::Object<C>;

    async fn open(vitals: &Vitals, name: &str, url: &str, size: u32) -> Self {
        vitals
            .instrument_async(Manager::<C>::new(url))
            .name(name)
            .deadpool(|pool| {
                pool.max_size(size as usize)
                    .runtime(Runtime::Tokio1)
                    .wait_timeout(Some(PATIENCE))
            })
            .unwrap()
    }

    async fn get(&self) -> Result<deadpool::Object<C>, String> {
        self.get().await.map_err(|error| error.to_string())
    }

    async fn get_native(&self) -> impl DerefMut<Target = C> {
        (**self).get().await.unwrap()
    }

    async fn status(&self) -> [f64; 3] {
        let status = (**self).status();
        let used = status.size - status.available;
        [used, status.available, status.max_size].map(|count| count as f64)
    }
}

impl<C: Engine> TestPool for bb8::Pool<C>
where
    Manager<C>: ::bb8::ManageConnection<Connection = C, Error = PoolError>,
{
    type Connection = C;
    type Held<'a> = bb8::PooledConnection<'a, C>;

    async fn open(vitals: &Vitals, name: &str, url: &str, size: u32) -> Self {
        let builder = bb8::Builder::new()
            .max_size(size)
            .connection_timeout(PATIENCE);
        vitals
            .instrument_async(Manager::<C>::new(url))
            .name(name)
            .bb8_unchecked(builder)
    }

    async fn get(&self) -> Result<bb8::PooledConnection<'_, C>, String> {
        self.get().await.map_err(|error| format!("{error:?}"))
    }

    async fn get_native(&self) -> impl DerefMut<Target = C> {
        (**self).get().await.unwrap()
    }

    async fn status(&self) -> [f64; 3] {
        let state = self.state();
        let used = state.connections - state.idle_connections;
        [used, state.idle_connections, self.config().max_size].map(f64::from)
    }
}

impl<C: Engine> TestPool for mobc::Pool<C>
where
    Manager<C>: ::mobc::Manager<Connection = C, Error = PoolError>,
{
    type Connection = C;
    type Held<'a> = mobc::PooledConnection<C>;

    async fn open(vitals: &Vitals, name: &str, url: &str, size: u32) -> Self {
        let builder = mobc::Builder::new()
            .max_open(size.into())
            .get_timeout(Some(PATIENCE));
        vitals
            .instrument_async(Manager::<C>::new(url))
            .name(name)
            .mobc(builder)
    }

    async fn get(&self) -> Result<mobc::PooledConnection<C>, String> {
        self.get().await.map_err(|error| error.to_string())
    }

    async fn get_native(&self) -> impl DerefMut<Target = C> {
        (**self).get().await.unwrap()
    }

    async fn status(&self) -> [f64; 3] {
        let state = self.state().await;
        [state.in_use, state.idle, state.max_open].map(|count| count as f64)
    }
}
