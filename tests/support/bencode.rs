//! Bencoded values as trees, to compare and to look into.

use karuta::protocol::bencode;
use std::collections::BTreeMap;

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Number(i64),
    List(Vec<Self>),
    Dictionary(BTreeMap<Vec<u8>, Self>),
}

impl Value {
    /// Reads a text whose dictionaries must be sorted.
    pub fn read(input: &[u8]) -> Self {
        let mut events = bencode::Reader::new(input, bencode::Limits::default())
            .map(|event| event.unwrap_or_else(|error| panic!("{error}: {input:?}")));
        let first = events.next().expect("a value");
        let value = Self::build(first, &mut events);
        assert!(events.next().is_none());
        value
    }

    fn build<'a>(
        event: bencode::Event<'a>,
        rest: &mut impl Iterator<Item = bencode::Event<'a>>,
    ) -> Self {
        match event {
            bencode::Event::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            bencode::Event::Integer(number) => Self::Number(number),
            bencode::Event::List => {
                let mut list = Vec::new();
                loop {
                    match rest.next().expect("an end") {
                        bencode::Event::End => return Self::List(list),
                        event => list.push(Self::build(event, rest)),
                    }
                }
            }
            bencode::Event::Dictionary => {
                let mut dictionary = BTreeMap::new();
                while let bencode::Event::Key(key) = rest.next().expect("an end") {
                    let event = rest.next().expect("a value");
                    dictionary.insert(key.to_vec(), Self::build(event, rest));
                }
                Self::Dictionary(dictionary)
            }
            bencode::Event::End | bencode::Event::Key(_) => panic!("no value"),
        }
    }

    pub fn dictionary(&self) -> BTreeMap<Vec<u8>, Self> {
        match self {
            Self::Dictionary(dictionary) => dictionary.clone(),
            other => panic!("not a dictionary: {other:?}"),
        }
    }

    pub fn list(&self) -> Vec<Self> {
        match self {
            Self::List(list) => list.clone(),
            other => panic!("not a list: {other:?}"),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            other => panic!("not bytes: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }
}
