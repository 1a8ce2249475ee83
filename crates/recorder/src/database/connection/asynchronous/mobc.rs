//! Pools of mobc.

use std::fmt::Display;
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::mobc::{Manager, async_trait};
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;

use super::manager::{AsyncManager, is_out_of_step, muted};
use super::pool::{AsyncPool, AsyncPoolBuilder, NativePool, Parts};
use super::recorder::Muted;
use super::{AsyncExplainable, Held};
use crate::database::levels::PoolLevel;

/// An instrumented pool of mobc, of connections of type `C`.
///
/// It takes the place of `diesel_async::pooled_connection::mobc::Pool`.
pub type Pool<C> = AsyncPool<::mobc::Pool<AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// A connection of a [`Pool`].
///
/// It takes the place of `diesel_async::pooled_connection::mobc::PooledConnection`.
pub type PooledConnection<C> =
    Held<::mobc::Connection<AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// The builder of a [`Pool`].
pub type Builder<C>
where
    AsyncDieselConnectionManager<C>: Manager,
= ::mobc::Builder<AsyncManager<AsyncDieselConnectionManager<C>>>;

/// The error of a caller that gets no connection.
pub type Error = ::mobc::Error<diesel_async::pooled_connection::PoolError>;

#[async_trait]
impl<M> Manager for AsyncManager<M>
where
    M: Manager,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    type Connection = M::Connection;
    type Error = M::Error;

    async fn connect(&self) -> Result<M::Connection, M::Error> {
        self.openings.open(self.inner.connect()).await
    }

    async fn check(&self, mut connection: M::Connection) -> Result<M::Connection, M::Error> {
        let muted = muted(&mut connection);
        let result = self.inner.check(connection).await;
        Muted::end(muted);
        self.openings.checked(result.as_ref().map(drop));
        result
    }

    fn validate(&self, connection: &mut M::Connection) -> bool {
        !is_out_of_step(connection) && self.inner.validate(connection)
    }
}

impl<M> NativePool for ::mobc::Pool<AsyncManager<M>>
where
    M: Manager,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    type Connection = M::Connection;
    type Taken = ::mobc::Connection<AsyncManager<M>>;

    fn level(&self) -> PoolLevel {
        // The lock behind `state` is held for moments only.
        for _ in 0..100 {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(state) = pin!(self.state()).poll(&mut cx) {
                return PoolLevel {
                    checked_out: state.in_use,
                    idle: state.idle,
                    max: state.max_open,
                };
            }
            std::thread::yield_now();
        }
        PoolLevel::default()
    }

    async fn take(&self) -> Result<Self::Taken, String> {
        self.get().await.map_err(|error| error.to_string())
    }
}

impl<M> AsyncPoolBuilder<M>
where
    M: Manager,
    M::Connection: AsyncExplainable,
    M::Error: Display,
{
    /// Builds a pool of mobc with the settings of `builder`. It opens its connections when they are needed.
    pub fn mobc(
        self,
        builder: ::mobc::Builder<AsyncManager<M>>,
    ) -> AsyncPool<::mobc::Pool<AsyncManager<M>>> {
        let Parts {
            manager,
            database,
            name,
        } = self.parts::<M::Connection>();
        let (inner, openings) = (manager.inner.clone(), manager.openings.clone());
        let native = builder.build(manager);
        AsyncPool::new(native, (&database, name, &openings), move || {
            let inner = inner.clone();
            async move { inner.connect().await.map_err(|error| error.to_string()) }
        })
    }
}

impl<M> AsyncPool<::mobc::Pool<AsyncManager<M>>>
where
    M: Manager,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    /// Gets a connection, as mobc's `get` does.
    ///
    /// # Errors
    ///
    /// Those of mobc.
    #[track_caller]
    pub fn get(
        &self,
    ) -> impl Future<Output = Result<Held<::mobc::Connection<AsyncManager<M>>>, ::mobc::Error<M::Error>>>
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move { self.wait(self.native().get(), is_timeout, taken_at).await }
    }

    /// Gets a connection with a timeout of its own, as mobc's `get_timeout` does.
    ///
    /// # Errors
    ///
    /// Those of mobc.
    #[track_caller]
    pub fn get_timeout(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<Held<::mobc::Connection<AsyncManager<M>>>, ::mobc::Error<M::Error>>>
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move {
            self.wait(self.native().get_timeout(timeout), is_timeout, taken_at)
                .await
        }
    }
}

fn is_timeout<E>(error: &::mobc::Error<E>) -> bool {
    matches!(error, ::mobc::Error::Timeout)
}
