//! Waiting on a condition with a bound, in place of sleeping for luck.
//!
//! Nothing here knows what is being waited for.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// The pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it answers `Ok`; panics with its last answer once `bound` has passed.
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
                panic!("waited {bound:?} for {what}, in vain: {last}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
