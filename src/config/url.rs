//! URLs of web servers in the file: what is one, and how it may be shown.

use super::settings::Secret;
use serde::{Serialize, Serializer};
use serde_yaml::Value;
use ureq::http::Uri;

/// Why a text is not the URL of a web server.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    match read(url) {
        Some(_) => Ok(()),
        None => {
            // It may have a password in it for all that.
            let shown = match url.contains('@') {
                true => "this".to_owned(),
                false => format!("{url:?}"),
            };
            Err(format!(
                "{shown} is not a URL; write it as \"https://example.org/path\""
            ))
        }
    }
}

/// A URL as logs and the effective configuration have it. What may be secret,
/// the user's name and password and the query, is only said to be set.
pub(crate) fn public_url(url: &str) -> String {
    read(url).map_or("a URL".to_owned(), |url| masked(&url))
}

fn masked(url: &Uri) -> String {
    let mask = Secret::MASK;
    let scheme = url.scheme_str().unwrap_or_default();
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{mask}@{host}"),
        None => authority.to_owned(),
    };
    let query = match url.query() {
        Some(_) => format!("?{mask}"),
        None => String::new(),
    };
    format!("{scheme}://{host}{}{query}", url.path())
}

/// Writes a hook's options with each URL in them as it may be shown.
pub(super) fn serialize<S: Serializer>(options: &Value, to: S) -> Result<S::Ok, S::Error> {
    shown(options).serialize(to)
}

fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains(['@', '?']) => match read(text) {
            Some(url) => Value::String(masked(&url)),
            None => value.clone(),
        },
        Value::Sequence(values) => Value::Sequence(values.iter().map(shown).collect()),
        Value::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), shown(value)));
            Value::Mapping(pairs.collect())
        }
        other => other.clone(),
    }
}

fn read(url: &str) -> Option<Uri> {
    let read: Uri = url.parse().ok()?;
    let is_web = matches!(read.scheme_str(), Some("http" | "https")) && read.host().is_some();
    is_web.then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        for (url, shown) in [
            (
                "https://me:secret@host:8443/x?token=secret",
                "https://(set)@host:8443/x?(set)",
            ),
            ("http://me@[::1]/", "http://(set)@[::1]/"),
            ("http://host/x", "http://host/x"),
            ("me@host", "a URL"),
        ] {
            assert_eq!(public_url(url), shown);
        }
    }

    #[test]
    fn only_urls_are_changed() {
        let options = "{url: 'http://me:pw@host/?k=1', list: ['a@b?c', 'https://h/?s'], n: 7}";
        let options: Value = serde_yaml::from_str(options).unwrap();
        let expected =
            "{url: 'http://(set)@host/?(set)', list: ['a@b?c', 'https://h/?(set)'], n: 7}";
        assert_eq!(
            shown(&options),
            serde_yaml::from_str::<Value>(expected).unwrap()
        );
    }
}
