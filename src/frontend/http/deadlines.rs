//! The ends of connections that take too long. A connection's deadline is set
//! where things happen to it; here it is looked at.

use super::connection::Phase;
use super::{HttpFrontend, Turn, milliseconds};
use crate::frontend::desk::Lanes;
use crate::protocol::http::Status;
use crate::runtime::reactor::Interest;
use crate::shard::stats::DropReason;

/// Connections whose deadlines one tick looks at, at least.
const LEAST_DEADLINES: usize = 1024;

impl HttpFrontend {
    /// Closes connections whose time is up, a slice of them for each tick: a
    /// tenth, so that each is looked at about once in ten ticks.
    pub fn tick<L: Lanes>(&mut self, turn: &mut Turn<'_, L>) {
        if self.accept_paused {
            self.pause_accept(turn, Interest::Read);
        }
        let now = milliseconds(turn.now);
        let places = self.connections.capacity();
        let slice = (places / 10).max(LEAST_DEADLINES).min(places);
        for _ in 0..slice {
            let at = self.next_deadline;
            self.next_deadline = if at + 1 >= places { 0 } else { at + 1 };
            if self
                .connections
                .get(at)
                .is_some_and(|connection| connection.deadline <= now)
            {
                self.time_out(at);
            }
        }
        self.stats
            .connections_open
            .set(self.connections.len() as u64);
    }

    fn time_out(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let slow =
            connection.has_unwritten() || !connection.unread.is_empty() || !connection.served;
        if connection.phase == Phase::Lingering || !slow {
            self.close(at);
            return;
        }
        if !connection.has_unwritten() && !connection.unread.is_empty() {
            // It began a request: say why it gets no answer. Whether the words
            // arrive matters little.
            self.out.clear();
            let dialect = self.settings.dialect;
            dialect.write_status(&mut self.out, Status::RequestTimeout, false, false);
            let _ = connection.write_from(&self.out);
        }
        self.fail(at, DropReason::Timeout);
    }
}
