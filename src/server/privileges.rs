//! Giving up root: after every socket is bound, and before anything else.
//!
//! The order matters. Ports below 1024 are bound first. No thread runs yet, so
//! none can be left behind with root's credentials. Whatever is read later,
//! lists, keys, the configuration at a reload, is read as the new user and
//! below the new root from the first time on: a file that could not be read
//! again is an error now and not at the first reload.

use super::StartError;
use crate::config::{Config, UdpConfig};
use crate::runtime::executor;
use crate::sys::privileges::{Identity, drop_xdp_capabilities, is_root};

/// Becomes what the configuration says.
///
/// # Errors
/// Unknown names, or what the process may not do, with the remedy.
pub(super) fn give_up(config: &Config) -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(error.to_string());
    let identity = Identity::find(&config.user, &config.group, &config.chroot)
        .map_err(|error| failed(&error))?;
    let is_xdp = |udp: &UdpConfig| !udp.xdp_interfaces.is_empty();
    if config.udp.as_ref().is_some_and(is_xdp) && !is_root() {
        drop_xdp_capabilities().map_err(|error| {
            StartError(format!("cannot give up the privileges of AF_XDP: {error}"))
        })?;
    }
    if identity.is_nothing() {
        return Ok(());
    }
    if identity.assume().map_err(|error| failed(&error))? {
        log::info!("{identity}");
    }
    if is_root() {
        log::warn!(
            "karuta still is root, which protects from nothing (and root can leave a chroot): set \
             user to one that owns nothing"
        );
    }
    // What root may do, a user may not: where io_uring is for root only, or
    // where locked memory is counted against the user's limit, say so here.
    executor::probe().map_err(|error| failed(&error))
}
