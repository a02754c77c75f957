//! SIGINT and SIGTERM: the first stops the tracker, the second ends it at once.
//! SIGHUP and SIGUSR1 (opentracker's) order a reload.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::thread;

/// Exit code of a process that was told twice: it did not stop cleanly.
const TOLD_TWICE: i32 = 1;

/// Signals that are kept until somebody listens.
pub struct HeldSignals(Signals);

impl HeldSignals {
    /// Keeps SIGHUP and SIGUSR1 from now on, which would end the process
    /// otherwise: somebody may send one while it starts.
    ///
    /// # Errors
    /// When the handlers cannot be set up.
    pub fn hold() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGUSR1]).map(Self)
    }

    /// Calls `stop` at the first signal to stop and ends the process at the
    /// second; calls `reload` at each order to reload, held ones included.
    /// Neither may take long: other signals wait behind it.
    ///
    /// # Errors
    /// When the handlers or the thread cannot be set up.
    pub fn listen(
        self,
        stop: impl Fn() + Send + 'static,
        reload: impl Fn() + Send + 'static,
    ) -> io::Result<SignalListener> {
        let mut signals = self.0;
        signals.add_signal(SIGINT)?;
        signals.add_signal(SIGTERM)?;
        let handle = signals.handle();
        let thread = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut told = false;
                for signal in &mut signals {
                    let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                    if matches!(signal, SIGHUP | SIGUSR1) {
                        log::info!("{name}: reloading");
                        reload();
                        continue;
                    }
                    if told {
                        log::warn!("{name} again: ending at once");
                        std::process::exit(TOLD_TWICE);
                    }
                    told = true;
                    log::info!("{name}: stopping; once more ends at once");
                    stop();
                }
            })?;
        Ok(SignalListener {
            handle,
            thread: Some(thread),
        })
    }
}

/// Listens for signals until it is dropped.
pub struct SignalListener {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
