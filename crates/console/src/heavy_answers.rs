//! Limits large answers of the ops endpoints: they are made on blocking threads, two at a time, within the memory for answers.

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    http::StatusCode,
    web::{self, Bytes},
};
use tokio::sync::Semaphore;
use vitals_recorder::{memory::AnswerMemory, problem::Problem};

use crate::fair_slots::FairSlots;

/// How many answers are made at the same time.
const AT_ONCE: usize = 2;

/// How many requests may wait for their turn.
const MOST_WAITING: usize = 64;

/// Makes large answers. Cheap to clone; all clones share the limits.
#[derive(Clone, Debug)]
pub(super) struct HeavyAnswers {
    memory: AnswerMemory,
    turns: Arc<Semaphore>,
    waiting: FairSlots,
}

impl HeavyAnswers {
    pub(super) fn new(memory: AnswerMemory) -> Self {
        Self {
            memory,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: FairSlots::new(MOST_WAITING),
        }
    }

    /// Runs `make` on a blocking thread when the client's turn has come, and returns the answer. `bytes` is the size to
    /// reserve: about the largest that the answer may have.
    ///
    /// # Errors
    ///
    /// Returns 503 if too many requests wait already, if the memory for answers is used up, or at shutdown.
    pub(super) async fn make<F>(
        &self,
        client: Option<IpAddr>,
        bytes: usize,
        make: F,
    ) -> Result<Bytes, Problem>
    where
        F: FnOnce() -> Vec<u8> + Send + 'static,
    {
        let waiting = self.waiting.take(client).ok_or_else(too_many)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| shutting_down())?;
        drop(waiting);
        let reservation = self.memory.reserve(client, bytes)?;
        let answer = web::block(move || {
            // Keeps the turn until the work is done, even if its request was dropped.
            let _turn = turn;
            reservation.hold(make())
        });
        answer.await.map_err(|_| shutting_down())
    }
}

fn too_many() -> Problem {
    let detail = "Too many requests wait for answers of this kind. Try again in a moment.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

fn shutting_down() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is shutting down.",
    )
    .retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};
    use std::task::Poll;

    use futures_util::future::join_all;

    use super::*;

    /// Polls a future for the first time, which does not end it.
    async fn begin(future: &mut (impl Future + Unpin)) {
        let mut future = Pin::new(future);
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending()));
        assert!(polled.await);
    }

    #[actix_web::test]
    async fn two_answers_are_made_at_once_64_wait_and_the_others_get_503() {
        let heavy = HeavyAnswers::new(AnswerMemory::default());
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        // No answer is made before all are asked for.
        let (all_asked, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let asked = (0..AT_ONCE + MOST_WAITING + 5).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let wait = Arc::clone(&wait);
            heavy.make(None, 10_000, move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                assert!(wait.lock().unwrap().recv().is_err());
                std::thread::sleep(std::time::Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
                vec![0; 5_000]
            })
        });
        let mut answers = pin!(join_all(asked));
        begin(&mut answers).await;
        drop(all_asked);
        let answers = answers.await;
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(refused, 5);
        assert!(most.load(Ordering::SeqCst) <= AT_ONCE);
        let held = (AT_ONCE + MOST_WAITING) * 5_000;
        assert_eq!(heavy.memory.used(), held);
        drop(answers);
        assert_eq!(heavy.memory.used(), 0);
    }

    #[actix_web::test]
    async fn one_client_leaves_slots_for_others() {
        let heavy = HeavyAnswers::new(AnswerMemory::default());
        let client = |number| Some(IpAddr::from([192, 0, 2, number]));
        // No answer is made before all are asked for.
        let (all_asked, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let ask = |number| {
            let wait = Arc::clone(&wait);
            heavy.make(client(number), 100, move || {
                assert!(wait.lock().unwrap().recv().is_err());
                vec![0; 100]
            })
        };
        let mut many = pin!(join_all((0..AT_ONCE + MOST_WAITING).map(|_| ask(1))));
        let mut other = pin!(ask(2));
        begin(&mut many).await;
        begin(&mut other).await;
        drop(all_asked);
        let (many, other) = tokio::join!(many, other);
        let refused = many.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(refused, MOST_WAITING / 2);
        assert!(other.is_ok());
    }

    #[actix_web::test]
    async fn without_memory_no_answer_is_made() {
        let heavy = HeavyAnswers::new(AnswerMemory::new(15_000));
        let (made, were_made) = mpsc::channel();
        let answer = heavy.make(None, 10_000, move || {
            made.send(()).unwrap();
            Vec::new()
        });
        assert_eq!(answer.await.unwrap_err().status(), 503);
        assert!(were_made.recv().is_err());
    }
}
