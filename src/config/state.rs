//! The keys of what outlives the process: `state_file`, `state_interval` and
//! `opentracker_state_file`.

use super::reader::{Section, Whole};
use super::settings::Config;
use std::path::PathBuf;
use std::time::Duration;

/// The longest `state_interval`: a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn read(root: &mut Section<'_>, config: &mut Config) {
    if let Some(path) = root.text("state_file") {
        config.state_file = PathBuf::from(path);
    }
    let interval = &mut config.state_interval;
    root.duration(
        "state_interval",
        Duration::ZERO..=LONGEST,
        Whole::Seconds,
        interval,
    );
    if let Some(path) = root.text("opentracker_state_file") {
        config.opentracker_state_file = PathBuf::from(path);
    }
    let has_state = !config.state_file.as_os_str().is_empty();
    if root.is_sound(&["state_file"]) && !has_state && !config.state_interval.is_zero() {
        root.refuse(
            "state_interval",
            "has no effect without state_file; name one or remove this",
        );
    }
    if has_state && config.state_file == config.opentracker_state_file {
        root.refuse(
            "opentracker_state_file",
            "is also state_file, which is of another form; name another file",
        );
    }
}
