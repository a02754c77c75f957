//! What hooks have done beside the shards: files watched and re-read, keys
//! fetched, events delivered.
//!
//! A hook describes the work when it starts; `control` runs it on threads of
//! its own and ends it. Nothing here is on the request path.

use crossbeam_channel::Receiver;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// The work that the hooks of one configuration need.
#[derive(Default)]
pub struct Services {
    /// What is read from files.
    pub sources: Vec<Box<dyn Source>>,
    /// What has a thread of its own.
    pub tasks: Vec<Task>,
    /// Random and secret; for what must not be guessed from outside.
    pub seed: u64,
    /// How many shards there will be.
    pub shards: usize,
}

/// Something that is read from files and read again when they change, or that
/// comes through FIFOs.
pub trait Source: Send {
    /// The directories in which something may change. Watched for files that
    /// come, go or are written.
    fn directories(&self) -> Vec<PathBuf>;

    /// Reads again what has changed, or everything when `all` (SIGHUP). What
    /// cannot be read leaves the value as it was, and is logged with file and
    /// line. Returns whether it wants to be called again soon: to free what
    /// shards still use.
    fn refresh(&mut self, all: bool) -> bool;

    /// What becomes readable when something has come that is not in files.
    fn inputs(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Takes what its inputs have, without waiting for more.
    fn receive(&mut self) {}
}

/// What a [`Task`] does on its thread.
pub type TaskFunction = Box<dyn FnOnce(&Receiver<()>) + Send>;

/// Work with a thread of its own.
pub struct Task {
    /// The thread's name, 15 characters at most.
    pub name: &'static str,
    /// Runs until the channel is closed; what arrives there is a request to do
    /// at once what is done now and then (SIGHUP).
    pub run: TaskFunction,
}
