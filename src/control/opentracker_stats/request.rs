//! What a request to the path of the statistics asks for: `mode` and `format`,
//! as opentracker reads them (exact words; the last of several counts; unknown
//! keys are skipped).

use crate::protocol::http::{percent, query};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `peer`: peers, seeders, torrents. The default.
    Peers,
    /// `torr`: torrents.
    Torrents,
    /// `conn`: connections of both transports.
    Connections,
    /// `tcp4`: connections over TCP.
    Tcp,
    /// `udp4`: datagrams.
    Udp,
    /// `scrp`: scrapes.
    Scrapes,
    /// `completed`: downloads.
    Completed,
    /// `syncs`: what came from other instances.
    Syncs,
    /// `fscr`: full scrapes.
    FullScrapes,
    /// `herr`: HTTP errors.
    HttpErrors,
    /// `renew`: when peers announce again.
    Renewals,
    /// `top10` and `top100`: the torrents with most peers.
    Top(usize),
    /// `s24s`: the networks with most peers.
    Networks,
    /// `version`.
    Version,
    /// `everything`, in XML.
    Everything,
    /// `tpbs` and `statedump`: every torrent.
    Dump(Format),
}

/// How every torrent is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ben`, and a full scrape: as a scrape's reply (BEP 48).
    Bencode,
    /// `bin`: hash, seeders and leechers, 28 bytes.
    Binary,
    /// `txt`: hash, seeders and leechers in a line.
    Text,
    /// `txtp`: the same with downloads.
    TextWithDownloads,
    /// `url`: as `txt`, with the hash as URLs write it.
    Url,
    /// `statedump`: hash, minute of the last announce, downloads.
    State,
}

/// The request makes no sense; opentracker answers 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Reads a query.
///
/// # Errors
/// A mode or format that does not exist, or a broken escape.
pub fn parse(raw: &[u8]) -> Result<Mode, Invalid> {
    let (mut mode, mut format) = (Some(Mode::Peers), Format::Bencode);
    for (key, value) in query::pairs(raw) {
        match decode(key)?.as_slice() {
            b"mode" => mode = mode_of(&decode(value)?)?,
            b"format" => format = format_of(&decode(value)?)?,
            _ => {}
        }
    }
    Ok(mode.unwrap_or(Mode::Dump(format)))
}

/// The mode of a word; `None` for the one that has formats.
fn mode_of(word: &[u8]) -> Result<Option<Mode>, Invalid> {
    Ok(Some(match word {
        b"peer" => Mode::Peers,
        b"torr" => Mode::Torrents,
        b"conn" => Mode::Connections,
        b"tcp4" => Mode::Tcp,
        b"udp4" => Mode::Udp,
        b"scrp" => Mode::Scrapes,
        b"completed" => Mode::Completed,
        b"syncs" => Mode::Syncs,
        b"fscr" => Mode::FullScrapes,
        b"herr" => Mode::HttpErrors,
        b"renew" => Mode::Renewals,
        b"top10" => Mode::Top(10),
        b"top100" => Mode::Top(100),
        b"s24s" => Mode::Networks,
        b"version" => Mode::Version,
        b"everything" => Mode::Everything,
        b"statedump" => Mode::Dump(Format::State),
        b"tpbs" => return Ok(None),
        _ => return Err(Invalid),
    }))
}

fn format_of(word: &[u8]) -> Result<Format, Invalid> {
    Ok(match word {
        b"ben" => Format::Bencode,
        b"bin" => Format::Binary,
        b"txt" => Format::Text,
        b"txtp" => Format::TextWithDownloads,
        b"url" => Format::Url,
        _ => return Err(Invalid),
    })
}

fn decode(raw: &[u8]) -> Result<Vec<u8>, Invalid> {
    percent::decode(raw)
        .collect::<Result<_, _>>()
        .map_err(|_| Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_opentracker_reads() {
        for (query, expected) in [
            ("", Ok(Mode::Peers)),
            ("mode=peer", Ok(Mode::Peers)),
            ("x=y&mode=to%70100", Ok(Mode::Top(100))),
            ("mode=conn&mode=s24s", Ok(Mode::Networks)),
            ("mode=tpbs", Ok(Mode::Dump(Format::Bencode))),
            (
                "format=txtp&mode=tpbs",
                Ok(Mode::Dump(Format::TextWithDownloads)),
            ),
            ("mode=statedump&format=txt", Ok(Mode::Dump(Format::State))),
            ("mode=peer&format=txt", Ok(Mode::Peers)),
            ("mode=peer&format=xml", Err(Invalid)),
            ("mode=", Err(Invalid)),
            ("mode=Peer", Err(Invalid)),
            ("mode=busy", Err(Invalid)),
            ("mode=%zz", Err(Invalid)),
        ] {
            assert_eq!(parse(query.as_bytes()), expected, "{query}");
        }
    }
}
