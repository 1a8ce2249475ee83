//! A log that can be read, of a process whose only one it is.

use std::{
    io,
    sync::{Arc, Mutex},
};

/// The lines that were logged. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes down the errors that this process logs from now on. Once in a process.
    pub(crate) fn take_down() -> Self {
        Self::take_down_from(tracing::Level::ERROR)
    }

    /// Takes down what this process logs from now on, from this level up. Once in a process.
    pub(crate) fn take_down_from(level: tracing::Level) -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
        log
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("the log").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(ToOwned::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
