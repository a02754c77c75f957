//! SIGINT and SIGTERM: the first stops the tracker, the second ends it at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::thread;

/// Exit code of a process that was told twice: it did not stop cleanly.
const TOLD_TWICE: i32 = 1;

/// Listens for signals until it is dropped.
pub struct SignalListener {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl SignalListener {
    /// Calls `stop` at the first signal and ends the process at the second.
    ///
    /// # Errors
    /// When the handlers or the thread cannot be set up.
    pub fn start(stop: impl Fn() + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let thread = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut told = false;
                for signal in &mut signals {
                    let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                    if told {
                        log::warn!("{name} again: ending at once");
                        std::process::exit(TOLD_TWICE);
                    }
                    told = true;
                    log::info!("{name}: stopping; once more ends at once");
                    stop();
                }
            })?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
