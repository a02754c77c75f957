//! Reads bencode without recursion, as a sequence of events borrowed from the
//! input.
//!
//! Strict where BEP 3 is: no leading zeros, no `-0`, keys are strings and come
//! sorted and once (unless told otherwise), nothing follows the value.

use std::fmt;

/// The deepest nesting that can be allowed; a reader holds one entry per level.
const MAX_DEPTH: usize = 32;

/// One step through a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A dictionary begins: keys and values in turn, then `End`.
    Dictionary,
    /// A list begins: values, then `End`.
    List,
    /// The innermost dictionary or list ends.
    End,
    /// The next key of the innermost dictionary.
    Key(&'a [u8]),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A number.
    Integer(i64),
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep dictionaries and lists may be nested; at most 32.
    pub max_depth: usize,
    /// How long the input may be, in bytes.
    pub max_bytes: usize,
    /// Whether keys have to be sorted.
    pub key_order: KeyOrder,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: MAX_DEPTH,
            max_bytes: 16 << 20,
            key_order: KeyOrder::Sorted,
        }
    }
}

/// Whether keys have to be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Sorted by their raw bytes and unique (BEP 3).
    Sorted,
    /// As they come, as careless programs write them.
    Any,
}

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The offset of the byte at which reading failed.
    pub at: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input ends within the value.
    Truncated,
    /// The input is longer than [`Limits::max_bytes`].
    TooLong,
    /// Nested deeper than [`Limits::max_depth`].
    TooDeep,
    /// A byte that begins no value.
    UnexpectedByte,
    /// A number with a leading zero, `-0`, without digits, or beyond 64 bits.
    InvalidNumber,
    /// A dictionary's key is not a string.
    KeyNotBytes,
    /// A dictionary's key comes before the one before it, or twice.
    KeyOrder,
    /// A key without a value.
    ValueMissing,
    /// Something follows the value.
    TrailingBytes,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::Truncated => "the input ends too early",
            ErrorKind::TooLong => "the input is too long",
            ErrorKind::TooDeep => "nested too deep",
            ErrorKind::UnexpectedByte => "no value begins with this byte",
            ErrorKind::InvalidNumber => "not a number in its only form",
            ErrorKind::KeyNotBytes => "the key of a dictionary is not a string",
            ErrorKind::KeyOrder => "the keys of a dictionary are not sorted or not unique",
            ErrorKind::ValueMissing => "a key has no value",
            ErrorKind::TrailingBytes => "something follows the value",
        };
        write!(f, "{what}, at byte {}", self.at)
    }
}

impl std::error::Error for Error {}

/// Where in a dictionary or list the reader is.
#[derive(Clone, Copy, Debug)]
enum Level<'a> {
    List,
    /// A key comes next, greater than the last one.
    Key(Option<&'a [u8]>),
    /// The value of this key comes next.
    Value(&'a [u8]),
}

/// Iterates over the events of one bencoded value; ends after the value or
/// after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    levels: [Level<'a>; MAX_DEPTH],
    depth: usize,
    limits: Limits,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Complete,
    Finished,
}

impl<'a> Reader<'a> {
    /// Reads `input`, which must hold exactly one value.
    #[must_use]
    pub const fn new(input: &'a [u8], limits: Limits) -> Self {
        Self {
            input,
            at: 0,
            levels: [Level::List; MAX_DEPTH],
            depth: 0,
            limits,
            state: State::Reading,
        }
    }

    /// The offset of the next byte to be read: the bytes between two offsets
    /// are the encoding of what was read between them (an info dictionary,
    /// say, to be hashed).
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    fn step(&mut self) -> Result<Event<'a>, ErrorKind> {
        if self.input.len() > self.limits.max_bytes {
            return Err(ErrorKind::TooLong);
        }
        let byte = self.peek()?;
        let innermost = self.innermost().map(|level| *level);
        match (byte, innermost) {
            (b'e', Some(Level::Value(_))) => Err(ErrorKind::ValueMissing),
            (b'e', Some(_)) => {
                self.at = self.at.saturating_add(1);
                self.depth = self.depth.saturating_sub(1);
                self.value_done();
                Ok(Event::End)
            }
            (b'0'..=b'9', Some(Level::Key(last))) => {
                let start = self.at;
                let key = self.bytes()?;
                let sorted = last.is_none_or(|last| last < key);
                if !sorted && self.limits.key_order == KeyOrder::Sorted {
                    self.at = start;
                    return Err(ErrorKind::KeyOrder);
                }
                if let Some(level) = self.innermost() {
                    *level = Level::Value(key);
                }
                Ok(Event::Key(key))
            }
            (_, Some(Level::Key(_))) => Err(ErrorKind::KeyNotBytes),
            (b'0'..=b'9', _) => {
                let bytes = self.bytes()?;
                self.value_done();
                Ok(Event::Bytes(bytes))
            }
            (b'i', _) => {
                let integer = self.integer()?;
                self.value_done();
                Ok(Event::Integer(integer))
            }
            (b'd', _) => self.open(Level::Key(None)).map(|()| Event::Dictionary),
            (b'l', _) => self.open(Level::List).map(|()| Event::List),
            _ => Err(ErrorKind::UnexpectedByte),
        }
    }

    fn innermost(&mut self) -> Option<&mut Level<'a>> {
        let index = self.depth.checked_sub(1)?;
        self.levels.get_mut(index)
    }

    fn open(&mut self, level: Level<'a>) -> Result<(), ErrorKind> {
        if self.depth >= self.limits.max_depth {
            return Err(ErrorKind::TooDeep);
        }
        let slot = self.levels.get_mut(self.depth).ok_or(ErrorKind::TooDeep)?;
        *slot = level;
        self.depth = self.depth.saturating_add(1);
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    /// A value has ended: in a dictionary a key comes next.
    fn value_done(&mut self) {
        match self.innermost() {
            None => self.state = State::Complete,
            Some(level) => {
                if let Level::Value(key) = *level {
                    *level = Level::Key(Some(key));
                }
            }
        }
    }

    fn peek(&self) -> Result<u8, ErrorKind> {
        self.input.get(self.at).copied().ok_or(ErrorKind::Truncated)
    }

    /// `<digits>:<bytes>`
    fn bytes(&mut self) -> Result<&'a [u8], ErrorKind> {
        let length = self.digits(b':')?;
        let length = usize::try_from(length).map_err(|_| ErrorKind::Truncated)?;
        let end = self.at.checked_add(length).ok_or(ErrorKind::Truncated)?;
        let bytes = self.input.get(self.at..end).ok_or(ErrorKind::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    /// `i<digits>e`, perhaps with a minus sign.
    fn integer(&mut self) -> Result<i64, ErrorKind> {
        self.at = self.at.saturating_add(1);
        let negative = self.peek()? == b'-';
        if negative {
            self.at = self.at.saturating_add(1);
        }
        let start = self.at;
        let magnitude = self.digits(b'e')?;
        let value = if negative {
            (magnitude != 0)
                .then(|| 0i64.checked_sub_unsigned(magnitude))
                .flatten()
        } else {
            i64::try_from(magnitude).ok()
        };
        value.ok_or_else(|| {
            self.at = start;
            ErrorKind::InvalidNumber
        })
    }

    /// Digits without a leading zero, and the byte that ends them.
    fn digits(&mut self, end: u8) -> Result<u64, ErrorKind> {
        let first = self.peek()?;
        let mut value: u64 = 0;
        let mut count: usize = 0;
        loop {
            let byte = self.peek()?;
            if byte == end && count > 0 {
                self.at = self.at.saturating_add(1);
                return Ok(value);
            }
            if !byte.is_ascii_digit() || (count == 1 && first == b'0') {
                return Err(ErrorKind::InvalidNumber);
            }
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(byte.wrapping_sub(b'0'))))
                .ok_or(ErrorKind::InvalidNumber)?;
            count = count.saturating_add(1);
            self.at = self.at.saturating_add(1);
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Event<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = match self.state {
            State::Finished => return None,
            State::Complete => {
                self.state = State::Finished;
                if self.at == self.input.len() {
                    return None;
                }
                Err(ErrorKind::TrailingBytes)
            }
            State::Reading => self.step(),
        };
        Some(result.map_err(|kind| {
            self.state = State::Finished;
            Error { at: self.at, kind }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<Vec<Event<'_>>, Error> {
        Reader::new(input, Limits::default()).collect()
    }

    #[test]
    fn reads_the_examples_of_bep_3() {
        assert_eq!(read(b"4:spam"), Ok(vec![Event::Bytes(b"spam")]));
        assert_eq!(read(b"i-3e"), Ok(vec![Event::Integer(-3)]));
        let expected = vec![
            Event::Dictionary,
            Event::Key(b"cow"),
            Event::Bytes(b"moo"),
            Event::Key(b"spam"),
            Event::List,
            Event::Bytes(b"a"),
            Event::Bytes(b""),
            Event::End,
            Event::End,
        ];
        assert_eq!(read(b"d3:cow3:moo4:spaml1:a0:ee"), Ok(expected));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (input, at, kind) in [
            (&b""[..], 0, ErrorKind::Truncated),
            (b"5:spam", 2, ErrorKind::Truncated),
            (b"99999999999999999999:", 19, ErrorKind::InvalidNumber),
            (b"18446744073709551615:", 21, ErrorKind::Truncated),
            (b"i03e", 2, ErrorKind::InvalidNumber),
            (b"i-0e", 2, ErrorKind::InvalidNumber),
            (b"ie", 1, ErrorKind::InvalidNumber),
            (b"i9223372036854775808e", 1, ErrorKind::InvalidNumber),
            (b"01:a", 1, ErrorKind::InvalidNumber),
            (b"x", 0, ErrorKind::UnexpectedByte),
            (b"e", 0, ErrorKind::UnexpectedByte),
            (b"di1ei2ee", 1, ErrorKind::KeyNotBytes),
            (b"d1:bi1e1:ai1ee", 7, ErrorKind::KeyOrder),
            (b"d1:ai1e1:ai1ee", 7, ErrorKind::KeyOrder),
            (b"d1:ae", 4, ErrorKind::ValueMissing),
            (b"i1ei2e", 3, ErrorKind::TrailingBytes),
            (b"l", 1, ErrorKind::Truncated),
        ] {
            assert_eq!(read(input), Err(Error { at, kind }), "{input:?}");
        }
        assert_eq!(
            read(b"i-9223372036854775808e"),
            Ok(vec![Event::Integer(i64::MIN)])
        );
    }

    #[test]
    fn holds_its_limits() {
        let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
        assert!(read(&nested(32)).is_ok());
        assert_eq!(read(&nested(33)).unwrap_err().kind, ErrorKind::TooDeep);
        let limits = Limits {
            max_depth: 1,
            max_bytes: 14,
            key_order: KeyOrder::Any,
        };
        let collect = |input| Reader::new(input, limits).collect::<Result<Vec<_>, _>>();
        assert!(collect(b"d1:bi1e1:ai1ee").is_ok());
        assert_eq!(
            collect(b"d1:bi1e1:ai10ee").unwrap_err().kind,
            ErrorKind::TooLong
        );
        assert_eq!(collect(b"llee").unwrap_err().kind, ErrorKind::TooDeep);
    }
}
