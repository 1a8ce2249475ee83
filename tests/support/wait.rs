//! Waits for a condition, with a bound. Tests use it in place of a sleep.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// The pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `condition` until it returns `Ok`. Panics with the last error after `bound`.
pub(crate) async fn until<T, E, F>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + bound;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => {
                panic!("waited {bound:?} for {what}: {last}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
