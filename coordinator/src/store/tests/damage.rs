//! A disk that returns something else than was written: every file of each engine, cut and changed
//! in many places. What opens must hold everything that was synced; anything else must be refused,
//! again and again, and never be healed by forgetting.

use std::path::{Path, PathBuf};

use super::*;

on_both!(
    whatever_is_cut_or_changed_is_refused_or_harmless,
    a_log_that_forgot_its_newest_syncs_is_refused,
    a_missing_log_is_refused,
);

const ENTRIES: u64 = 60;

/// Fills a state folder, over several syncs, and closes it in order or not.
fn filled(engine: Engine, in_order: bool) -> TempDir {
    let folder = folder();
    let store = opened(&folder, engine);
    for index in 0..ENTRIES {
        // Every tenth is long enough for several pieces.
        let bytes = if index % 10 == 0 { 40_000 } else { 300 };
        store.append(&[entry(index, bytes)]).expect("appended");
        store.put(Slot::Vote, &index.to_be_bytes()).expect("put");
        if index % 4 == 3 {
            store.sync().expect("synced");
        }
    }
    if in_order {
        store.close().expect("closed");
        return folder;
    }
    // As a kill leaves it: what the kernel has, copied while the store is open.
    let copied = self::folder();
    copy(folder.path(), copied.path());
    store.close().expect("closed");
    copied
}

fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(&path, target).expect("copied");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Opens a damaged folder: refused, or with everything in it. Says whether it was refused.
fn refused_or_whole(folder: &Path, engine: Engine, what: &str) -> bool {
    let store = match open(folder, engine) {
        Ok(store) => store,
        Err(error) => {
            let again = open(folder, engine).err().unwrap_or_else(|| {
                panic!("{what}: refused first ({error}), and opened when asked again")
            });
            assert!(!matches!(again, StoreError::InUse { .. }), "{what}: the lock was kept");
            return true;
        }
    };
    let whole = store.read_range(0, u64::MAX, usize::MAX).and_then(|records| {
        let bounds = store.bounds()?;
        Ok((records, bounds, store.get(Slot::Vote)?))
    });
    let closed = store.close();
    let Ok((records, bounds, vote)) = whole else { return true };
    assert_eq!(bounds, Some((0, ENTRIES - 1)), "{what}: opened with less");
    for (index, record) in records {
        let bytes = if index % 10 == 0 { 40_000 } else { 300 };
        assert_eq!((index, record), entry(index, bytes), "{what}: opened with another entry");
    }
    assert_eq!(vote, Some(Bytes::copy_from_slice(&(ENTRIES - 1).to_be_bytes())), "{what}: vote");
    if let Err(error) = closed {
        panic!("{what}: read whole and not closed: {error}");
    }
    false
}

/// How often damage was refused, and how often it hit nothing that counts.
struct Tally {
    engine: Engine,
    refused: usize,
    harmless: usize,
}

impl Tally {
    /// Puts `content` in the place of the file `name` of a good folder, and opens that.
    fn try_with(&mut self, good: &Path, (name, content): (&Path, &[u8]), what: &str) {
        let damaged = folder();
        copy(good, damaged.path());
        fs::write(damaged.path().join(name), content).expect("written");
        let what = format!("{} {what}", name.display());
        let refused = refused_or_whole(damaged.path(), self.engine, &what);
        *(if refused { &mut self.refused } else { &mut self.harmless }) += 1;
    }
}

fn whatever_is_cut_or_changed_is_refused_or_harmless(engine: Engine) {
    let mut tally = Tally { engine, refused: 0, harmless: 0 };
    for in_order in [true, false] {
        let good = filled(engine, in_order);
        assert!(!refused_or_whole(good.path(), engine, "untouched"), "it was not damaged");
        let good = filled(engine, in_order);
        for file in files_below(&good.path().join("log")) {
            let content = fs::read(&file).expect("read");
            let name = file.strip_prefix(good.path()).expect("below");
            // Where something is: changing what was never written is no damage.
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let places = 24_usize.min(used);
            for step in 0..places {
                let at = used * step / places;
                let mut changed = content.clone();
                changed[at] ^= 1 << (step % 8);
                let what = format!("byte {at} of {used} changed");
                tally.try_with(good.path(), (name, &changed), &what);
                if step % 4 == 0 {
                    let what = format!("cut to {at} of {used}");
                    tally.try_with(good.path(), (name, &content[..at]), &what);
                }
            }
        }
    }
    let Tally { refused, harmless, .. } = tally;
    eprintln!("{engine}: {refused} refused, {harmless} harmless");
    assert!(refused > harmless, "most of what there is counts");
}

fn a_log_that_forgot_its_newest_syncs_is_refused(engine: Engine) {
    let folder = folder();
    let store = opened(&folder, engine);
    store.append(&[entry(0, 300)]).expect("appended");
    store.sync().expect("synced");
    store.close().expect("closed");
    let old = self::folder();
    copy(folder.path(), old.path());
    let store = opened(&folder, engine);
    store.put(Slot::Vote, b"a vote that must not be forgotten").expect("put");
    store.sync().expect("synced");
    store.close().expect("closed");

    // The older log beside the newer seal: a disk that forgot, or a copy put back by hand.
    let seal = fs::read(folder.path().join("log-seal")).expect("read");
    fs::write(old.path().join("log-seal"), &seal).expect("written");
    for _ in 0..2 {
        let error = open(old.path(), engine).err().expect("refused");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("log-seal says that sync"), "{error}");
    }
    // A torn or lost seal accuses nobody.
    for torn in [&seal[..20], &[], &[0; 1024]] {
        fs::write(folder.path().join("log-seal"), torn).expect("written");
        let store = opened(&folder, engine);
        assert!(store.get(Slot::Vote).expect("read").is_some());
        store.sync().expect("it is sealed again");
        store.close().expect("closed");
    }
    let mut half = fs::read(folder.path().join("log-seal")).expect("read");
    half[..32].fill(7);
    fs::write(folder.path().join("log-seal"), &half).expect("written");
    opened(&folder, engine).close().expect("one torn record leaves the other");
}

fn a_missing_log_is_refused(engine: Engine) {
    for empty in [true, false] {
        let folder = filled(engine, true);
        let file = folder.path().join("log").join(engine.data_file());
        if empty { fs::write(&file, b"") } else { fs::remove_file(&file) }.expect("done");
        let before = files_below(folder.path());
        let error = open(folder.path(), engine).err().expect("refused").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(error.contains("missing or empty"), "{error}");
        assert_eq!(files_below(folder.path()), before, "nothing was made in its place");
    }
}
