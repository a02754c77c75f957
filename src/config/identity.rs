//! The root keys `user`, `group` and `chroot`: what the process gives up root
//! for. Whether the host knows them is found out at start.

use super::reader::Section;
use super::settings::Config;

/// Reads the three keys.
pub(super) fn read(root: &mut Section<'_>, config: &mut Config) {
    read_name(root, "user", &mut config.user);
    read_name(root, "group", &mut config.group);
    if let Some(path) = root.text("chroot") {
        if !path.is_empty() && !path.starts_with('/') {
            root.refuse(
                "chroot",
                &format!("\"{path}\" does not begin with \"/\"; name the whole path"),
            );
        }
        config.chroot = path.to_owned();
    }
    if root.is_sound(&["user", "group"]) && config.user.is_empty() && !config.group.is_empty() {
        root.refuse("group", "is set without user; name the user too");
    }
}

fn read_name(root: &mut Section<'_>, key: &'static str, into: &mut String) {
    let Some(name) = root.text(key) else {
        return;
    };
    let never = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | ',');
    if name.contains(never) || name.starts_with('-') {
        root.refuse(key, &format!("{name:?} is no name of a {key}"));
    }
    name.clone_into(into);
}
