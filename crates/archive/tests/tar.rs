//! Tar archives: any names and sizes, hostile bytes, and what GNU tar and Python read and write.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use modelstore_archive::Error;
use modelstore_archive::tar::{BLOCK, END, Entries, MAX_EXTENDED_BYTES, Walker, head, padding};
use modelstore_chunk::{Memory, Source};
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// An error of the archive, or of the source.
#[derive(Debug, PartialEq)]
enum Failed {
    Archive(Error),
    Source(modelstore_chunk::Error),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Archive(e)
    }
}

impl From<modelstore_chunk::Error> for Failed {
    fn from(e: modelstore_chunk::Error) -> Failed {
        Failed::Source(e)
    }
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files {
        out.extend(head(name, data.len() as u64, 1_700_000_000));
        out.extend(data);
        out.resize(out.len() + padding(data.len() as u64), 0);
    }
    out.extend(END);
    out
}

fn files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let (mut walker, mut source) = (Walker::new(), Memory(bytes));
    let mut found = Vec::new();
    loop {
        match walker.next::<Failed>(&mut source) {
            Ok(Some(entry)) => {
                let content = bytes[entry.offset as usize..][..entry.size as usize].to_vec();
                found.push((entry.name, content));
            }
            Ok(None) => return Ok(found),
            Err(Failed::Archive(e)) => return Err(e),
            Err(Failed::Source(e)) => panic!("read beyond the end: {e}"),
        }
    }
}

/// Runs a program on bytes.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("ends").expect("writes");
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let data = |len: usize| (0..len).map(|i| (i * 7) as u8).collect::<Vec<u8>>();
    let names = [
        "manifest.json",
        "model/ünï.json",
        "model/with space",
        "a",
        &"x".repeat(100),
        &"x".repeat(101),
        &"x".repeat(255),
        &format!("{}/{}", "d".repeat(155), "f".repeat(100)),
        &format!("{}/{}", "d".repeat(156), "f".repeat(100)),
        &format!("{}/{}", "d".repeat(155), "f".repeat(101)),
        &vec!["abc"; 256].join("/"),
    ];
    let sizes = [0, 1, 511, 512, 513, 1024, 70_000];
    let named = names.iter().zip(sizes.into_iter().cycle());
    named
        .map(|(name, size)| ((*name).to_owned(), data(size)))
        .collect()
}

#[test]
fn what_is_written_is_read() {
    let all = examples();
    assert_eq!(files(&archive(&all)), Ok(all));
    assert_eq!(files(&END), Ok(vec![]));
}

const PYTHON_READS: &str = "
import io, sys, tarfile
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as archive:
    for member in archive:
        assert member.isfile() and member.mtime == 1700000000 and member.mode == 0o644
        sys.stdout.buffer.write(member.name.encode() + b'\\n' + archive.extractfile(member).read() + b'\\n--\\n')
";

const PYTHON_WRITES: &str = "
import io, sys, tarfile
form = {'ustar': tarfile.USTAR_FORMAT, 'gnu': tarfile.GNU_FORMAT, 'pax': tarfile.PAX_FORMAT}[sys.argv[1]]
out = io.BytesIO()
with tarfile.open(fileobj=out, mode='w', format=form) as archive:
    for entry in sys.stdin.buffer.read().split(b'\\n--\\n')[:-1]:
        name, data = entry.split(b'\\n', 1)
        member = tarfile.TarInfo(name.decode())
        member.size, member.mtime = len(data), 1700000000.5
        archive.addfile(member, io.BytesIO(data))
    folder = tarfile.TarInfo('folder')
    folder.type = tarfile.DIRTYPE
    archive.addfile(folder)
sys.stdout.buffer.write(out.getvalue())
";

fn listed(all: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries = all
        .iter()
        .map(|(name, data)| [name.as_bytes(), b"\n", data, b"\n--\n"].concat());
    entries.collect::<Vec<_>>().concat()
}

#[test]
fn python_reads_and_writes_the_same() {
    let all = examples();
    assert!(run("python3", &["-c", PYTHON_READS], &archive(&all)) == listed(&all));
    for format in ["gnu", "pax"] {
        let written = run("python3", &["-c", PYTHON_WRITES, format], &listed(&all));
        assert!(files(&written) == Ok(all.clone()), "{format}");
    }
    let short = &all[..5];
    let written = run("python3", &["-c", PYTHON_WRITES, "ustar"], &listed(short));
    assert!(files(&written).as_deref() == Ok(short));
}

#[test]
fn gnu_tar_reads_and_writes_the_same() {
    let all = examples();
    let folder = std::env::temp_dir().join(format!("modelstore-tar-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let at = folder.to_str().expect("UTF-8");
    run("tar", &["-x", "-C", at], &archive(&all));
    for (name, data) in &all {
        assert!(
            std::fs::read(folder.join(name)).ok().as_ref() == Some(data),
            "{name}"
        );
    }
    for format in ["gnu", "posix", "oldgnu"] {
        let option = format!("--format={format}");
        let written = run("tar", &[&option, "-C", at, "-c", "."], b"");
        let mut found = files(&written).expect(format);
        found.sort();
        let mut expected = all.clone();
        expected.sort();
        assert!(found == expected, "{format}");
    }
    std::fs::remove_dir_all(&folder).expect("removes");
}

#[test]
fn sizes_beyond_octal_are_extended() {
    struct Hollow(Vec<u8>, u64);
    impl Source<Failed> for Hollow {
        fn len(&self) -> u64 {
            self.1
        }
        fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Failed> {
            *out = (offset..offset + len as u64)
                .map(|at| self.0.get(at as usize).copied().unwrap_or(0))
                .collect();
            Ok(())
        }
    }
    for size in [
        0o777_7777_7777,
        0o1000_0000_0000,
        1 << 40,
        i64::MAX as u64 / 2,
    ] {
        let written = head("big", size, 0);
        let begin = written.len() as u64;
        let end = begin + size.next_multiple_of(BLOCK) + 2 * BLOCK;
        let mut source = Hollow(written, end);
        let mut walker = Walker::new();
        let entry = walker.next(&mut source).expect("reads").expect("an entry");
        assert_eq!((entry.offset, entry.size), (begin, size));
        assert_eq!(walker.next(&mut source), Ok(None));
    }
}

/// Replaces a part of a header and mends its checksum.
fn altered(at: usize, with: &[u8], block: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    let block = &mut bytes[block * 512..][..512];
    block[at..at + with.len()].copy_from_slice(with);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[test]
fn hostile_archives_are_errors() {
    let good = archive(&[("file".to_owned(), b"content".to_vec())]);
    let with = |at: usize, bytes: &[u8]| files(&altered(at, bytes, 0, good.clone()));
    for (bytes, length) in [
        (&b"77777777777\0"[..], 0o777_7777_7777u64),
        (
            b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            i64::MAX as u64,
        ),
        (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
    ] {
        let needed = length.saturating_add(512);
        let actual = good.len() as u64;
        assert_eq!(with(124, bytes), Err(Error::Truncated { needed, actual }));
    }
    for bytes in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0"[..],
        b"-1\0",
        b"\x80\x01",
    ] {
        assert_eq!(with(124, bytes), Err(Error::Number { offset: 0 }));
    }
    for (kind, what) in [
        (b'1', "a link"),
        (b'2', "a symbolic link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'6', "a pipe"),
        (b'S', "a sparse file"),
        (b'V', "an entry of an unknown kind"),
        (0xff, "an entry of an unknown kind"),
    ] {
        let name = "file".to_owned();
        assert_eq!(with(156, &[kind]), Err(Error::Kind { name, what }));
    }
    for name in [
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "\u{85}",
        "",
    ] {
        let mut field = [0; 100];
        field[..name.len()].copy_from_slice(name.as_bytes());
        let got = with(0, &field);
        assert!(matches!(got, Err(Error::Name { .. })), "{name:?}: {got:?}");
        let folder = files(&altered(0, &field, 0, altered(156, b"5", 0, good.clone())));
        assert_eq!(folder.is_ok(), name == "a/", "{name:?}");
    }
    assert!(matches!(with(0, b"\xff\xfe\0"), Err(Error::Name { .. })));
    // The name of a device, whose header says nothing of it, is not needed to refuse it.
    let twice = archive(&[("x".to_owned(), vec![1]), ("./x".to_owned(), vec![2])]);
    let got = Entries::collect::<Failed>(&mut Memory(&twice), || Ok(()));
    let expected = Error::Duplicate { name: "x".into() };
    assert_eq!(got.err(), Some(Failed::Archive(expected)));
    for len in 0..good.len() - 512 {
        assert!(files(&good[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(files(b"PK\x03\x04"), Err(Error::NotTar));
    assert_eq!(files(&[7; 5000]), Err(Error::NotTar));
    let mut damaged = good;
    damaged[3] ^= 1;
    assert_eq!(files(&damaged), Err(Error::Checksum { offset: 0 }));
}

#[test]
fn hostile_extended_headers_are_errors() {
    let long = archive(&[("ü".to_owned(), b"content".to_vec())]);
    let content = |text: &[u8]| {
        let mut bytes = long.clone();
        bytes[512..1024].fill(0);
        bytes[512..512 + text.len()].copy_from_slice(text);
        altered(124, format!("{:011o}", text.len()).as_bytes(), 0, bytes)
    };
    assert_eq!(
        files(&content(b"9 path=x\n")),
        Ok(vec![("x".into(), b"content".to_vec())])
    );
    for text in [
        &b"8 path=x\n"[..],
        b"x",
        b"9 path=x",
        b"13 size=1e9\n",
        b"12 size=-1\n",
    ] {
        assert_eq!(
            files(&content(text)),
            Err(Error::Extended { offset: 0 }),
            "{text:?}"
        );
    }
    // A size that is not that of the header: it counts.
    assert_eq!(
        files(&content(b"10 size=3\n")).map(|f| f[0].1.clone()),
        Ok(b"con".to_vec())
    );
    let got = files(&content(b"29 size=18446744073709551615\n"));
    assert!(matches!(
        got,
        Err(Error::Truncated {
            needed: u64::MAX,
            ..
        })
    ));
    let got = files(&content(b"16 path=../../x\n"));
    assert!(matches!(got, Err(Error::Name { .. })));
    let got = files(&content(b"22 GNU.sparse.major=1\n"));
    assert!(matches!(
        got,
        Err(Error::Kind {
            what: "a sparse file",
            ..
        })
    ));
    // One after the other, at the end, and of all entries.
    let twice = [&long[..1024], &long].concat();
    assert_eq!(files(&twice), Err(Error::Extended { offset: 1024 }));
    let alone = [&long[..1024], &END[..]].concat();
    assert_eq!(files(&alone), Err(Error::Extended { offset: 0 }));
    let global = altered(156, b"g", 0, long.clone());
    assert_eq!(files(&global), Err(Error::Extended { offset: 0 }));
    let harmless = altered(156, b"g", 0, content(b"13 comment=x\n"));
    assert_eq!(files(&harmless).map(|files| files.len()), Ok(1));
    let length = MAX_EXTENDED_BYTES + 1;
    let huge = altered(124, format!("{length:011o}").as_bytes(), 0, long);
    assert_eq!(
        files(&huge),
        Err(Error::ExtendedTooLong { offset: 0, length })
    );
}

proptest! {
    #[test]
    fn any_files_come_back(all in prop::collection::vec(("[a-zü./]{1,300}", prop::collection::vec(any::<u8>(), 0..2000)), 0..6)) {
        let named: Vec<(String, Vec<u8>)> = all
            .into_iter()
            .enumerate()
            .map(|(n, (name, data))| {
                let parts = name.split('/').filter(|part| !part.is_empty());
                let parts: Vec<String> = parts.map(|part| format!("x{}", part.chars().take(100).collect::<String>())).collect();
                (format!("{n}/{}", parts.join("/")).trim_end_matches('/').to_owned(), data)
            })
            .collect();
        prop_assert_eq!(files(&archive(&named)), Ok(named));
    }

    #[test]
    fn any_bytes_are_read_or_refused(noise in prop::collection::vec((0usize..4096, any::<u8>()), 0..12), cut in 0usize..5000) {
        let mut bytes = archive(&examples()[..4]);
        for (at, byte) in noise {
            let at = at % bytes.len();
            bytes[at] = byte;
            // The checksum of its block is right all the same.
            bytes = altered(0, &[], at / 512, bytes);
        }
        bytes.truncate(cut);
        drop(files(&bytes));
    }
}
