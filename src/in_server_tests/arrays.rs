//! SQL arrays as bytes.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::{bytes_of, message};
    use crate::pg::array;
    use modelstore_tensor::Shape;
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    fn bytes(numbers: &[i32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    #[pg_test]
    fn an_array_reads_as_shape_and_elements() {
        let cases: [(&str, &[u64], &[i32]); 6] = [
            ("'{}'", &[0], &[]),
            ("'{7}'", &[1], &[7]),
            ("'{{1,2,3},{4,5,6}}'", &[2, 3], &[1, 2, 3, 4, 5, 6]),
            ("'[-3:-2]={8,9}'", &[2], &[8, 9]),
            ("'{{{{{{1},{2}}}}}}'", &[1, 1, 1, 1, 2, 1], &[1, 2]),
            ("array_remove('{1,NULL,2}'::integer[], NULL)", &[2], &[1, 2]),
        ];
        for (literal, dims, numbers) in cases {
            let array = bytes_of(&format!("SELECT ({literal})::integer[]"));
            let (shape, data) = array::read(&array, 4).expect(literal);
            assert_eq!(
                (shape.dims(), data),
                (dims, &bytes(numbers)[..]),
                "{literal}"
            );
        }
    }

    #[pg_test]
    fn a_null_is_refused_wherever_it_is() {
        for at in [0, 1, 6, 7, 8, 9, 62, 63, 64, 99] {
            let sql = format!(
                "SELECT array_agg(CASE WHEN i <> {at} THEN i END ORDER BY i) FROM generate_series(0, 99) i"
            );
            assert!(
                message(array::read(&bytes_of(&sql), 4)).contains("nulls"),
                "{at}"
            );
        }
    }

    #[pg_test]
    fn a_bitmap_without_a_null_in_it_is_read() {
        let array = bytes_of("SELECT array_replace('{{1,NULL},{3,4}}'::integer[], NULL, 2)");
        let (shape, data) = array::read(&array, 4).expect("no null any more");
        assert_eq!(
            (shape.dims(), data),
            (&[2, 2][..], &bytes(&[1, 2, 3, 4])[..])
        );
    }

    #[pg_test]
    fn what_is_built_is_what_the_server_would_have_made() {
        let cases: [(&str, &[u64], &[i32]); 4] = [
            ("'{}'", &[0, 3], &[]),
            ("'{7}'", &[], &[7]),
            ("'{1,2,3}'", &[3], &[1, 2, 3]),
            ("'{{1,2},{3,4},{5,6}}'", &[3, 2], &[1, 2, 3, 4, 5, 6]),
        ];
        for (literal, dims, numbers) in cases {
            let shape = Shape::new(dims).expect("a shape");
            let mut built = array::build(&shape, pg_sys::INT4OID, &bytes(numbers)).expect(literal);
            assert_eq!(
                built.bytes_mut(),
                bytes_of(&format!("SELECT {literal}::integer[]")),
                "{literal}"
            );
        }
    }

    #[pg_test]
    fn seven_dimensions_are_too_many() {
        let shape = Shape::new(&[1; 7]).expect("a shape");
        let built = array::build(&shape, pg_sys::INT4OID, &bytes(&[1]));
        assert!(message(built).contains("(7) exceeds the maximum allowed (6)"));
    }

    #[pg_test]
    fn bytes_that_are_no_array_are_refused() {
        let array = bytes_of("SELECT '{1,2,3}'::integer[]");
        for len in 0..array.len() {
            assert_eq!(
                message(array::read(&array[..len], 4)),
                "malformed array",
                "{len}"
            );
        }
        for rank in [-1i32, 7, i32::MAX] {
            let mut wrong = array.clone();
            wrong[..4].copy_from_slice(&rank.to_ne_bytes());
            assert_eq!(message(array::read(&wrong, 4)), "malformed array");
        }
    }
}
