//! The head of an HTTP/1.x request (RFC 9112): the part that a tracker needs.
//!
//! Lenient where clients are crude: a missing `Host` is accepted (RFC 9112
//! wants a 400; many small clients send none), so is the absolute form of a
//! target (`GET http://host/announce?...`, which clients behind a configured
//! proxy send). All else that is malformed is an error that gets a 400.
//!
//! Bodies: a tracker's requests have none. When one is announced (a
//! `Content-Length` above 0, a `Transfer-Encoding`, or an `Expect` that
//! promises one), the request is served but the connection is closed after
//! it: reading a body only to throw it away invites slow senders, and taking
//! it for the next request would be request smuggling. Who closes a connection
//! with unread bytes has to shut down its sending side first and read on for a
//! moment, or the kernel resets it and the client may lose the answer.

use super::query;
use super::reply::Status;
use std::fmt;

/// How many header fields a request may have. Browsers send about 15, proxies
/// add 10.
pub const MAX_HEADERS: usize = 64;

/// What bounds and guides the reading of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOptions<'o> {
    /// How long a head may be, in bytes, up to its empty line.
    pub max_head_bytes: usize,
    /// The header that holds the client's address behind a proxy.
    pub real_ip_header: Option<&'o str>,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStatus<'a> {
    /// More bytes are needed; none of those given are wrong so far.
    Partial,
    /// The head is complete.
    Complete(Head<'a>),
}

/// The method of a request; methods are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The only one that is served.
    Get,
    /// Refused like all others, but without a body.
    Head,
    /// Any other.
    Other,
}

/// One request head, borrowed from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// How many bytes of the buffer it takes; what follows is the next request.
    pub head_len: usize,
    /// Anything but `Get` gets a 405.
    pub method: Method,
    /// Begins with `/`; still percent-encoded.
    pub path: &'a str,
    /// What follows the first `?`, still percent-encoded; may be empty.
    pub query: &'a [u8],
    /// Whether there is a `?`, perhaps with nothing behind it.
    pub has_query: bool,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// Whether the client allows the connection to be used again. Never when
    /// a body was announced.
    pub keep_alive: bool,
    /// Whether it asks for that in so many words.
    pub asks_keep_alive: bool,
    /// Whether a body follows, which must not be taken for a request.
    pub has_body: bool,
    /// The value of [`HeadOptions::real_ip_header`]. When there are several of
    /// them: all from the first value to the end of the last one, with the
    /// header lines between, which [`super::forwarded_client`] reads.
    pub real_ip: Option<&'a [u8]>,
    /// The first value of `Authorization` (RFC 9110, section 11.6.2).
    pub authorization: Option<&'a [u8]>,
    /// The first value of `Accept-Encoding` (RFC 9110, section 12.5.3).
    pub accept_encoding: Option<&'a [u8]>,
}

impl Head<'_> {
    /// A `GET` by somebody of whom nothing is known and nothing expected.
    pub(super) const fn of_strangers() -> Self {
        Self {
            head_len: 0,
            method: Method::Get,
            path: "/",
            query: b"",
            has_query: false,
            version_minor: 0,
            keep_alive: false,
            asks_keep_alive: false,
            has_body: false,
            real_ip: None,
            authorization: None,
            accept_encoding: None,
        }
    }
}

/// Why a head cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It is not HTTP/1.0 or HTTP/1.1, or its fields contradict each other.
    Malformed,
    /// It is longer than allowed or has too many fields.
    TooLarge,
}

impl HeadError {
    /// What to answer, before closing the connection.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Malformed => Status::BadRequest,
            Self::TooLarge => Status::HeaderFieldsTooLarge,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed HTTP request",
            Self::TooLarge => "HTTP request head too large",
        })
    }
}

impl std::error::Error for HeadError {}

/// Reads the head of the first request in `buffer`. The result does not depend
/// on how the bytes arrived: a head above the limit is an error whether it is
/// complete or not.
///
/// # Errors
///
/// See [`HeadError`]. The connection cannot be used any more.
pub fn parse_head<'a>(
    buffer: &'a [u8],
    options: &HeadOptions<'_>,
) -> Result<HeadStatus<'a>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(buffer) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if buffer.len() < options.max_head_bytes => {
            return Ok(HeadStatus::Partial);
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::TooLarge);
        }
        Err(_) => return Err(HeadError::Malformed),
    };
    if head_len > options.max_head_bytes {
        return Err(HeadError::TooLarge);
    }
    let (Some(method), Some(target), Some(version_minor)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed);
    };
    let fields = Fields::collect(request.headers, options.real_ip_header)?;
    let (path, query) = split_target(target)?;
    let has_query = target.contains('?');
    let reusable = match version_minor {
        0 => fields.asks_keep_alive && !fields.asks_close,
        _ => !fields.asks_close,
    };
    Ok(HeadStatus::Complete(Head {
        head_len,
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        path,
        query,
        has_query,
        version_minor,
        keep_alive: reusable && !fields.has_body,
        asks_keep_alive: fields.asks_keep_alive,
        has_body: fields.has_body,
        real_ip: match (fields.real_ip, fields.last_real_ip) {
            (Some(first), Some(last)) => Some(span(buffer, first, last).unwrap_or_default()),
            (first, _) => first,
        },
        authorization: fields.authorization,
        accept_encoding: fields.accept_encoding,
    }))
}

/// What the header fields say.
#[derive(Default)]
struct Fields<'a> {
    content_length: Option<&'a [u8]>,
    has_body: bool,
    asks_close: bool,
    asks_keep_alive: bool,
    real_ip: Option<&'a [u8]>,
    /// If there are several.
    last_real_ip: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    accept_encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn collect(
        headers: &[httparse::Header<'a>],
        real_ip_header: Option<&str>,
    ) -> Result<Self, HeadError> {
        let mut fields = Self::default();
        for header in headers {
            let name = header.name;
            if real_ip_header.is_some_and(|wanted| name.eq_ignore_ascii_case(wanted)) {
                match fields.real_ip {
                    None => fields.real_ip = Some(header.value),
                    Some(_) => fields.last_real_ip = Some(header.value),
                }
            }
            if name.eq_ignore_ascii_case("connection") {
                for option in header.value.split(|&byte| byte == b',') {
                    let option = option.trim_ascii();
                    fields.asks_close |= option.eq_ignore_ascii_case(b"close");
                    fields.asks_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                let value = header.value.trim_ascii();
                let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let contradicts = fields.content_length.is_some_and(|other| other != value);
                if !is_number || contradicts {
                    // RFC 9112, section 6.3: where the next request begins
                    // would be anybody's guess.
                    return Err(HeadError::Malformed);
                }
                fields.content_length = Some(value);
                fields.has_body |= value.iter().any(|&digit| digit != b'0');
            } else if name.eq_ignore_ascii_case("transfer-encoding")
                || name.eq_ignore_ascii_case("expect")
            {
                fields.has_body = true;
            } else if name.eq_ignore_ascii_case("authorization") {
                fields.authorization.get_or_insert(header.value);
            } else if name.eq_ignore_ascii_case("accept-encoding") {
                fields.accept_encoding.get_or_insert(header.value);
            }
        }
        Ok(fields)
    }
}

/// The bytes from the beginning of one part of a buffer to the end of another.
fn span<'a>(buffer: &'a [u8], first: &[u8], last: &[u8]) -> Option<&'a [u8]> {
    let at = |part: *const u8| part.addr().checked_sub(buffer.as_ptr().addr());
    let end = at(last.as_ptr())?.checked_add(last.len())?;
    buffer.get(at(first.as_ptr())?..end)
}

/// Path and query of a target in origin form or absolute form (RFC 9112,
/// section 3.2). The other two forms belong to methods that are not served.
fn split_target(target: &str) -> Result<(&str, &[u8]), HeadError> {
    let from_path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(HeadError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(HeadError::Malformed);
        }
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, from_path) = rest
            .split_at_checked(authority_end)
            .ok_or(HeadError::Malformed)?;
        if authority.is_empty() {
            return Err(HeadError::Malformed);
        }
        from_path
    };
    let (path, query) = query::split_target(from_path.as_bytes());
    let path = from_path.get(..path.len()).unwrap_or_default();
    Ok((if path.is_empty() { "/" } else { path }, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: HeadOptions<'_> = HeadOptions {
        max_head_bytes: 256,
        real_ip_header: Some("X-Real-IP"),
    };

    fn complete(text: &str) -> Head<'_> {
        match parse_head(text.as_bytes(), &OPTIONS) {
            Ok(HeadStatus::Complete(head)) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn reads_what_a_tracker_needs() {
        let text = "GET /announce?a=1?2 HTTP/1.1\r\nHost: x\r\nx-real-ip: 192.0.2.1\r\n\r\nGET";
        let expected = Head {
            head_len: text.len() - 3,
            method: Method::Get,
            path: "/announce",
            query: b"a=1?2",
            has_query: true,
            version_minor: 1,
            keep_alive: true,
            asks_keep_alive: false,
            has_body: false,
            real_ip: Some(b"192.0.2.1"),
            authorization: None,
            accept_encoding: None,
        };
        assert_eq!(complete(text), expected);
    }

    #[test]
    fn several_real_ips_are_one_piece() {
        for (first, between, last) in [
            ("1", "", "2"),
            ("1, 2", "Host: x\r\n", "3"),
            ("1", "", ""),
            ("", "", ""),
            ("", "X-Real-IP: 7\r\n", "2"),
        ] {
            let piece = format!("{first}\r\n{between}x-real-IP: {last}");
            let text = format!("GET / HTTP/1.1\r\nX-Real-IP: {piece}\r\nA: b\r\n\r\n");
            // The blanks before an empty value may or may not belong to it.
            let real_ip = complete(&text).real_ip.map(<[u8]>::trim_ascii);
            assert_eq!(real_ip, Some(piece.trim().as_bytes()), "{text}");
        }
    }

    #[test]
    fn every_prefix_is_partial() {
        let text = "GET /announce?a=1 HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..text.len() {
            let prefix = &text.as_bytes()[..end];
            assert_eq!(parse_head(prefix, &OPTIONS), Ok(HeadStatus::Partial));
        }
    }

    #[test]
    fn targets_in_both_forms() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a", "/a", ""),
            ("/a?", "/a", ""),
            ("http://x/a?b", "/a", "b"),
            ("HTTPS://x:1/a", "/a", ""),
            ("http://x?b", "/", "b"),
            ("http://x", "/", ""),
        ] {
            let text = format!("GET {target} HTTP/1.0\r\n\r\n");
            let head = complete(&text);
            assert_eq!((head.path, head.query), (path, query.as_bytes()));
        }
        for target in ["*", "x:80", "a/b", "ftp://x/a", "http:///a"] {
            let text = format!("GET {target} HTTP/1.0\r\n\r\n");
            let result = parse_head(text.as_bytes(), &OPTIONS);
            assert_eq!(result, Err(HeadError::Malformed), "{target}");
        }
    }

    #[test]
    fn connections_are_kept_as_version_and_header_say() {
        for (version, header, kept) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, CLOSE\r\n", false),
            (
                "1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.1", "Content-Length: 0\r\n", true),
            ("1.1", "Content-Length: 5\r\n", false),
            ("1.1", "Transfer-Encoding: chunked\r\n", false),
            ("1.1", "Expect: 100-continue\r\n", false),
        ] {
            let text = format!("GET / HTTP/{version}\r\n{header}\r\n");
            assert_eq!(complete(&text).keep_alive, kept, "{version} {header}");
        }
    }

    #[test]
    fn a_long_head_is_too_large_however_it_arrives() {
        let field = "a: b\r\n";
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", field.repeat(40));
        for end in OPTIONS.max_head_bytes..=text.len() {
            let result = parse_head(&text.as_bytes()[..end], &OPTIONS);
            assert_eq!(result, Err(HeadError::TooLarge), "{end}");
        }
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", field.repeat(MAX_HEADERS + 1));
        let options = HeadOptions {
            max_head_bytes: 4096,
            ..OPTIONS
        };
        let result = parse_head(text.as_bytes(), &options);
        assert_eq!(result, Err(HeadError::TooLarge));
    }
}
