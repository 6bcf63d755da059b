//! Values in every storage form of PostgreSQL: short headers, compressed, out of line.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::{bytes_of, each_datum, message};
    use crate::pg::extension;
    use crate::pg::varlena::{Building, Detoasted, MAX_BYTES, Toasted};
    use crate::tensor::datum::{TensorIn, TensorOut, TensorRef};
    use modelstore_tensor::{DType, Shape, layout};
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    /// Creates a table with one tensor in a certain storage form, and returns its bytes.
    fn table(storage: &str, literal: &str) -> Vec<u8> {
        Spi::run("CREATE TEMPORARY TABLE t (v modelstore.tensor)").expect("a table");
        Spi::run(&format!("ALTER TABLE t ALTER v SET STORAGE {storage}")).expect("a storage");
        Spi::run(&format!(
            "INSERT INTO t SELECT ({literal})::modelstore.tensor"
        ))
        .expect("a row");
        bytes_of(&format!("SELECT ({literal})::modelstore.tensor"))
    }

    /// Reads the value as a whole and in odd pieces, and returns (stored bytes, whether compressed).
    fn read_all_ways(expected: &[u8]) -> (usize, bool) {
        let mut seen = (0, false);
        each_datum("SELECT v FROM t", |datum| {
            // SAFETY: a tensor that lives as long as the query.
            let (toasted, stored) =
                unsafe { (Toasted::from_datum(datum), pg_sys::toast_datum_size(datum)) };
            assert_eq!(toasted.len(), expected.len());
            assert_eq!(toasted.whole().bytes(), expected);
            let n = expected.len();
            for (offset, len) in [
                (0, 0),
                (0, 1),
                (0, 4),
                (3, 1),
                (1, n),
                (n / 2, 7),
                (n - 1, 1),
                (n, 5),
                (n + 9, 1),
                (0, n + 100),
                (0, usize::MAX),
            ] {
                let from = offset.min(n);
                let to = offset.saturating_add(len).min(n).max(from);
                assert_eq!(
                    toasted.slice(offset, len).bytes(),
                    &expected[from..to],
                    "{offset} {len}"
                );
            }
            // SAFETY: as above.
            let whole = unsafe { Detoasted::from_datum(datum) };
            assert_eq!(whole.bytes(), expected);
            let view = layout::read(expected).expect("a tensor");
            let head = TensorRef(toasted).head().expect("a head");
            assert_eq!((head.dtype, &head.shape), (view.dtype(), view.shape()));
            assert_eq!(TensorIn(whole).view().expect("a view").data(), view.data());
            seen = (stored, toasted.is_compressed());
        });
        seen
    }

    #[pg_test]
    fn a_short_header_is_read() {
        let expected = table("external", "'i8:5'");
        assert_eq!(expected, [1, 3, 0, 0, 5]);
        each_datum("SELECT v FROM t", |datum| {
            // SAFETY: a varlena has at least a byte.
            let first = unsafe { *datum.cast_mut_ptr::<u8>() };
            assert_eq!(first, 6 << 1 | 1, "a header of one byte, 6 bytes in all");
        });
        assert_eq!(read_all_ways(&expected), (6, false));
    }

    #[pg_test]
    fn a_value_with_a_long_header_in_line_is_read() {
        let expected = table(
            "external",
            "modelstore.frombuffer(decode(repeat('7f', 500), 'hex'), 'i8', '{500}')",
        );
        assert_eq!(read_all_ways(&expected), (516, false));
    }

    #[pg_test]
    fn a_value_out_of_line_is_read() {
        let literal = "modelstore.frombuffer((SELECT string_agg(sha256(i::text::bytea), '') FROM generate_series(1, 1000) i), 'f32', '{80,100}')";
        let expected = table("external", literal);
        assert_eq!(read_all_ways(&expected), (32_020, false));
    }

    #[pg_test]
    fn a_value_compressed_in_line_is_read() {
        let expected = table(
            "main",
            "modelstore.frombuffer(decode(repeat('00', 100000), 'hex'), 'f32', '{250,100}')",
        );
        let (stored, compressed) = read_all_ways(&expected);
        assert!(compressed && stored < 2000, "{stored} {compressed}");
    }

    #[pg_test]
    fn a_value_compressed_out_of_line_is_read() {
        let literal = "modelstore.frombuffer((SELECT string_agg(sha256(i::text::bytea) || decode(repeat('00', 40), 'hex'), '') FROM generate_series(1, 1000) i), 'u8', '{72000}')";
        let expected = table("extended", literal);
        let (stored, compressed) = read_all_ways(&expected);
        assert!(compressed && stored > 10_000, "{stored} {compressed}");
    }

    #[pg_test]
    fn elements_lie_on_an_eight_byte_boundary() {
        for rank in 0..4 {
            let shape = Shape::new(&vec![2; rank]).expect("a shape");
            let mut out = TensorOut::zeroed(DType::F64, &shape).expect("room");
            assert_eq!(out.elements_mut(rank).as_ptr().align_offset(8), 0);
            assert_eq!(out.elements_mut(rank).len(), 8 << rank);
        }
    }

    #[pg_test]
    fn values_too_large_are_refused_before_they_are_made() {
        assert!(message(Building::zeroed(MAX_BYTES + 1)).contains("too large"));
        let shape = Shape::new(&[(512 << 20) + 1]).expect("a shape");
        assert!(message(TensorOut::zeroed(DType::U8, &shape)).contains("too large for one value"));
    }

    #[pg_test(error = "stored tensor is corrupted: unknown tensor format version 9")]
    fn a_value_that_is_no_tensor_is_corruption() {
        let building = Building::from_parts(&[&[9, 3, 0, 0, 5]]).expect("room");
        // SAFETY: a complete varlena that is never freed.
        let value = unsafe { Toasted::from_datum(building.into_datum()) };
        crate::error::or_raise(TensorRef(value).head());
    }

    #[pg_test(error = "stored tensor has the wrong length")]
    fn a_value_that_is_too_short_is_corruption() {
        let building = Building::from_parts(&[&[1, 15, 0, 0, 5]]).expect("room");
        // SAFETY: a complete varlena that is never freed.
        let value = unsafe { Toasted::from_datum(building.into_datum()) };
        crate::error::or_raise(TensorRef(value).head());
    }

    #[pg_test]
    fn the_types_are_found_whatever_the_search_path() {
        Spi::run("SET LOCAL search_path = pg_catalog").expect("a setting");
        let types = extension::types();
        for (name, oid) in [
            ("tensor", types.tensor),
            ("tensor_chunk", types.tensor_chunk),
        ] {
            let expected =
                Spi::get_one::<pg_sys::Oid>(&format!("SELECT 'modelstore.{name}'::regtype::oid"));
            assert_eq!(expected, Ok(Some(oid)));
        }
    }
}
