//! Tests of the hook `jwt`: tokens good and bad, keys, the cache.

use super::super::testing::{announce, judge_at, problems, read, start};
use super::super::{Context, Transport, Url};
use super::*;
use crate::bittorrent::{Announce, InfoHash};
use crate::protocol::udp::UrlData;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use std::io::{Read, Write};
use std::net::TcpListener;

const NOW: u64 = 1_000_000_000;

/// Base64 without padding, for URLs (RFC 4648, section 5).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| {
            word << 8 | u32::from(chunk.get(at).map_or(0, |b| *b))
        });
        for at in 0..=chunk.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// Someone who signs tokens.
struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            ed: Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a key"),
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).expect("a key"),
        }
    }

    fn key_set(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        format!(
            r#"{{"keys": [
                {{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "{}"}},
                {{"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": "{}", "y": "{}"}},
                {{"kty": "oct", "kid": "secret", "k": "AAAA"}}
            ]}}"#,
            base64(self.ed.public_key().as_ref()),
            base64(x),
            base64(y),
        )
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            base64(header.as_bytes()),
            base64(claims.as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match header.contains("ES256") {
            true => self
                .ec
                .sign(&random, message.as_bytes())
                .expect("signed")
                .as_ref()
                .to_vec(),
            false => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(&signature))
    }

    fn good(&self) -> String {
        self.sign(ED, &claims(""))
    }
}

const ED: &str = r#"{"alg": "EdDSA", "kid": "ed"}"#;
const EC: &str = r#"{"alg": "ES256", "kid": "ec"}"#;

/// Claims for the torrent of [`announce`]; `more` begins with a comma.
fn claims(more: &str) -> String {
    let hash = announce().info_hash;
    format!(r#"{{"iss": "site", "aud": ["tracker", "x"], "infohash": "{hash}"{more}}}"#)
}

struct Bench {
    signer: Signer,
    hook: Jwt,
    path: PathBuf,
    services: Services,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(more: &str) -> Self {
        let signer = Signer::new();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        std::fs::write(&path, signer.key_set()).expect("written");
        let shown = path.display();
        let options = format!("{{issuer: site, audience: tracker, jwk_set_file: '{shown}'{more}}}");
        let mut hook: Jwt = read(&options);
        let services = start(&mut hook).expect("starts");
        hook.enter(&ShardSetup {
            id: 0,
            shards: 1,
            seed: 77,
        });
        Self {
            signer,
            hook,
            path,
            services,
            _directory: directory,
        }
    }

    fn ask(&mut self, announce: &mut Announce, now: u64, token: &str) -> Verdict {
        let context = Context::bare(Transport::Http, announce.ip);
        let now = Moment {
            milliseconds: 0,
            unix_seconds: now,
        };
        let query = format!("info_hash=x&jwt={token}");
        judge_at(&mut self.hook, announce, now, &context, query.as_bytes()).0
    }

    fn verdict(&mut self, token: &str) -> Verdict {
        self.ask(&mut announce(), NOW, token)
    }
}

#[test]
fn good_tokens_of_each_algorithm_pass_again_and_again() {
    let mut bench = Bench::new("");
    for header in [ED, EC, r#"{"alg": "EdDSA"}"#] {
        let token = bench.signer.sign(header, &claims(""));
        for _ in 0..3 {
            assert_eq!(bench.verdict(&token), Verdict::Continue, "{header}");
        }
        let mut other = announce();
        other.info_hash = InfoHash([8; 20]);
        assert_eq!(
            bench.ask(&mut other, NOW, &token),
            INVALID,
            "another torrent"
        );
    }
}

/// RS256 with the key and the signature of RFC 7515, appendix A.2.
#[test]
fn rs256_is_checked() {
    let set = br#"{"keys": [{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    keys::install_verifiers();
    let keys = KeySet::parse(set).expect("a key set");
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let claims: Option<Claims> = keys.verify(format!("{message}.{signature}").as_bytes());
    assert_eq!(claims.and_then(|claims| claims.iss).as_deref(), Some("joe"));
    let other = signature.replacen("cC4h", "cC4i", 1);
    let claims: Option<Claims> = keys.verify(format!("{message}.{other}").as_bytes());
    assert!(claims.is_none());
}

#[test]
fn what_is_not_a_good_token_is_refused() {
    let mut bench = Bench::new("");
    let good = bench.signer.good();
    let (message, _) = good.rsplit_once('.').expect("three parts");
    let stranger = Signer {
        ed: Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a key"),
        ..Signer::new()
    };
    let signer = &bench.signer;
    let bad = [
        "x".to_owned(),
        "a.b.c".to_owned(),
        format!("{message}."),
        format!("{message}.AAAA"),
        format!("{good}A"),
        "%41%".to_owned(),
        "A".repeat(LONGEST_TOKEN + 1),
        stranger.good(),
        signer.sign(r#"{"alg": "EdDSA", "kid": "nobody"}"#, &claims("")),
        signer.sign(r#"{"alg": "HS256", "kid": "secret"}"#, &claims("")),
        signer.sign(r#"{"alg": "none", "kid": "ed"}"#, &claims("")),
        signer.sign(r#"{"alg": "ES256", "kid": "ed"}"#, &claims("")),
        signer.sign(ED, r#"{"iss": "site", "aud": "tracker"}"#),
        signer.sign(ED, &claims("").replace("site", "other")),
        signer.sign(ED, &claims("").replace("tracker", "other")),
        signer.sign(ED, "[]"),
    ];
    for token in bad {
        assert_eq!(bench.verdict(&token), INVALID, "{token}");
    }
    for token in ["", "&x=1"] {
        assert_eq!(bench.verdict(token), MISSING, "{token:?}");
    }
}

#[test]
fn tokens_have_their_time() {
    let mut bench = Bench::new(", leeway: 10s, require_exp: true");
    let mut at = announce();
    let until = bench.signer.sign(
        ED,
        &claims(&format!(r#", "exp": {NOW}, "nbf": {}"#, NOW - 100)),
    );
    for (now, expected) in [
        (NOW - 111, INVALID),
        (NOW - 110, Verdict::Continue),
        (NOW + 9, Verdict::Continue),
        (NOW + 10, INVALID),
    ] {
        assert_eq!(bench.ask(&mut at, now, &until), expected, "{now}");
    }
    let forever = bench.signer.good();
    assert_eq!(bench.verdict(&forever), INVALID, "exp is required");
}

#[test]
fn tokens_come_in_headers_and_over_udp_too() {
    let mut bench = Bench::new("");
    let token = bench.signer.good();
    for (header, expected) in [
        (format!("Bearer {token}"), Verdict::Continue),
        (format!("bearer   {token} "), Verdict::Continue),
        (format!("Basic {token}"), MISSING),
        ("Bearer ".to_owned(), MISSING),
    ] {
        let mut announce = announce();
        let context = Context {
            authorization: Some(header.as_bytes()),
            ..Context::bare(Transport::Http, announce.ip)
        };
        let hook = &mut bench.hook;
        let (verdict, _) = judge_at(hook, &mut announce, Moment::default(), &context, b"");
        assert_eq!(verdict, expected, "{header}");
    }
    // URL data in parts of at most 255 bytes.
    let target = format!("/announce?jwt={token}");
    let mut options = Vec::new();
    for part in target.as_bytes().chunks(100) {
        options.extend([2, part.len() as u8]);
        options.extend(part);
    }
    let mut announce = announce();
    let context = Context {
        url: Url::Data(UrlData::new(&options)),
        ..Context::bare(Transport::Udp, announce.ip)
    };
    let hooks = vec![super::super::AnyHook::Jwt(bench.hook)];
    let mut chain = super::super::Chain::new(hooks, Vec::new());
    let result = chain.before_announce(Moment::default(), &mut announce, &context);
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_key_that_is_gone_approves_nothing_and_a_bad_set_changes_nothing() {
    let mut bench = Bench::new("");
    let token = bench.signer.good();
    assert_eq!(bench.verdict(&token), Verdict::Continue);
    for bad in ["{", r#"{"keys": []}"#] {
        std::fs::write(&bench.path, bad).expect("written");
        bench.services.sources[0].refresh(false);
        bench.hook.tick(Moment::default());
        assert_eq!(bench.verdict(&token), Verdict::Continue, "{bad}");
    }
    let set = bench.signer.key_set().replace("\"ed\"", "\"gone\"");
    std::fs::write(&bench.path, set).expect("written");
    bench.services.sources[0].refresh(false);
    bench.hook.tick(Moment::default());
    assert_eq!(bench.verdict(&token), INVALID);
}

/// Answers one request for the key set.
fn serve(site: &TcpListener, set: &str) {
    let (mut client, _) = site.accept().expect("a request");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        request.push(byte[0]);
    }
    let length = set.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{set}"
    )
    .expect("room");
}

/// Sets are fetched more often than clients announce.
#[test]
fn a_set_that_is_fetched_again_unchanged_leaves_known_tokens_known() {
    let site = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/", site.local_addr().expect("an address"));
    let signer = Signer::new();
    let (set, token) = (signer.key_set(), signer.good());
    let mut hook: Jwt = read(&format!("{{jwk_set_url: '{url}'}}"));
    let mut services = start(&mut hook).expect("starts");
    hook.enter(&ShardSetup {
        id: 0,
        shards: 1,
        seed: 77,
    });
    let task = services.tasks.remove(0);
    let (again, asked) = crossbeam_channel::bounded(0);
    let fetcher = std::thread::spawn(move || (task.run)(&asked));
    serve(&site, &set);
    // Fetching is done when it can be asked for again.
    again.send(()).expect("it runs");
    hook.tick(Moment::default());
    let name = hook.cache.name(token.as_bytes());
    let query = format!("jwt={token}");
    let mut announce = announce();
    let context = Context::bare(Transport::Http, announce.ip);
    let now = Moment {
        milliseconds: 0,
        unix_seconds: NOW,
    };
    let (verdict, _) = judge_at(&mut hook, &mut announce, now, &context, query.as_bytes());
    assert_eq!(verdict, Verdict::Continue);
    assert!(hook.cache.find(name, NOW).is_some());
    serve(&site, &set);
    again.send(()).expect("it runs");
    hook.tick(Moment::default());
    assert!(hook.cache.find(name, NOW).is_some(), "it is still known");
    serve(&site, &set.replace("\"ed\"", "\"gone\""));
    again.send(()).expect("it runs");
    hook.tick(Moment::default());
    assert!(hook.cache.find(name, NOW).is_none(), "its key is gone");
    drop(again);
    serve(&site, &set);
    fetcher.join().expect("it ends");
}

#[test]
fn a_hook_that_a_reload_starts_anew_has_the_last_keys_of_its_url() {
    let site = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/", site.local_addr().expect("an address"));
    let signer = Signer::new();
    let query = format!("jwt={}", signer.good());
    let ask = |hook: &mut Jwt| {
        let mut announce = announce();
        let context = Context::bare(Transport::Http, announce.ip);
        let now = Moment {
            milliseconds: 0,
            unix_seconds: NOW,
        };
        judge_at(hook, &mut announce, now, &context, query.as_bytes()).0
    };
    let begin = || {
        let mut hook: Jwt = read(&format!("{{jwk_set_url: '{url}'}}"));
        let services = start(&mut hook).expect("starts");
        (hook, services)
    };
    let (mut first, mut services) = begin();
    assert_eq!(ask(&mut first), INVALID, "it has no keys yet");
    let (closed, asked) = crossbeam_channel::bounded(0);
    drop(closed);
    let task = services.tasks.remove(0);
    let fetcher = std::thread::spawn(move || (task.run)(&asked));
    serve(&site, &signer.key_set());
    fetcher.join().expect("it ends");
    let (mut second, _services) = begin();
    assert_eq!(ask(&mut second), Verdict::Continue);
}

#[test]
fn mistakes_are_named() {
    for (options, expected) in [
        ("{}", "wants a jwk_set_url or a jwk_set_file"),
        (
            "{jwk_set_url: 'http://x/', jwk_set_file: y}",
            "cannot be given with",
        ),
        (
            "jwk_set_url: 'ftp://x/'",
            "jwk_set_url: \"ftp://x/\" is not",
        ),
        (
            "{jwk_set_file: y, jwk_set_update_interval: 0s}",
            "out of range",
        ),
        ("{jwk_set_file: y, audince: x}", "did you mean \"audience\""),
    ] {
        let found = problems::<Jwt>(options);
        assert!(found.contains(expected), "{options}: {found}");
    }
    let mut hook: Jwt = read("jwk_set_file: /nonexistent/keys");
    let error = start(&mut hook).err().expect("no such file");
    assert!(
        error.contains("/nonexistent/keys: cannot be read"),
        "{error}"
    );
}
