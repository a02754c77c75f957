//! What the file may say about HTTPS and about proxies.

use super::reader::Section;
use super::rules::read_header_name;
use super::settings::HttpConfig;
use std::io;
use std::path::PathBuf;

/// Takes the keys of HTTPS. `http.addr` must have been read. Files are looked
/// for if they are `in_sight`: not below a root that is yet to be entered.
pub(super) fn read_https(section: &mut Section<'_>, in_sight: bool, http: &mut HttpConfig) {
    section.addresses("https_addr", &mut http.https_addr);
    let twice = |address: &&_| http.addr.contains(address);
    let mut fixed = http.https_addr.iter().filter(|address| address.port() != 0);
    if section.is_sound(&["addr", "https_addr"])
        && let Some(address) = fixed.find(twice)
    {
        let message = format!("{address} is also in http.addr; choose another port");
        section.refuse("https_addr", &message);
    }
    let has_https = !http.https_addr.is_empty() || !section.is_sound(&["https_addr"]);
    for (key, into) in [
        ("tls_cert_path", &mut http.tls_cert_path),
        ("tls_key_path", &mut http.tls_key_path),
    ] {
        let path = section.text(key).unwrap_or_default();
        *into = PathBuf::from(path);
        if !section.is_sound(&[key]) {
            continue;
        }
        match (has_https, path.is_empty()) {
            (true, true) => {
                let message = format!("needs {key} too: HTTPS does not work without");
                section.refuse("https_addr", &message);
            }
            (false, false) => {
                section.refuse(
                    key,
                    "is given but https_addr is not; add that or remove this",
                );
            }
            (true, false) if in_sight => {
                if let Some(wrong) = what_is_wrong_with(into) {
                    section.refuse(key, &format!("{path:?} {wrong}"));
                }
            }
            _ => {}
        }
    }
}

/// What is plainly wrong with a path. What the file holds is looked at when the
/// tracker starts, perhaps as another user.
fn what_is_wrong_with(path: &PathBuf) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Ok(data) if data.is_dir() => Some("is a directory; name a file in PEM form"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("does not exist; name a file in PEM form")
        }
        _ => None,
    }
}

/// Takes the keys about proxies in front.
pub(super) fn read_proxies(section: &mut Section<'_>, http: &mut HttpConfig) {
    read_header_name(section, "real_ip_header", &mut http.real_ip_header);
    section.prefixes("trusted_proxies", &mut http.trusted_proxies);
    section.boolean("proxy_protocol", &mut http.proxy_protocol);
}

/// What is allowed but probably not meant.
pub(super) fn warnings(http: &HttpConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let (header, trusted) = (&http.real_ip_header, &http.trusted_proxies);
    if trusted.is_empty() {
        if !header.is_empty() {
            warnings.push(format!(
                "http.real_ip_header: {header} is believed from everybody: name the proxies in \
                 http.trusted_proxies, or anybody can announce any address"
            ));
        }
        if http.proxy_protocol {
            warnings.push(
                "http.proxy_protocol is believed from everybody: name the proxies in \
                 http.trusted_proxies, or anybody can announce any address"
                    .to_owned(),
            );
        }
    } else if header.is_empty() && !http.proxy_protocol {
        warnings.push(
            "http.trusted_proxies has no effect: set http.real_ip_header or http.proxy_protocol \
             to what the proxies send"
                .to_owned(),
        );
    }
    warnings
}
