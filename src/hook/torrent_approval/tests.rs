//! Lists inline, in files, in directories, and changed through FIFOs.

use super::super::testing::{announce, judge, problems, read, scrape, start};
use super::*;
use std::fs;
use std::io::Write;

const ONE: &str = "0101010101010101010101010101010101010101";
const TWO: &str = "0202020202020202020202020202020202020202";

fn approves(hook: &mut TorrentApproval, hash: &str) -> bool {
    let mut announce = announce();
    announce.info_hash = hash.parse().expect("a hash");
    judge(hook, &mut announce) == Verdict::Continue
}

#[test]
fn inline_lists_decide() {
    let mut hook: TorrentApproval = read(&format!("whitelist: ['{ONE}']"));
    start(&mut hook).expect("starts");
    assert!(approves(&mut hook, ONE));
    assert!(!approves(&mut hook, TWO));
    let mut hook: TorrentApproval = read(&format!("blacklist: ['{ONE}']"));
    start(&mut hook).expect("starts");
    assert!(!approves(&mut hook, ONE));
    assert!(approves(&mut hook, TWO));
    let mut announce = announce();
    announce.info_hash = ONE.parse().expect("a hash");
    assert_eq!(
        judge(&mut hook, &mut announce),
        Verdict::fail("unapproved torrent")
    );
}

#[test]
fn scrapes_are_free_unless_asked_for() {
    let hash: InfoHash = ONE.parse().expect("a hash");
    for (option, expected) in [("", Verdict::Continue), ("scrapes: true", UNAPPROVED)] {
        let mut hook: TorrentApproval = read(&format!("blacklist: ['{ONE}']\n{option}"));
        start(&mut hook).expect("starts");
        assert_eq!(scrape(&mut hook, &[InfoHash([5; 20]), hash]), expected);
        assert_eq!(scrape(&mut hook, &[InfoHash([5; 20])]), Verdict::Continue);
    }
}

#[test]
fn a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("list");
    fs::write(&path, format!("# a remark\r\n\n  {ONE} a name\n")).expect("written");
    let mut hook: TorrentApproval = read(&format!("whitelist_file: '{}'", path.display()));
    let mut sources = start(&mut hook).expect("starts").sources;
    assert_eq!(sources[0].directories(), [directory.path()]);
    assert!(approves(&mut hook, ONE));

    fs::write(&path, format!("{ONE}\n{TWO}")).expect("written");
    sources[0].refresh(false);
    assert!(!approves(&mut hook, TWO), "not before the tick");
    hook.tick(Moment::default());
    assert!(approves(&mut hook, ONE) && approves(&mut hook, TWO));

    fs::write(&path, format!("{ONE}\n{TWO}0\n")).expect("written");
    let mut again = ListSource::new(hook.options.clone(), 1);
    let error = again.load(true).expect_err("a bad line");
    assert!(error.contains("list:2: "), "{error}");
    for _ in 0..2 {
        sources[0].refresh(true);
        hook.tick(Moment::default());
        assert!(approves(&mut hook, TWO), "the old list stays");
    }

    fs::remove_file(&path).expect("removed");
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, TWO), "the old list stays");
}

#[test]
fn lines_begin_with_a_hash_of_either_version() {
    let v2 = format!("{ONE}{}", "ab".repeat(12));
    assert_eq!(info_hash(&v2), Ok(InfoHash([1; 20])));
    assert_eq!(info_hash(&format!("{TWO}\tname")), Ok(InfoHash([2; 20])));
    for bad in ["", "xyz", &v2[..63], &ONE[..39], &format!("{ONE},name")] {
        assert!(info_hash(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_directory_of_torrents_is_a_list() {
    let directory = tempfile::tempdir().expect("a directory");
    let torrent = |name: &str| format!("d4:infod4:name1:{name}6:pieces0:ee");
    let hash = |name: &str| {
        super::super::torrent_file::sha1(format!("d4:name1:{name}6:pieces0:e").as_bytes())
    };
    fs::write(directory.path().join("a.torrent"), torrent("a")).expect("written");
    fs::write(directory.path().join("b.txt"), torrent("b")).expect("written");
    let path = directory.path().display();
    let mut hook: TorrentApproval = read(&format!("whitelist_directory: '{path}'"));
    let mut sources = start(&mut hook).expect("starts").sources;
    assert!(approves(&mut hook, &hash("a").to_string()));
    assert!(!approves(&mut hook, &hash("b").to_string()));
    fs::rename(
        directory.path().join("b.txt"),
        directory.path().join("b.torrent"),
    )
    .expect("renamed");
    fs::write(directory.path().join("bad.torrent"), "d4:info").expect("written");
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, &hash("b").to_string()));
    // A file that goes bad stays what it was; one that goes is gone.
    fs::write(directory.path().join("b.torrent"), "oops").expect("written");
    fs::remove_file(directory.path().join("a.torrent")).expect("removed");
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, &hash("b").to_string()));
    assert!(!approves(&mut hook, &hash("a").to_string()));
}

#[test]
fn what_changed_while_another_directory_was_away_counts_once_it_is_back() {
    let home = tempfile::tempdir().expect("a directory");
    let path = |name: &str| home.path().join(name);
    fs::create_dir(path("one")).expect("a directory");
    fs::create_dir(path("two")).expect("a directory");
    let (one, two) = (path("one"), path("two"));
    let options = format!(
        "whitelist_directory: ['{}', '{}']",
        one.display(),
        two.display()
    );
    let mut hook: TorrentApproval = read(&options);
    let mut sources = start(&mut hook).expect("starts").sources;
    fs::rename(&two, path("away")).expect("renamed");
    let info = "d4:name1:a6:pieces0:e";
    fs::write(one.join("a.torrent"), format!("d4:info{info}e")).expect("written");
    let hash = super::super::torrent_file::sha1(info.as_bytes()).to_string();
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(!approves(&mut hook, &hash), "the old list stays");
    fs::rename(path("away"), &two).expect("renamed");
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, &hash));
}

#[test]
fn mistakes_are_named() {
    for (options, expected) in [
        ("{}", "wants a list"),
        (
            "{whitelist_file: /a, blacklist: []}",
            "blacklist: cannot be given with a whitelist_file",
        ),
        ("whitelist: [abc]", "whitelist[0]: \"abc\": an info hash is"),
        ("whitelist_file: ''", "whitelist_file: is empty"),
        (
            "{whitelist: [], fifo_add: /a, fifo_delete: /a}",
            "fifo_delete: is fifo_add",
        ),
        ("{whitelist: [], fifo_add: ''}", "fifo_add: is empty"),
        (
            "{whitelist: [], format: lax}",
            "\"lax\" is not one of: karuta, opentracker",
        ),
        ("{blacklist: [], scrape: true}", "did you mean \"scrapes\""),
    ] {
        let found = problems::<TorrentApproval>(options);
        assert!(found.contains(expected), "{options}: {found}");
    }
    let mut hook: TorrentApproval = read("whitelist_file: /nonexistent/list");
    let error = start(&mut hook).err().expect("no such file");
    assert!(
        error.starts_with("/nonexistent/list: cannot be read"),
        "{error}"
    );
}

/// The list of a hook whose files are read as opentracker reads them.
fn lenient(directory: &Path, options: &str) -> (TorrentApproval, Vec<Box<dyn Source>>) {
    let list = directory.join("list").display().to_string();
    let options = format!("whitelist_file: '{list}'\nformat: opentracker\n{options}");
    let mut hook: TorrentApproval = read(&options);
    let services = start(&mut hook).expect("starts");
    (hook, services.sources)
}

#[test]
fn opentrackers_lists_are_read_as_it_reads_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("list");
    // Not there: empty, and read once it is.
    let (mut hook, mut sources) = lenient(directory.path(), "");
    assert!(!approves(&mut hook, ONE));
    fs::write(&path, format!("rubbish\n{ONE}, a name\r\n\u{ff}\n{TWO}")).expect("written");
    sources[0].refresh(false);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, ONE) && approves(&mut hook, TWO));
    // Gone: stays.
    fs::remove_file(&path).expect("removed");
    sources[0].refresh(true);
    hook.tick(Moment::default());
    assert!(approves(&mut hook, ONE));
}

/// A whitelist of `ONE` with both FIFOs.
struct Fed {
    directory: tempfile::TempDir,
    hook: TorrentApproval,
    sources: Vec<Box<dyn Source>>,
}

impl Fed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("list"), ONE).expect("written");
        let (hook, sources) = Self::start(directory.path());
        Self {
            directory,
            hook,
            sources,
        }
    }

    fn start(directory: &Path) -> (TorrentApproval, Vec<Box<dyn Source>>) {
        let [add, delete] = ["add", "delete"].map(|name| directory.join(name));
        let (add, delete) = (add.display(), delete.display());
        lenient(
            directory,
            &format!("fifo_add: '{add}'\nfifo_delete: '{delete}'"),
        )
    }

    /// Writes into a FIFO as a program of its own would.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let file = File::options().write(true).open(path);
        let mut file = file.expect("a reader is there");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn write_list(&self, text: &str) {
        fs::write(self.directory.path().join("list"), text).expect("written");
    }

    fn receive(&mut self) {
        assert_eq!(self.sources[0].inputs().len(), 2);
        self.sources[0].receive();
        self.hook.tick(Moment::default());
    }

    fn sighup(&mut self) {
        self.sources[0].refresh(true);
        self.hook.tick(Moment::default());
    }

    /// Which of `ONE` and `TWO` are served.
    fn served(&mut self) -> (bool, bool) {
        let [one, two] = [ONE, TWO].map(|hash| approves(&mut self.hook, hash));
        (one, two)
    }
}

#[test]
fn fifos_change_the_running_list_in_any_order() {
    let mut fed = Fed::new();
    assert_eq!(fed.served(), (true, false));
    // Nothing was ever added: opentracker crashes at this.
    fed.write("delete", &format!("{ONE}\n"));
    fed.receive();
    assert_eq!(fed.served(), (false, false));
    // Deleted before it was added.
    fed.write("delete", &format!("{TWO}\n"));
    fed.receive();
    fed.write("add", &format!("{TWO}\n{ONE}"));
    fed.receive();
    assert_eq!(fed.served(), (true, true));
    // Twice, and both in one go.
    fed.write("add", &format!("{TWO}\n"));
    fed.receive();
    fed.write("delete", &format!("{TWO}\n{TWO}\n"));
    fed.receive();
    assert_eq!(fed.served(), (true, false));
    fed.write("add", &format!("# no\nrubbish\n{TWO} a name\n"));
    fed.receive();
    assert_eq!(fed.served(), (true, true));
}

#[test]
fn sighup_goes_back_to_the_file() {
    let mut fed = Fed::new();
    fed.write("add", &format!("{TWO}\n"));
    fed.write("delete", &format!("{ONE}\n"));
    fed.receive();
    assert_eq!(fed.served(), (false, true));
    // A change of the file alone does not undo what came through the FIFOs.
    fed.write_list(&format!("{ONE}\n"));
    fed.sources[0].refresh(false);
    fed.hook.tick(Moment::default());
    assert_eq!(fed.served(), (false, true));
    fed.sighup();
    assert_eq!(fed.served(), (true, false));
    // What lay there unread when it came is part of it.
    fed.write("add", &format!("{TWO}\n"));
    fed.sighup();
    assert_eq!(fed.served(), (true, false));
    fed.write("add", &format!("{TWO}\n"));
    fed.receive();
    assert_eq!(fed.served(), (true, true));
    // A list that cannot be read keeps all that there was.
    fs::remove_file(fed.directory.path().join("list")).expect("removed");
    fed.sighup();
    assert_eq!(fed.served(), (true, true));
}

#[test]
fn a_reload_loses_no_line() {
    let mut fed = Fed::new();
    let (hook, sources) = Fed::start(fed.directory.path());
    assert_eq!(sources[0].inputs().len(), 0, "the old one still reads");
    // Into the file first, as the operator is told to; the old one reads it.
    fed.write_list(&format!("{ONE}\n{TWO}\n"));
    fed.write("add", &format!("{TWO}\n"));
    fed.receive();
    fed.hook = hook;
    fed.sources = sources;
    assert_eq!(fed.served(), (true, false));
    // The old one has gone: what it has read since is in the file.
    fed.sources[0].refresh(false);
    fed.hook.tick(Moment::default());
    assert_eq!(fed.served(), (true, true));
    fed.write("delete", &format!("{ONE}\n"));
    fed.receive();
    assert_eq!(fed.served(), (false, true));
}

#[test]
fn fifos_alone_make_a_list() {
    let directory = tempfile::tempdir().expect("a directory");
    let add = directory.path().join("add");
    let options = format!("blacklist: []\nfifo_add: '{}'", add.display());
    let mut hook: TorrentApproval = read(&options);
    let mut sources = start(&mut hook).expect("starts").sources;
    fs::write(&add, format!("{ONE}\n")).expect("a reader is there");
    sources[0].receive();
    hook.tick(Moment::default());
    assert!(!approves(&mut hook, ONE) && approves(&mut hook, TWO));
}
