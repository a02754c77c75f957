//! Where things are in a YAML file.
//!
//! serde_yaml keeps positions only for errors. So to find a place, the file is
//! read again by a visitor that fails on purpose when it gets there, and the
//! position is taken from that error. This works with every way of writing
//! YAML (blocks, braces, anchors), which looking at the text would not. It
//! costs a pass over the file per question; only errors and hooks ask.

use super::error::Position;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of this key.
    Key(String),
    /// The item at this index, from 0.
    Index(usize),
}

/// Which part of a mapping's entry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// The position of a value, or of its key; where that does not exist (a key
/// that is missing), of the nearest thing around it.
pub(super) fn locate(text: &str, path: &[Step], part: Part) -> Option<Position> {
    let mut path = path;
    let mut part = part;
    loop {
        let seed = Walk { path, part };
        let document = serde_yaml::Deserializer::from_str(text);
        if let Err(error) = seed.deserialize(document) {
            return position_of(&error);
        }
        path = path.split_last()?.1;
        part = Part::Key;
    }
}

/// The position that an error carries.
pub(super) fn position_of(error: &serde_yaml::Error) -> Option<Position> {
    error.location().map(|at| Position {
        line: at.line(),
        column: at.column(),
    })
}

/// Checks what reading into a `serde_yaml::Value` would not place well: that
/// no mapping has a key twice, and that there are no tags.
pub(super) fn check_shape(text: &str) -> Result<(), serde_yaml::Error> {
    Shape.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Reads whatever stands there.
macro_rules! reads_anything {
    ($kind:ty => $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $kind {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<$value, D::Error> {
                from.deserialize_any(self)
            }
        }
    };
}

/// The same for every value that is neither a map nor a list.
macro_rules! plain_values {
    ($self:ident => $result:expr) => {
        plain_values!(@ $self, $result,
            visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

        fn visit_unit<E: Error>($self) -> Result<(), E> {
            $result
        }

        fn visit_none<E: Error>($self) -> Result<(), E> {
            $result
        }
    };
    (@ $self:ident, $result:expr, $($name:ident($kind:ty)),*) => {
        $(fn $name<E: Error>($self, _: $kind) -> Result<(), E> {
            $result
        })*
    };
}

/// Keys that are no words, all by their text.
macro_rules! keys_by_text {
    () => {
        keys_by_text!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            self.visit_str("null")
        }
    };
    ($($name:ident($kind:ty)),*) => {
        $(fn $name<E: Error>(self, key: $kind) -> Result<Self::Value, E> {
            self.visit_str(&key.to_string())
        })*
    };
}

/// Follows a path and fails at its end.
struct Walk<'a> {
    path: &'a [Step],
    part: Part,
}

/// Fails whatever the value is.
fn arrived<T, E: Error>() -> Result<T, E> {
    Err(E::custom("here"))
}

impl Walk<'_> {
    /// At a value that leads no further: in error if the path ends here too.
    fn end<E: Error>(self) -> Result<(), E> {
        if self.path.is_empty() {
            arrived()
        } else {
            Ok(())
        }
    }
}

reads_anything!(Walk<'_> => ());

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    plain_values!(self => self.end());

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.path.split_first() else {
            return arrived();
        };
        let probe = KeyProbe {
            wanted: step,
            stop: rest.is_empty() && self.part == Part::Key,
        };
        while let Some(found) = map.next_key_seed(probe)? {
            if found {
                map.next_value_seed(Walk {
                    path: rest,
                    part: self.part,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.path.split_first() else {
            return arrived();
        };
        let mut at = 0;
        loop {
            let next = if *step == Step::Index(at) {
                list.next_element_seed(Walk {
                    path: rest,
                    part: self.part,
                })?
            } else {
                list.next_element::<IgnoredAny>()?.map(drop)
            };
            if next.is_none() {
                return Ok(());
            }
            at += 1;
        }
    }
}

/// Compares a key with the wanted one; fails there if the walk is to stop.
#[derive(Clone, Copy)]
struct KeyProbe<'a> {
    wanted: &'a Step,
    stop: bool,
}

reads_anything!(KeyProbe<'_> => bool);

impl<'de> Visitor<'de> for KeyProbe<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    keys_by_text!();

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let found = matches!(self.wanted, Step::Key(wanted) if wanted == key);
        if found && self.stop {
            arrived()
        } else {
            Ok(found)
        }
    }
}

/// Reads anything without tags and without a key twice.
struct Shape;

reads_anything!(Shape => ());

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without a !tag")
    }

    plain_values!(self => Ok(()));

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey { seen: &mut seen })?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Self)?.is_some() {}
        Ok(())
    }
}

/// Reads a key that must not have been seen.
struct NewKey<'a> {
    seen: &'a mut HashSet<String>,
}

reads_anything!(NewKey<'_> => ());

impl<'de> Visitor<'de> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a word")
    }

    keys_by_text!();

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.seen.insert(key.to_owned()) {
            Ok(())
        } else {
            Err(E::custom(format_args!(
                "the key {key:?} is given twice; remove one"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Step> {
        text.split_terminator('.')
            .map(|step| match step.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(step.to_owned()),
            })
            .collect()
    }

    #[test]
    fn finds_keys_and_values_in_every_style() {
        let text = "a: 1\nb:\n  c: [x, {d: 2}]\n  e:\n  - &f {g: 3}\n  - *f\nh:\n";
        for (at, part, line, column) in [
            ("", Part::Value, 1, 1),
            ("a", Part::Key, 1, 1),
            ("a", Part::Value, 1, 4),
            ("b", Part::Value, 3, 3),
            ("b.c.0", Part::Value, 3, 7),
            ("b.c.1.d", Part::Key, 3, 11),
            ("b.c.1.d", Part::Value, 3, 14),
            ("b.e.0.g", Part::Value, 5, 12),
            ("b.e.1.g", Part::Value, 5, 12),
            // What is missing is looked for around it.
            ("b.nothing", Part::Value, 2, 1),
            ("nothing.at.all", Part::Key, 1, 1),
        ] {
            let found = locate(text, &path(at), part);
            assert_eq!(found, Some(Position { line, column }), "{at} {part:?}");
        }
    }

    #[test]
    fn places_the_second_of_two_equal_keys() {
        let error = check_shape("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n").expect_err("twice");
        assert_eq!(position_of(&error), Some(Position { line: 5, column: 3 }));
        assert!(check_shape("a: {c: 1}\nb: {c: 1}\n").is_ok());
    }
}
