//! A change of the HTTP frontend's settings while it runs.

use super::{HttpFrontend, HttpSettings};

impl HttpFrontend {
    /// Exchanges the settings for these. Deadlines that are set stay, and
    /// nothing is closed by it: every request is answered by what is set when
    /// its turn comes.
    pub fn swap_settings(&mut self, settings: &mut HttpSettings) {
        let bytes = input_bytes(settings);
        if bytes != self.input.len() {
            self.input = vec![0; bytes];
        }
        std::mem::swap(&mut self.settings, settings);
    }
}

/// Bytes that one read takes, at most.
pub(super) fn input_bytes(settings: &HttpSettings) -> usize {
    settings.max_request_bytes.max(16 << 10)
}
