//! Writes bencode straight into a reply buffer.

/// Appends values to a `Vec` that only grows while the buffer is not yet warm.
///
/// The caller opens and closes dictionaries and lists, and writes the keys of
/// a dictionary in the order of their raw bytes (BEP 3): one client crashed on
/// Chihaya's unsorted replies. A debug build checks the order.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    #[cfg(debug_assertions)]
    order: order::Order,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            #[cfg(debug_assertions)]
            order: order::Order::default(),
        }
    }

    /// Opens a dictionary; pairs of [`Writer::key`] and a value follow.
    #[inline]
    pub fn begin_dictionary(&mut self) {
        self.out.push(b'd');
        #[cfg(debug_assertions)]
        self.order.open(true);
    }

    /// Opens a list; values follow.
    #[inline]
    pub fn begin_list(&mut self) {
        self.out.push(b'l');
        #[cfg(debug_assertions)]
        self.order.open(false);
    }

    /// Closes the innermost dictionary or list.
    #[inline]
    pub fn end(&mut self) {
        self.out.push(b'e');
        #[cfg(debug_assertions)]
        self.order.close();
    }

    /// The next key of the innermost dictionary.
    #[inline]
    pub fn key(&mut self, key: &[u8]) {
        self.bytes(key);
        #[cfg(debug_assertions)]
        self.order.key(self.out, key.len());
    }

    /// A byte string.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.bytes_in_two(value, &[]);
    }

    /// A byte string that is in two places.
    #[inline]
    pub fn bytes_in_two(&mut self, first: &[u8], second: &[u8]) {
        let length = first.len().saturating_add(second.len());
        write_decimal(self.out, length as u64);
        self.out.push(b':');
        self.out.extend_from_slice(first);
        self.out.extend_from_slice(second);
    }

    /// A number that is not negative.
    #[inline]
    pub fn unsigned(&mut self, value: u64) {
        self.out.push(b'i');
        write_decimal(self.out, value);
        self.out.push(b'e');
    }

    /// Any number.
    #[inline]
    pub fn signed(&mut self, value: i64) {
        self.out.push(b'i');
        if value < 0 {
            self.out.push(b'-');
        }
        write_decimal(self.out, value.unsigned_abs());
        self.out.push(b'e');
    }
}

/// Appends `value` in decimal digits.
#[inline]
fn write_decimal(out: &mut Vec<u8>, value: u64) {
    let mut buffer = [0; DECIMAL_DIGITS];
    out.extend_from_slice(decimal(value, &mut buffer));
}

/// Digits of the largest `u64`.
pub(in crate::protocol) const DECIMAL_DIGITS: usize = 20;

/// The decimal digits of `value`, in the end of `buffer`.
#[inline]
pub(in crate::protocol) fn decimal(mut value: u64, buffer: &mut [u8; DECIMAL_DIGITS]) -> &[u8] {
    let mut start = DECIMAL_DIGITS;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' | (value % 10) as u8;
        start = start.saturating_sub(1);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}

/// Debug builds only: are keys sorted, and is everything closed.
#[cfg(debug_assertions)]
mod order {
    /// Deepest nesting that is checked; replies have three levels.
    const DEPTH: usize = 8;

    #[derive(Clone, Copy, Debug, Default)]
    struct Level {
        is_dictionary: bool,
        /// Where the last key lies in the output.
        last_key: Option<(usize, usize)>,
    }

    #[derive(Debug, Default)]
    pub(super) struct Order {
        levels: [Level; DEPTH],
        depth: usize,
    }

    impl Order {
        pub(super) fn open(&mut self, is_dictionary: bool) {
            if let Some(level) = self.levels.get_mut(self.depth) {
                *level = Level {
                    is_dictionary,
                    last_key: None,
                };
            }
            self.depth = self.depth.saturating_add(1);
        }

        pub(super) fn close(&mut self) {
            debug_assert!(self.depth > 0, "closed more than was opened");
            self.depth = self.depth.saturating_sub(1);
        }

        /// The key is what `out` ends with.
        pub(super) fn key(&mut self, out: &[u8], length: usize) {
            let at = (out.len().saturating_sub(length), out.len());
            let innermost = self.depth.checked_sub(1);
            let Some(level) = innermost.and_then(|depth| self.levels.get_mut(depth)) else {
                debug_assert!(self.depth > DEPTH, "a key outside of a dictionary");
                return;
            };
            debug_assert!(level.is_dictionary, "a key in a list");
            if let Some((start, end)) = level.last_key {
                debug_assert!(
                    out.get(start..end) < out.get(at.0..at.1),
                    "keys out of order"
                );
            }
            level.last_key = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_examples_of_bep_3() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.begin_dictionary();
        writer.key(b"cow");
        writer.bytes(b"moo");
        writer.key(b"numbers");
        writer.begin_list();
        writer.signed(3);
        writer.signed(-3);
        writer.unsigned(0);
        writer.end();
        writer.key(b"spam");
        writer.bytes_in_two(b"eg", b"gs");
        writer.end();
        assert_eq!(out, b"d3:cow3:moo7:numbersli3ei-3ei0ee4:spam4:eggse");
    }

    #[test]
    fn writes_numbers_of_all_lengths() {
        for value in [0, 9, 10, 99, 100, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "keys out of order")]
    fn notices_unsorted_keys() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.begin_dictionary();
        writer.key(b"peers");
        writer.bytes(b"");
        writer.key(b"interval");
    }
}
