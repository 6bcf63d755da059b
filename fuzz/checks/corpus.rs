//! The inputs that fuzzing starts from, for a test that runs all of them through what is fuzzed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

/// Runs the check of a target on every input: the seeds, and those in the archive of what was found. `scratch` is a folder
/// for what is in the archive.
pub fn replay(target: &str, scratch: &str, check: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    assert!(replay_folder(&corpus.join(target), &check) > 0);
    let archive = corpus.join(format!("{target}.tar.gz"));
    if archive.exists() {
        let folder = Path::new(scratch).join(target);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a writable folder");
        let unpacked = Command::new("tar")
            .arg("-xzf")
            .args([&archive, Path::new("-C"), &folder])
            .status();
        assert!(unpacked.expect("tar").success());
        assert!(replay_folder(&folder, &check) > 0);
    }
}

fn replay_folder(folder: &Path, check: &impl Fn(&[u8])) -> usize {
    let files = std::fs::read_dir(folder).expect("a corpus");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let input = std::fs::read(&path).expect("a file");
            if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
                panic!("the input is {}", path.display());
            }
        })
        .count()
}
