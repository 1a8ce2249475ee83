//! Pools of bb8.

use std::fmt::Display;
use std::panic::Location;

use ::bb8::ManageConnection;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;

use super::manager::{AsyncManager, is_out_of_step, muted};
use super::pool::{AsyncPool, AsyncPoolBuilder, NativePool, Parts};
use super::recorder::Muted;
use super::{AsyncExplainable, Held};
use crate::database::levels::PoolLevel;

/// An instrumented pool of bb8, of connections of type `C`.
///
/// It takes the place of `diesel_async::pooled_connection::bb8::Pool`.
pub type Pool<C> = AsyncPool<::bb8::Pool<AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// A connection of a [`Pool`].
///
/// It takes the place of `diesel_async::pooled_connection::bb8::PooledConnection`.
pub type PooledConnection<'a, C> =
    Held<::bb8::PooledConnection<'a, AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// The builder of a [`Pool`].
pub type Builder<C>
where
    AsyncDieselConnectionManager<C>: ManageConnection,
= ::bb8::Builder<AsyncManager<AsyncDieselConnectionManager<C>>>;

/// The error of a caller that gets no connection.
pub type RunError = ::bb8::RunError<diesel_async::pooled_connection::PoolError>;

impl<M> ManageConnection for AsyncManager<M>
where
    M: ManageConnection,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    type Connection = M::Connection;
    type Error = M::Error;

    async fn connect(&self) -> Result<M::Connection, M::Error> {
        self.openings.open(self.inner.connect()).await
    }

    async fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        let muted = muted(connection);
        let result = self.inner.is_valid(connection).await;
        Muted::end(muted);
        self.openings.checked(result.as_ref().copied());
        result
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        is_out_of_step(connection) || self.inner.has_broken(connection)
    }
}

impl<M> NativePool for ::bb8::Pool<AsyncManager<M>>
where
    M: ManageConnection,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    type Connection = M::Connection;
    type Taken = ::bb8::PooledConnection<'static, AsyncManager<M>>;

    fn level(&self) -> PoolLevel {
        let state = self.state();
        let (open, idle) = (state.connections, state.idle_connections);
        PoolLevel {
            checked_out: open.saturating_sub(idle).into(),
            idle: idle.into(),
            max: self.config().max_size.into(),
        }
    }

    async fn take(&self) -> Result<Self::Taken, String> {
        self.get_owned().await.map_err(|error| match error {
            ::bb8::RunError::User(error) => error.to_string(),
            ::bb8::RunError::TimedOut => "the pool's timeout has passed".to_owned(),
        })
    }
}

impl<M> AsyncPoolBuilder<M>
where
    M: ManageConnection,
    M::Connection: AsyncExplainable,
    M::Error: Display,
{
    /// Builds a pool of bb8 with the settings of `builder`, and waits until its first connections are open.
    ///
    /// # Errors
    ///
    /// If a connection cannot be opened.
    pub async fn bb8(
        self,
        builder: ::bb8::Builder<AsyncManager<M>>,
    ) -> Result<AsyncPool<::bb8::Pool<AsyncManager<M>>>, M::Error> {
        let parts = self.parts::<M::Connection>();
        let native = builder.build(parts.manager.clone()).await?;
        Ok(assemble(native, parts))
    }

    /// Builds a pool of bb8 with the settings of `builder`, without waiting for its connections.
    pub fn bb8_unchecked(
        self,
        builder: ::bb8::Builder<AsyncManager<M>>,
    ) -> AsyncPool<::bb8::Pool<AsyncManager<M>>> {
        let parts = self.parts::<M::Connection>();
        let native = builder.build_unchecked(parts.manager.clone());
        assemble(native, parts)
    }
}

fn assemble<M>(
    native: ::bb8::Pool<AsyncManager<M>>,
    parts: Parts<M>,
) -> AsyncPool<::bb8::Pool<AsyncManager<M>>>
where
    M: ManageConnection,
    M::Connection: AsyncExplainable,
    M::Error: Display,
{
    let Parts {
        manager: AsyncManager { inner, openings },
        database,
        name,
    } = parts;
    AsyncPool::new(native, (&database, name, &openings), move || {
        let inner = inner.clone();
        async move { inner.connect().await.map_err(|error| error.to_string()) }
    })
}

impl<M> AsyncPool<::bb8::Pool<AsyncManager<M>>>
where
    M: ManageConnection,
    M::Connection: AsyncConnection,
    M::Error: Display,
{
    /// Gets a connection, as bb8's `get` does.
    ///
    /// # Errors
    ///
    /// Those of bb8.
    #[track_caller]
    pub fn get(
        &self,
    ) -> impl Future<
        Output = Result<
            Held<::bb8::PooledConnection<'_, AsyncManager<M>>>,
            ::bb8::RunError<M::Error>,
        >,
    > {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move { self.wait(self.native().get(), is_timeout, taken_at).await }
    }

    /// Gets a connection that does not borrow the pool, as bb8's `get_owned` does.
    ///
    /// # Errors
    ///
    /// Those of bb8.
    #[track_caller]
    pub fn get_owned(
        &self,
    ) -> impl Future<
        Output = Result<
            Held<::bb8::PooledConnection<'static, AsyncManager<M>>>,
            ::bb8::RunError<M::Error>,
        >,
    > {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move {
            self.wait(self.native().get_owned(), is_timeout, taken_at)
                .await
        }
    }
}

fn is_timeout<E>(error: &::bb8::RunError<E>) -> bool {
    matches!(error, ::bb8::RunError::TimedOut)
}
