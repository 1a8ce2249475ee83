//! Pools of deadpool.

use std::fmt::Display;
use std::panic::Location;

use ::deadpool::managed::{self, Metrics, RecycleError, RecycleResult, Timeouts};
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;

use super::manager::{AsyncManager, is_out_of_step, muted};
use super::pool::{AsyncPool, AsyncPoolBuilder, NativePool, Parts};
use super::recorder::Muted;
use super::{AsyncExplainable, Held};
use crate::database::levels::PoolLevel;

/// An instrumented pool of deadpool, of connections of type `C`.
///
/// It takes the place of `diesel_async::pooled_connection::deadpool::Pool`.
pub type Pool<C> = AsyncPool<managed::Pool<AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// A connection of a [`Pool`].
///
/// It takes the place of `diesel_async::pooled_connection::deadpool::Object`.
pub type Object<C> = Held<managed::Object<AsyncManager<AsyncDieselConnectionManager<C>>>>;

/// The builder of a [`Pool`], for functions that return one.
pub type PoolBuilder<C>
where
    AsyncDieselConnectionManager<C>: managed::Manager,
= managed::PoolBuilder<AsyncManager<AsyncDieselConnectionManager<C>>>;

/// The error of a pool that cannot be built.
pub type BuildError = managed::BuildError;

/// The error of a caller that gets no connection.
pub type PoolError = managed::PoolError<diesel_async::pooled_connection::PoolError>;

/// A hook of a [`Pool`].
pub type Hook<C>
where
    AsyncDieselConnectionManager<C>: managed::Manager,
= managed::Hook<AsyncManager<AsyncDieselConnectionManager<C>>>;

/// The error of a hook.
pub type HookError = managed::HookError<diesel_async::pooled_connection::PoolError>;

impl<M> managed::Manager for AsyncManager<M>
where
    M: managed::Manager,
    M::Type: AsyncConnection,
    M::Error: Display,
{
    type Type = M::Type;
    type Error = M::Error;

    async fn create(&self) -> Result<M::Type, M::Error> {
        self.openings.open(self.inner.create()).await
    }

    async fn recycle(
        &self,
        connection: &mut M::Type,
        metrics: &Metrics,
    ) -> RecycleResult<M::Error> {
        if is_out_of_step(connection) {
            return Err(RecycleError::message("a query was dropped"));
        }
        let muted = muted(connection);
        let result = self.inner.recycle(connection, metrics).await;
        Muted::end(muted);
        match &result {
            // A connection with an open transaction is replaced. That says nothing of the database.
            Err(RecycleError::Message(_)) => {}
            Err(RecycleError::Backend(error)) => self.openings.checked(Err(error)),
            Ok(()) => self.openings.checked::<M::Error>(Ok(())),
        }
        result
    }

    fn detach(&self, connection: &mut M::Type) {
        self.inner.detach(connection);
    }
}

impl<M> NativePool for managed::Pool<AsyncManager<M>>
where
    M: managed::Manager + 'static,
    M::Type: AsyncConnection + 'static,
    M::Error: Display,
{
    type Connection = M::Type;
    type Taken = managed::Object<AsyncManager<M>>;

    fn level(&self) -> PoolLevel {
        let status = self.status();
        PoolLevel {
            checked_out: status.size.saturating_sub(status.available) as u64,
            idle: status.available as u64,
            max: status.max_size as u64,
        }
    }

    async fn take(&self) -> Result<Self::Taken, String> {
        self.get().await.map_err(|error| error.to_string())
    }
}

impl<M> AsyncPoolBuilder<M>
where
    M: managed::Manager + 'static,
    M::Type: AsyncExplainable + 'static,
    M::Error: Display,
{
    /// Builds a pool of deadpool. `settings` receives deadpool's builder and returns it.
    ///
    /// # Errors
    ///
    /// If deadpool rejects the settings: timeouts without a runtime.
    pub fn deadpool(
        self,
        settings: impl FnOnce(
            managed::PoolBuilder<AsyncManager<M>>,
        ) -> managed::PoolBuilder<AsyncManager<M>>,
    ) -> Result<AsyncPool<managed::Pool<AsyncManager<M>>>, managed::BuildError> {
        let Parts {
            manager,
            database,
            name,
        } = self.parts::<M::Type>();
        let (inner, openings) = (manager.inner.clone(), manager.openings.clone());
        let native = settings(managed::Pool::builder(manager)).build()?;
        Ok(AsyncPool::new(
            native,
            (&database, name, &openings),
            move || {
                let inner = inner.clone();
                async move { inner.create().await.map_err(|error| error.to_string()) }
            },
        ))
    }
}

impl<M> AsyncPool<managed::Pool<AsyncManager<M>>>
where
    M: managed::Manager + 'static,
    M::Type: AsyncConnection + 'static,
    M::Error: Display,
{
    /// Gets a connection, as deadpool's `get` does.
    ///
    /// # Errors
    ///
    /// Those of deadpool.
    #[track_caller]
    pub fn get(
        &self,
    ) -> impl Future<Output = Result<Held<managed::Object<AsyncManager<M>>>, managed::PoolError<M::Error>>>
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move { self.wait(self.native().get(), is_timeout, taken_at).await }
    }

    /// Gets a connection with timeouts of its own, as deadpool's `timeout_get` does.
    ///
    /// # Errors
    ///
    /// Those of deadpool.
    #[track_caller]
    pub fn timeout_get(
        &self,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<Held<managed::Object<AsyncManager<M>>>, managed::PoolError<M::Error>>>
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        async move {
            self.wait(self.native().timeout_get(timeouts), is_timeout, taken_at)
                .await
        }
    }
}

fn is_timeout<E>(error: &managed::PoolError<E>) -> bool {
    matches!(error, managed::PoolError::Timeout(_))
}
