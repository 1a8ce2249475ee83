//! The queue of logins whose password must be hashed. Few hash at a time, the addresses take turns, and a login that its
//! client has given up is not hashed.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::web;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use actix_vitals::memory::client_network;

/// Logins that may wait, in all and of one address (or one /64 network of IPv6).
const MAX_WAITING: usize = 256;
const MAX_WAITING_PER_ADDRESS: usize = 32;

/// Lets few logins hash at a time, each on a blocking thread. A clone is the same queue.
#[derive(Debug, Clone)]
pub(super) struct HashQueue(Arc<Mutex<Waiting>>);

/// A login found no room in the queue, or had to leave it to an address with fewer logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

#[derive(Debug)]
struct Waiting {
    /// The number of hashes that may start at once. While it is not zero, no caller waits.
    idle: usize,
    /// The addresses with logins that wait. The first one has the next turn.
    addresses: VecDeque<WaitingAddress>,
}

#[derive(Debug)]
struct WaitingAddress {
    network: Option<IpAddr>,
    /// Never empty; the oldest login comes first.
    logins: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to hash one password. Passes to the next login when it is dropped.
#[derive(Debug)]
struct Turn(HashQueue);

impl HashQueue {
    /// Hashes on half of the cores, so that the other half serves requests.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_turns((cores / 2).clamp(1, 4))
    }

    fn with_turns(turns: usize) -> Self {
        Self(Arc::new(Mutex::new(Waiting {
            idle: turns,
            addresses: VecDeque::new(),
        })))
    }

    /// Waits for a turn, and does the work on a blocking thread. `Ok(None)` if the work panicked.
    ///
    /// The login leaves the queue when the future is dropped. Work that has begun runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        client: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, QueueFull> {
        let turn = self.turn(client).await?;
        let work = move || {
            let _turn = turn;
            work()
        };
        Ok(web::block(work).await.ok())
    }

    async fn turn(&self, client: Option<IpAddr>) -> Result<Turn, QueueFull> {
        let waiting = {
            let mut queue = self.0.lock();
            if queue.idle > 0 {
                queue.idle -= 1;
                return Ok(Turn(self.clone()));
            }
            queue.push(client.map(client_network))?
        };
        waiting.await.map_err(|_| QueueFull)
    }
}

impl Waiting {
    /// Appends a login to those of its address.
    fn push(&mut self, network: Option<IpAddr>) -> Result<oneshot::Receiver<Turn>, QueueFull> {
        self.forget_left();
        let own = self
            .addresses
            .iter()
            .position(|address| address.network == network);
        let own_logins = own.map_or(0, |own| self.addresses[own].logins.len());
        if own_logins >= MAX_WAITING_PER_ADDRESS {
            return Err(QueueFull);
        }
        let logins = self.addresses.iter().map(|address| address.logins.len());
        if logins.sum::<usize>() >= MAX_WAITING {
            self.make_room(own_logins)?;
        }
        let (sender, receiver) = oneshot::channel();
        match own {
            Some(own) => self.addresses[own].logins.push_back(sender),
            None => self.addresses.push_back(WaitingAddress {
                network,
                logins: VecDeque::from([sender]),
            }),
        }
        Ok(receiver)
    }

    /// Removes the logins whose clients have left.
    fn forget_left(&mut self) {
        self.addresses.retain_mut(|address| {
            address.logins.retain(|login| !login.is_closed());
            !address.logins.is_empty()
        });
    }

    /// Turns away the newest login of the address with the most, for an address that has fewer.
    fn make_room(&mut self, own_logins: usize) -> Result<(), QueueFull> {
        let most = (self.addresses.iter_mut()).max_by_key(|address| address.logins.len());
        match most {
            Some(most) if most.logins.len() > own_logins + 1 => {
                most.logins.pop_back();
                Ok(())
            }
            _ => Err(QueueFull),
        }
    }

    /// The next login to hash: the oldest of the first address, which then goes to the end.
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let mut address = self.addresses.pop_front()?;
        let login = address.logins.pop_front();
        if !address.logins.is_empty() {
            self.addresses.push_back(address);
        }
        login
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.0.lock();
            queue.forget_left();
            let next = queue.pop();
            queue.idle += usize::from(next.is_none());
            next
        };
        if let Some(next) = next {
            // If its client has left in this moment, this turn comes back, and is dropped in its turn.
            drop(next.send(Turn(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Login = Pin<Box<dyn Future<Output = Result<Turn, QueueFull>>>>;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// A login that has been polled once.
    fn login(queue: &HashQueue, client: IpAddr) -> Login {
        let queue = queue.clone();
        let mut login: Login = Box::pin(async move { queue.turn(Some(client)).await });
        // What this answers comes again: a turn would be lost.
        assert!(poll(&mut login).is_pending());
        login
    }

    fn poll(login: &mut Login) -> Poll<Result<Turn, QueueFull>> {
        login.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_full(login: &mut Login) -> bool {
        matches!(poll(login), Poll::Ready(Err(QueueFull)))
    }

    /// A queue of one turn, and that turn.
    fn taken() -> (HashQueue, Turn) {
        let queue = HashQueue::with_turns(1);
        let mut first: Login = Box::pin({
            let queue = queue.clone();
            async move { queue.turn(Some(address(0))).await }
        });
        let Poll::Ready(Ok(turn)) = poll(&mut first) else {
            panic!("the first turn is not free");
        };
        (queue, turn)
    }

    fn refused(queue: &HashQueue, client: IpAddr) -> bool {
        let queue = queue.clone();
        is_full(&mut (Box::pin(async move { queue.turn(Some(client)).await }) as Login))
    }

    #[test]
    fn addresses_take_turns_however_many_logins_each_has() {
        let (queue, turn) = taken();
        let mut logins: Vec<(u8, Login)> = [1, 1, 1, 2, 1, 2, 3]
            .map(|number| (number, login(&queue, address(number))))
            .into();
        let mut turn = Some(turn);
        let mut order = Vec::new();
        while !logins.is_empty() {
            drop(turn.take());
            let ready = logins.iter_mut().position(|(_, login)| match poll(login) {
                Poll::Ready(Ok(next)) => {
                    turn = Some(next);
                    true
                }
                _ => false,
            });
            order.push(logins.remove(ready.expect("one has the turn")).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
        drop(turn);
        assert_eq!(queue.0.lock().idle, 1);
    }

    #[test]
    fn a_login_that_is_given_up_has_no_turn_and_takes_no_room() {
        let (queue, turn) = taken();
        for _ in 0..10 {
            let given_up: Vec<Login> = (0..MAX_WAITING_PER_ADDRESS)
                .map(|_| login(&queue, address(1)))
                .collect();
            assert!(refused(&queue, address(1)));
            drop(given_up);
        }
        let mut last = login(&queue, address(1));
        drop(turn);
        let Poll::Ready(Ok(turn)) = poll(&mut last) else {
            panic!("others are before it");
        };
        let given_up = login(&queue, address(1));
        drop(turn);
        // The turn was sent, and never received.
        drop(given_up);
        assert_eq!(queue.0.lock().idle, 1);
        assert!(queue.0.lock().addresses.is_empty());
    }

    #[test]
    fn a_full_queue_takes_a_login_of_an_address_that_has_fewer() {
        let (queue, _turn) = taken();
        let addresses = u8::try_from(MAX_WAITING / MAX_WAITING_PER_ADDRESS).expect("few addresses");
        let mut logins: Vec<Login> = (1..=addresses)
            .flat_map(|number| std::iter::repeat_n(number, MAX_WAITING_PER_ADDRESS))
            .map(|number| login(&queue, address(number)))
            .collect();
        assert!(refused(&queue, address(1)), "it has as many as any");
        let _newcomer = login(&queue, address(100));
        let turned_away = logins.iter_mut().filter_map(|login| match poll(login) {
            Poll::Ready(Err(QueueFull)) => Some(()),
            _ => None,
        });
        assert_eq!(turned_away.count(), 1);
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let (queue, _turn) = taken();
        let of = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let logins = (0..32).map(|last| login(&queue, of(last)));
        let _logins: Vec<Login> = logins.collect();
        assert!(refused(&queue, of(99)));
    }
}
