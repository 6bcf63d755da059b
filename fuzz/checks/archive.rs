//! The input is a whole archive: every file that is found is inside it, and a manifest is written back the same.

use modelstore_archive::tar::Entries;
use modelstore_archive::{Error, Manifest, layout};
use modelstore_chunk::Memory;

/// An error of the archive, or a read beyond its end.
#[derive(Debug)]
enum Failed {
    Archive(Error),
    Beyond,
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Archive(e)
    }
}

impl From<modelstore_chunk::Error> for Failed {
    fn from(_: modelstore_chunk::Error) -> Failed {
        Failed::Beyond
    }
}

/// Panics where a promise does not hold.
pub fn check(archive: &[u8]) {
    let entries = match Entries::collect::<Failed>(&mut Memory(archive), || Ok(())) {
        Ok(entries) => entries,
        Err(Failed::Archive(e)) => return short(&e),
        Err(Failed::Beyond) => panic!("read beyond the end"),
    };
    for name in entries.names() {
        let (offset, size) = entries.find(name).expect("was found");
        assert!(offset + size <= archive.len() as u64);
        assert!(
            !name.is_empty() && !name.starts_with('/') && !name.split('/').any(|part| part == "..")
        );
    }
    let Ok((offset, size)) = entries.find(layout::MANIFEST) else {
        return;
    };
    let bytes = &archive[offset as usize..][..size as usize];
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(e) => return short(&e),
    };
    let written = manifest.write().expect("writes");
    let again = Manifest::parse(&written).expect("what was written is read");
    assert_eq!(again.write().expect("writes"), written);
    if let Err(e) = manifest.check_entries(&entries) {
        short(&e);
    }
}

/// Whatever the input, the message is one line.
fn short(error: &Error) {
    let message = error.to_string();
    assert!(message.len() < 5000 && !message.contains('\n'));
    let _ = error.detail();
}
