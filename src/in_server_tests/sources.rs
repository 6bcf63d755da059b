//! Every source returns the same bytes, in pieces of any size.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::{each_datum, message, noise};
    use crate::io::Source;
    use crate::io::bytes::{Bytea, ByteaSource};
    use crate::io::large_object::LargeObject;
    use crate::io::server_file::ServerFile;
    use crate::pg::arguments::bytes;
    use crate::pg::varlena::Toasted;
    use modelstore_chunk::Source as _;
    use pgrx::prelude::*;

    const LEN: usize = 300_007;

    /// Reads forwards, backwards, across page boundaries, nothing, and everything.
    fn check(source: &mut dyn Source, expected: &[u8]) {
        let n = expected.len();
        assert_eq!(source.len(), n as u64);
        let mut out = vec![1, 2, 3];
        let mut pieces = vec![
            (0, n),
            (0, 0),
            (n, 0),
            (n - 1, 1),
            (0, 1),
            (1, n - 1),
            (2047, 2),
            (1995, 4003),
        ];
        pieces.extend((0..n).step_by(9973).map(|at| (at, 9973.min(n - at))));
        pieces.extend((0..n).step_by(50_021).rev().map(|at| (at, 777.min(n - at))));
        for (at, len) in pieces {
            source
                .read_at(at as u64, len, &mut out)
                .expect("within the source");
            assert!(out == expected[at..at + len], "{len} bytes at {at}");
        }
    }

    fn bytea(storage: &str, data: &[u8]) {
        Spi::run("CREATE TEMPORARY TABLE b (v bytea)").expect("a table");
        Spi::run(&format!("ALTER TABLE b ALTER v SET STORAGE {storage}")).expect("a storage");
        Spi::run_with_args("INSERT INTO b VALUES ($1)", &[bytes(data)]).expect("a row");
        let mut seen = false;
        each_datum("SELECT v FROM b", |datum| {
            // SAFETY: a bytea that lives as long as the query.
            let value = Bytea(unsafe { Toasted::from_datum(datum) });
            check(&mut ByteaSource::new(value), data);
            seen = true;
        });
        assert!(seen);
    }

    #[pg_test]
    fn a_bytea_out_of_line() {
        bytea("external", &noise(LEN));
    }

    #[pg_test]
    fn a_bytea_that_is_compressed() {
        let mut data = noise(LEN);
        data[1000..].iter_mut().for_each(|b| *b &= 1);
        bytea("extended", &data);
    }

    #[pg_test]
    fn a_large_object() {
        let data = noise(LEN);
        let mut object = LargeObject::create().expect("an object");
        for part in data.chunks(70_001) {
            object.append(part).expect("appended");
        }
        check(&mut object, &data);
        check(
            &mut LargeObject::open(object.oid()).expect("it exists"),
            &data,
        );
    }

    #[pg_test]
    fn a_server_file() {
        let data = noise(LEN);
        let path = std::env::temp_dir().join(format!("modelstore-test-{}", std::process::id()));
        std::fs::write(&path, &data).expect("a file");
        let opened = ServerFile::open(&path);
        std::fs::remove_file(&path).expect("removed");
        check(&mut opened.expect("readable"), &data);
        assert!(message(ServerFile::open(&path)).contains("could not open file"));
    }
}
