//! The queue of logins whose password must be hashed.
//!
//! Few hashes run at a time. The client addresses take turns, and a login whose client has left is not hashed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// The most waiting logins: in all, and of one address (or one /64 network of IPv6).
const MAX_WAITING: usize = 256;
const MAX_WAITING_PER_ADDRESS: usize = 32;

/// Limits how many hashes run at a time. Each runs on a blocking thread of Tokio. A clone is the same queue.
#[derive(Debug, Clone)]
pub(crate) struct HashQueue(Arc<Mutex<WaitingLogins>>);

/// The queue is full, or an address with fewer logins has taken this login's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

#[derive(Debug)]
struct WaitingLogins {
    /// How many hashes may start now. While it is not zero, no login waits.
    idle: usize,
    /// The addresses with waiting logins. The first one has the next turn.
    addresses: VecDeque<WaitingAddress>,
}

#[derive(Debug)]
struct WaitingAddress {
    network: Option<IpAddr>,
    /// Never empty, oldest first.
    logins: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to hash one password. When it is dropped, the next login receives it.
#[derive(Debug)]
struct Turn(HashQueue);

impl HashQueue {
    /// Hashes on half of the cores, at least one and at most four, so that the others serve requests.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_turns((cores / 2).clamp(1, 4))
    }

    fn with_turns(turns: usize) -> Self {
        Self(Arc::new(Mutex::new(WaitingLogins {
            idle: turns,
            addresses: VecDeque::new(),
        })))
    }

    /// Waits for a turn, and runs the work on a blocking thread. `Ok(None)` if the work panicked.
    ///
    /// Dropping the future removes the login from the queue. Work that has begun runs to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        client: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, QueueFull> {
        let turn = self.turn(client).await?;
        let work = move || {
            let _turn = turn;
            work()
        };
        Ok(spawn_blocking(work).await.ok())
    }

    async fn turn(&self, client: Option<IpAddr>) -> Result<Turn, QueueFull> {
        let waiting = {
            let mut queue = self.0.lock();
            if queue.idle > 0 {
                queue.idle -= 1;
                return Ok(Turn(self.clone()));
            }
            queue.push(client.map(network_of))?
        };
        waiting.await.map_err(|_| QueueFull)
    }
}

impl WaitingLogins {
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

    /// Removes the newest login of the address with the most, in favour of an address with fewer.
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

    /// Takes the next login to hash: the oldest of the first address. The address then moves to the end.
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
            // If its client has just left, `send` returns the turn, and dropping it takes the next login.
            drop(next.send(Turn(self.0.clone())));
        }
    }
}

/// The address by which a client is counted: an IPv6 client owns a network of 64 bits.
fn network_of(client: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);

    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
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
        assert!(poll(&mut login).is_pending());
        login
    }

    fn poll(login: &mut Login) -> Poll<Result<Turn, QueueFull>> {
        login.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_full(login: &mut Login) -> bool {
        matches!(poll(login), Poll::Ready(Err(QueueFull)))
    }

    /// A queue with one turn, which is taken.
    fn taken() -> (HashQueue, Turn) {
        let queue = HashQueue::with_turns(1);
        let mut first: Login = Box::pin({
            let queue = queue.clone();
            async move { queue.turn(Some(address(0))).await }
        });
        let Poll::Ready(Ok(turn)) = poll(&mut first) else {
            panic!("the first turn is taken");
        };
        (queue, turn)
    }

    fn is_rejected(queue: &HashQueue, client: IpAddr) -> bool {
        let queue = queue.clone();
        is_full(&mut (Box::pin(async move { queue.turn(Some(client)).await }) as Login))
    }

    #[test]
    fn addresses_take_turns_whatever_their_number_of_logins() {
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
            order.push(logins.remove(ready.expect("one login has the turn")).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
        drop(turn);
        assert_eq!(queue.0.lock().idle, 1);
    }

    #[test]
    fn a_login_whose_client_left_gets_no_turn_and_takes_no_position() {
        let (queue, turn) = taken();
        for _ in 0..10 {
            let abandoned: Vec<Login> = (0..MAX_WAITING_PER_ADDRESS)
                .map(|_| login(&queue, address(1)))
                .collect();
            assert!(is_rejected(&queue, address(1)));
            drop(abandoned);
        }
        let mut last = login(&queue, address(1));
        drop(turn);
        let Poll::Ready(Ok(turn)) = poll(&mut last) else {
            panic!("another login is ahead of it");
        };
        let abandoned = login(&queue, address(1));
        drop(turn);
        // The turn was sent, but never received.
        drop(abandoned);
        assert_eq!(queue.0.lock().idle, 1);
        assert!(queue.0.lock().addresses.is_empty());
    }

    #[test]
    fn a_full_queue_accepts_a_login_of_an_address_with_fewer() {
        let (queue, _turn) = taken();
        let addresses = u8::try_from(MAX_WAITING / MAX_WAITING_PER_ADDRESS).expect("few addresses");
        let mut logins: Vec<Login> = (1..=addresses)
            .flat_map(|number| std::iter::repeat_n(number, MAX_WAITING_PER_ADDRESS))
            .map(|number| login(&queue, address(number)))
            .collect();
        assert!(
            is_rejected(&queue, address(1)),
            "its address has as many as any"
        );
        let _newcomer = login(&queue, address(100));
        let removed = logins.iter_mut().filter_map(|login| match poll(login) {
            Poll::Ready(Err(QueueFull)) => Some(()),
            _ => None,
        });
        assert_eq!(removed.count(), 1);
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address() {
        let (queue, _turn) = taken();
        let of = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let logins = (0..32).map(|last| login(&queue, of(last)));
        let _logins: Vec<Login> = logins.collect();
        assert!(is_rejected(&queue, of(99)));
    }
}
