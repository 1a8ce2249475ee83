//! The stack of a thread as addresses, captured where a suspicion arises.

/// The most frames of a stack that are captured. Between a query and the code that runs it are 20 to 60.
const MOST_FRAMES: usize = 128;

/// The return addresses of a stack, the innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stack(Box<[usize]>);

impl Stack {
    /// Captures the stack of this thread, in 30 to 50 microseconds.
    ///
    /// The library lets one thread capture at a time. It would also let threads wait that symbolise with it, so nothing here
    /// does: see [`Program`](super::program::Program).
    pub(super) fn capture() -> Self {
        let mut addresses = Vec::with_capacity(MOST_FRAMES);
        backtrace::trace(|frame| {
            addresses.push(frame.ip().addr());
            addresses.len() < MOST_FRAMES
        });
        Self(addresses.into())
    }

    /// The return addresses, the innermost first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }
}
