//! Giving up root for good: the user, the groups and the root directory that
//! the process goes on with.
//!
//! The kernel keeps credentials per thread. The calls here are the C library's
//! (`setgroups`, `setresgid`, `setresuid`), which change every thread of the
//! process or end it; the bare system calls, which rustix makes, would leave
//! threads behind that are still root. The server calls this before it starts
//! any thread all the same, so that nothing depends on that alone.
//!
//! When the process is to give up root is left to the server, what it is told
//! to become to the configuration.

use nix::unistd::{self, Gid, Group, Uid, User};
use rustix::thread::CapabilitySet;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What the process is to become. Nothing is changed by making one: names are
/// looked up while the files that hold them can still be read.
#[derive(Debug)]
pub struct Identity {
    account: Option<Account>,
    root: Option<PathBuf>,
}

#[derive(Debug)]
struct Account {
    user: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why the process cannot become what it is told to: the key that says so,
/// and the remedy.
#[derive(Debug)]
pub enum Error {
    /// No such user.
    UnknownUser(String),
    /// No such group.
    UnknownGroup(String),
    /// A user that is known by number only has no group of its own.
    NoGroup(String),
    /// The databases of users cannot be read.
    Lookup(String, io::Error),
    /// The process is not root and not what it is told to become.
    NotRoot(String),
    /// The root directory cannot be entered.
    Root(PathBuf, io::Error),
    /// The kernel refuses the change.
    Refused(&'static str, io::Error),
    /// The change was made, but root could be had back.
    NotForGood,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(name) => write!(
                f,
                "user: there is no user \"{name}\" on this host; create it (useradd --system \
                 {name}) or name another"
            ),
            Self::UnknownGroup(name) => write!(
                f,
                "group: there is no group \"{name}\" on this host; create it (groupadd --system \
                 {name}) or name another"
            ),
            Self::NoGroup(number) => write!(
                f,
                "user: {number} is in no list of users, so its group is not known; set group too"
            ),
            Self::Lookup(key, error) => {
                write!(f, "{key}: the users of this host cannot be read: {error}")
            }
            Self::NotRoot(name) => write!(
                f,
                "user: only root can become \"{name}\"; start karuta as root, or leave user and \
                 group empty and start it as the user that it is to be (User= in a systemd unit)"
            ),
            Self::Root(path, error) => {
                write!(
                    f,
                    "chroot: cannot make {} the root: {error}",
                    path.display()
                )?;
                f.write_str(match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        "; name a directory that exists"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "; only root may, so start karuta as root or leave chroot empty"
                    }
                    _ => "",
                })
            }
            Self::Refused(what, error) => write!(
                f,
                "user: the kernel refuses to change the {what}: {error}; a container or unit may \
                 take CAP_SETUID and CAP_SETGID away: grant them, or leave user and group empty"
            ),
            Self::NotForGood => f.write_str(
                "user: root could be had back after it was given up; refusing to serve like that",
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Identity {
    /// Looks up a user, a group and a directory; each may be empty for "as it
    /// is". A user or group may be a number. Without a group it is the user's
    /// own, with the further groups that the user is in.
    ///
    /// # Errors
    /// Unknown names.
    pub fn find(user: &str, group: &str, root: &str) -> Result<Self, Error> {
        let account = match user {
            "" => None,
            user => Some(Account::find(user, group)?),
        };
        let root = Some(root).filter(|root| !root.is_empty());
        Ok(Self {
            account,
            root: root.map(PathBuf::from),
        })
    }

    /// Whether there is nothing to become.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.account.is_none() && self.root.is_none()
    }

    /// Becomes it, for good: afterwards every path is below the new root, no
    /// capability is left, no program that is executed can regain one, and
    /// trying to be root again has failed. All threads change.
    ///
    /// Returns whether anything changed: a process that already is the user
    /// stays as it is.
    ///
    /// # Errors
    /// What the process may not do. It may then have changed in part and must
    /// end.
    pub fn assume(&self) -> Result<bool, Error> {
        let mut changed = false;
        if let Some(account) = &self.account {
            // Before the root is changed, so that nothing is done by halves.
            account.check()?;
        }
        if let Some(root) = &self.root {
            enter(root).map_err(|error| Error::Root(root.clone(), error))?;
            changed = true;
        }
        if let Some(account) = &self.account {
            changed |= account.assume()?;
        }
        Ok(changed)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            let Account { user, uid, gid, .. } = account;
            write!(f, "runs as {user} (user {uid}, group {gid})")?;
        }
        if let Some(root) = &self.root {
            let comma = if self.account.is_some() { ", " } else { "" };
            write!(f, "{comma}sees only what is below {}", root.display())?;
        }
        Ok(())
    }
}

impl Account {
    fn find(user: &str, group: &str) -> Result<Self, Error> {
        let failed = |error| Error::Lookup("user".to_owned(), io::Error::from(error));
        let known = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(user),
        };
        let known = known.map_err(failed)?;
        let (uid, own) = match (&known, user.parse()) {
            (Some(known), _) => (known.uid, Some(known.gid)),
            (None, Ok(number)) => (Uid::from_raw(number), None),
            (None, Err(_)) => return Err(Error::UnknownUser(user.to_owned())),
        };
        let gid = match group {
            "" => own.ok_or_else(|| Error::NoGroup(user.to_owned()))?,
            group => find_group(group)?,
        };
        let groups = match known.map(|known| CString::new(known.name)) {
            Some(Ok(name)) => unistd::getgrouplist(&name, gid).map_err(failed)?,
            _ => vec![gid],
        };
        Ok(Self {
            user: user.to_owned(),
            uid,
            gid,
            groups,
        })
    }

    fn is_current(&self) -> bool {
        unistd::getuid() == self.uid
            && unistd::geteuid() == self.uid
            && unistd::getgid() == self.gid
            && unistd::getegid() == self.gid
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_current() || unistd::geteuid().is_root() {
            return Ok(());
        }
        Err(Error::NotRoot(self.user.clone()))
    }

    fn assume(&self) -> Result<bool, Error> {
        if self.is_current() && !self.uid.is_root() {
            return Ok(false);
        }
        let refused = |what| move |error| Error::Refused(what, io::Error::from(error));
        // Groups first: without root they could not be changed any more.
        unistd::setgroups(&self.groups).map_err(refused("further groups"))?;
        unistd::setresgid(self.gid, self.gid, self.gid).map_err(refused("group"))?;
        unistd::setresuid(self.uid, self.uid, self.uid).map_err(refused("user"))?;
        // Set-uid programs give nothing back either. The flag is inherited by
        // the threads that are started later.
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| Error::Refused("no_new_privs flag", error.into()))?;
        if !self.uid.is_root() && is_root_again() {
            return Err(Error::NotForGood);
        }
        // The change hid /proc/self from the process itself, where it reads how
        // much it uses, and forbade core dumps. It held no secret of root's.
        let behavior = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(behavior)
            .map_err(|error| Error::Refused("right to see itself", error.into()))?;
        Ok(true)
    }
}

/// Whether the process is root now.
#[must_use]
pub fn is_root() -> bool {
    unistd::geteuid().is_root()
}

/// Gives up the capabilities that opening AF_XDP takes, for good, where they
/// came without being root.
///
/// # Errors
/// Those of `capset(2)`.
pub fn drop_xdp_capabilities() -> io::Result<()> {
    let dropped = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::BPF;
    let mut sets = rustix::thread::capabilities(None)?;
    // The ambient set follows these two.
    for set in [
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
    ] {
        set.remove(dropped);
    }
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Tries every way back.
fn is_root_again() -> bool {
    let root = Uid::from_raw(0);
    unistd::setuid(root).is_ok()
        || unistd::seteuid(root).is_ok()
        || unistd::setresuid(root, root, root).is_ok()
        || rustix::thread::capabilities(None)
            .is_ok_and(|sets| !sets.effective.is_empty() || !sets.permitted.is_empty())
}

fn find_group(group: &str) -> Result<Gid, Error> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let failed = |error| Error::Lookup("group".to_owned(), io::Error::from(error));
    let known = Group::from_name(group).map_err(failed)?;
    known
        .map(|known| known.gid)
        .ok_or_else(|| Error::UnknownGroup(group.to_owned()))
}

/// Makes a directory the root and the working directory, so that nothing above
/// it has a name any more.
fn enter(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(user: &str, group: &str) -> String {
        let found = Identity::find(user, group, "");
        found.expect_err("unknown").to_string()
    }

    #[test]
    fn names_are_looked_up_and_unknown_ones_named() {
        assert!(Identity::find("", "", "").expect("nothing").is_nothing());
        let root = Identity::find("root", "", "/somewhere").expect("root");
        assert_eq!(
            root.to_string(),
            "runs as root (user 0, group 0), sees only what is below /somewhere"
        );
        let numbers = Identity::find("4000000", "4000001", "").expect("numbers");
        let account = numbers.account.as_ref().expect("an account");
        assert_eq!(account.groups, [Gid::from_raw(4_000_001)]);
        assert!(error("no-such-user", "").contains("no user \"no-such-user\""));
        assert!(error("root", "no-such-group").contains("no group \"no-such-group\""));
        assert!(error("4000000", "").contains("set group too"));
    }

    #[test]
    fn who_already_is_the_user_stays_it() {
        let (uid, gid) = (unistd::getuid(), unistd::getgid());
        let own = Identity::find(&uid.to_string(), &gid.to_string(), "").expect("oneself");
        own.account
            .as_ref()
            .expect("an account")
            .check()
            .expect("allowed");
        if !uid.is_root() {
            assert!(!own.assume().expect("nothing to do"));
            let root = Identity::find("root", "", "").expect("root");
            assert!(matches!(root.assume(), Err(Error::NotRoot(_))));
        }
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        let nowhere = Identity::find("", "", "/nonexistent/root").expect("a path");
        let error = nowhere.assume().expect_err("not there").to_string();
        assert!(error.contains("/nonexistent/root"), "{error}");
        assert!(error.contains("a directory that exists"), "{error}");
    }
}
