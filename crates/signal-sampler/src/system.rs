//! The system calls, the timers and the handler of SIGPROF: all the `unsafe` code.
//!
//! The handler calls what signal-safety(7) allows, and `process_vm_readv`, which is a plain system call in the C library: it
//! reads its arguments and a clock, copies parts of the stack, and writes atomic variables. `errno` is as before when it returns.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use libc::{c_int, c_void, clockid_t, iovec, itimerspec, siginfo_t, sigval, timespec, ucontext_t};

use crate::{
    GENERATION, RING, StartError,
    ring::Slot,
    stack::{self, Registers},
};

/// `CPUCLOCK_SCHED` and `CPUCLOCK_PERTHREAD_MASK`: how Linux encodes the clock of a thread's processor time. The remaining bits
/// are the inverted id of the thread.
const THREAD_CLOCK: clockid_t = 2 | 4;

/// The beginning of `siginfo_t` for a signal of a timer, as the kernel's interface has it on 64-bit machines
/// (`include/uapi/asm-generic/siginfo.h`).
#[repr(C)]
struct TimerInfo {
    signal: c_int,
    error: c_int,
    code: c_int,
    padding: c_int,
    timer: c_int,
    overrun: c_int,
    value: usize,
}

const _: () = assert!(size_of::<TimerInfo>() <= size_of::<siginfo_t>());
const _: () = assert!(align_of::<TimerInfo>() <= align_of::<siginfo_t>());
const _: () = assert!(size_of::<usize>() == 8);

/// The id of the calling thread.
pub(crate) fn own_thread() -> u32 {
    // SAFETY: it has no argument and cannot fail.
    let id = unsafe { libc::gettid() };
    id.unsigned_abs()
}

/// A timer of a thread's processor time, which sends SIGPROF to that thread. Deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Timer(libc::timer_t);

// SAFETY: it is the number of a timer of the process, which any thread may use. It is a pointer by type only.
unsafe impl Send for Timer {}

impl Timer {
    /// Starts a timer that expires after `first`, and then once in each period.
    pub(crate) fn start(
        thread: u32,
        generation: u32,
        first: Duration,
        period: Duration,
    ) -> io::Result<Self> {
        let id = i32::try_from(thread).map_err(io::Error::other)?;
        // SAFETY: a `sigevent` of zeros is valid: it has numbers and pointers only.
        let mut event = unsafe { mem::zeroed::<libc::sigevent>() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = id;
        event.sigev_value = sigval {
            sival_ptr: ptr::without_provenance_mut(value(thread, generation)),
        };
        let clock = (!id).wrapping_shl(3) | THREAD_CLOCK;
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are of variables that live until it returns.
        let created = unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) };
        succeeded(created)?;
        let timer = Self(timer);
        let expirations = itimerspec {
            it_interval: time(period)?,
            it_value: time(first)?,
        };
        // SAFETY: the timer exists, and the pointer is of a variable that lives until it returns. The other one may be null.
        let set =
            unsafe { libc::timer_settime(timer.0, 0, &raw const expirations, ptr::null_mut()) };
        succeeded(set)?;
        Ok(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer exists, and is not used any more. The timer of a thread that has ended exists as well.
        let _deleted = unsafe { libc::timer_delete(self.0) };
    }
}

fn time(duration: Duration) -> io::Result<timespec> {
    Ok(timespec {
        tv_sec: i64::try_from(duration.as_secs()).map_err(io::Error::other)?,
        tv_nsec: i64::from(duration.subsec_nanos()),
    })
}

/// What a signal of a timer carries: the thread and the sampling.
fn value(thread: u32, generation: u32) -> usize {
    let [thread, generation] = [thread, generation].map(|number| number as usize);
    generation.wrapping_shl(32) | thread
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "both halves are of 32 bits"
)]
fn thread_and_generation(value: usize) -> (u32, u32) {
    (value as u32, value.wrapping_shr(32) as u32)
}

/// The result of a system call that returns 0 if it succeeds.
fn succeeded(result: c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Sets the handler of SIGPROF, unless it is set already.
pub(crate) fn install_handler() -> Result<(), StartError> {
    let denied = |cause| StartError::Denied {
        call: "sigaction",
        cause,
    };
    // SAFETY: a `sigaction` of zeros is valid: it has numbers and pointers only.
    let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
    // SAFETY: without a new action, it writes the present one to a variable that lives until it returns.
    let read = unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), &raw mut action) };
    succeeded(read).map_err(denied)?;
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_signal;
    let handler = handler as libc::sighandler_t;
    match action.sa_sigaction {
        present if present == handler => return Ok(()),
        libc::SIG_DFL | libc::SIG_IGN => {}
        _ => return Err(StartError::Handled),
    }
    action.sa_sigaction = handler;
    // System calls continue where that is possible. A thread with an alternate signal stack handles the signal there.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // No other handler interrupts this one: it might not return, and a slot of the ring would stay taken.
    // SAFETY: the pointer is of a variable that lives until it returns.
    let filled = unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    succeeded(filled).map_err(denied)?;
    let mut replaced = action;
    // SAFETY: the action is complete. Its handler has the type that SA_SIGINFO asks for, may run at any moment (see there), and
    // exists as long as this crate is loaded. The previous action is written to a variable that lives until it returns.
    let set = unsafe { libc::sigaction(libc::SIGPROF, &raw const action, &raw mut replaced) };
    succeeded(set).map_err(denied)?;
    if matches!(replaced.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
        || replaced.sa_sigaction == handler
    {
        return Ok(());
    }
    // Another thread has set a handler since the action was read.
    // SAFETY: it is the action that was in force before.
    let set = unsafe { libc::sigaction(libc::SIGPROF, &raw const replaced, ptr::null_mut()) };
    succeeded(set).map_err(denied)?;
    Err(StartError::Handled)
}

/// Checks that the kernel copies the memory of this process, which a filter of system calls may forbid.
pub(crate) fn check_memory_is_readable() -> io::Result<()> {
    let from = AtomicU64::new(7);
    let to = [AtomicU64::new(0)];
    let address = from.as_ptr().expose_provenance() as u64;
    if read_memory(address, &to) == 1 && to.iter().all(|word| word.load(Relaxed) == 7) {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Copies the memory at an address to words, and returns how many it could read. An address that cannot be read is an error of
/// the system call.
fn read_memory(address: u64, words: &[AtomicU64]) -> usize {
    let bytes = size_of_val(words);
    let to = iovec {
        iov_base: words.as_ptr().cast_mut().cast(),
        iov_len: bytes,
    };
    let Ok(address) = usize::try_from(address) else {
        return 0;
    };
    let from = iovec {
        iov_base: ptr::with_exposed_provenance_mut(address),
        iov_len: bytes,
    };
    // SAFETY: it has no argument and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: the kernel writes at most `bytes` bytes to the words, which may be written through a shared reference since they
    // are atomic. It checks the address that it reads from. Both lists have one element.
    let read = unsafe { libc::process_vm_readv(process, &raw const to, 1, &raw const from, 1, 0) };
    usize::try_from(read).map_or(0, |read| read.wrapping_shr(3))
}

/// The moment of `CLOCK_MONOTONIC`, in nanoseconds.
fn now() -> u64 {
    let mut time = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is of a variable that lives until it returns. The call is among those that a handler may make.
    let _read = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000);
    seconds.wrapping_add(time.tv_nsec.cast_unsigned())
}

/// Takes a sample of the thread that it interrupts.
extern "C" fn on_signal(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: it returns a pointer to a variable of the thread that always exists.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: the variable is of this thread, which does nothing else meanwhile.
    let before = unsafe { error.read() };
    // SAFETY: with SA_SIGINFO, the kernel passes a valid `siginfo_t`. `TimerInfo` is not larger, has the same alignment, and is
    // valid whatever its bytes are.
    let info = unsafe { &*info.cast::<TimerInfo>() };
    if info.code == libc::SI_TIMER {
        let (thread, generation) = thread_and_generation(info.value);
        let expirations = info.overrun.max(0).cast_unsigned().saturating_add(1);
        let registers = registers(context.cast());
        if generation == GENERATION.load(Relaxed) {
            RING.write(|slot| fill(slot, thread, expirations, registers));
        }
    }
    // SAFETY: as above.
    unsafe { error.write(before) };
}

fn fill(slot: &Slot, thread: u32, expirations: u32, registers: Registers) {
    slot.thread.store(thread, Relaxed);
    slot.expirations.store(expirations, Relaxed);
    slot.nanoseconds.store(now(), Relaxed);
    let length = stack::walk(registers, &slot.window, read_memory, &slot.addresses);
    slot.length
        .store(u32::try_from(length).unwrap_or(0), Relaxed);
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_sign_loss, reason = "libc has registers with a sign")]
fn registers(context: *const ucontext_t) -> Registers {
    // SAFETY: with SA_SIGINFO, the kernel passes a structure that is a `ucontext_t` up to the registers. The rest of the kernel's
    // is shorter, so there must be no reference to the whole.
    let registers = unsafe { (*context).uc_mcontext.gregs };
    let register = |number: c_int| {
        let number = usize::try_from(number).ok();
        let register = number.and_then(|number| registers.get(number));
        register.map_or(0, |register| *register as u64)
    };
    Registers {
        instruction: register(libc::REG_RIP),
        frame: register(libc::REG_RBP),
        stack: register(libc::REG_RSP),
    }
}

#[cfg(target_arch = "aarch64")]
fn registers(context: *const ucontext_t) -> Registers {
    // SAFETY: with SA_SIGINFO, the kernel passes a structure that is a `ucontext_t` up to the registers.
    let registers = unsafe { (*context).uc_mcontext.regs };
    // SAFETY: as above.
    let stack = unsafe { (*context).uc_mcontext.sp };
    // SAFETY: as above.
    let instruction = unsafe { (*context).uc_mcontext.pc };
    Registers {
        instruction,
        frame: registers.get(29).copied().unwrap_or(0),
        stack,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{mem, ptr};

    /// Adds SIGPROF to the signal mask of the calling thread.
    pub(crate) fn block_the_signal() {
        // SAFETY: a set of zeros is valid: it has numbers only.
        let mut set = unsafe { mem::zeroed::<libc::sigset_t>() };
        // SAFETY: the pointer is of a variable that lives until it returns.
        let added = unsafe { libc::sigaddset(&raw mut set, libc::SIGPROF) };
        assert_eq!(added, 0);
        // SAFETY: as above; the old set may be null.
        let blocked =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
        assert_eq!(blocked, 0);
    }
}
