//! Loops over the bytes of values end when their session is cancelled: each is called with a cancel pending, which only
//! a check inside the loop can notice.

#[pgrx::pg_schema]
mod tests {
    use crate::error::Code;
    use crate::pg::jsonb::{Jsonb, Token};
    use crate::pg::varlena::{Detoasted, Toasted};
    use crate::tensor::interrupts::check;
    use crate::tensor::{cast, compare, datum::TensorIn, datum::TensorOut, datum::TensorRef, io};
    use modelstore_tensor::{DType, Shape, text};
    use pgrx::pg_sys;
    use pgrx::prelude::*;
    use std::panic::AssertUnwindSafe;

    /// Returns whether a cancel that is pending before the loop ends it.
    fn is_cancelled(what: impl FnOnce()) -> bool {
        // SAFETY: does what the handler of SIGINT does.
        unsafe {
            pg_sys::QueryCancelPending = 1;
            pg_sys::InterruptPending = 1;
        }
        let cancelled = pgrx::PgTryBuilder::new(AssertUnwindSafe(|| {
            what();
            false
        }))
        .catch_when(Code::ERRCODE_QUERY_CANCELED, |_| true)
        .execute();
        // SAFETY: as above.
        unsafe {
            pg_sys::QueryCancelPending = 0;
            pg_sys::InterruptPending = 0;
        }
        cancelled
    }

    /// Returns a tensor of zeros of 8 MB as a datum.
    fn zeros(dtype: DType) -> pg_sys::Datum {
        let shape = Shape::new(&[2 << 20]).expect("a shape");
        let tensor = TensorOut::zeroed(dtype, &shape).expect("fits");
        tensor.0.into_datum()
    }

    fn whole<'a>(datum: pg_sys::Datum) -> TensorIn<'a> {
        // SAFETY: made above, lives as long as the transaction.
        TensorIn(unsafe { Detoasted::from_datum(datum) })
    }

    #[pg_test]
    fn reading_text_ends() {
        let list = format!("[{}1]", "0,".repeat(100_000));
        assert!(is_cancelled(|| {
            drop(text::parse_checked(&list, &mut check));
        }));
        let list = std::ffi::CString::new(list).expect("no zero byte");
        assert!(is_cancelled(|| drop(io::parse(&list, -1))));
    }

    #[pg_test]
    fn writing_text_ends() {
        let zeros = zeros(DType::F32);
        assert!(is_cancelled(|| drop(io::print(&whole(zeros)))));
    }

    #[pg_test]
    fn arithmetic_and_comparing_end() {
        let (a, b) = (zeros(DType::F32), zeros(DType::F32));
        assert!(is_cancelled(|| {
            drop(cast::to_dtype(&whole(a), DType::F64));
        }));
        assert!(is_cancelled(|| {
            let tensor = whole(a);
            let view = tensor.view().expect("a tensor");
            drop(modelstore_tensor::reduce::l1(&view, &mut check));
        }));
        // SAFETY: made above.
        let (a, b) = unsafe { (Toasted::from_datum(a), Toasted::from_datum(b)) };
        assert!(is_cancelled(|| {
            compare::equal(a, b);
        }));
        assert!(is_cancelled(|| drop(compare::compare(
            &TensorRef(a),
            &TensorRef(b)
        ))));
        assert!(is_cancelled(|| {
            compare::hash(a.whole().bytes(), 0);
        }));
    }

    #[pg_test]
    fn reading_json_ends() {
        crate::in_server_tests::each_datum(
            "SELECT jsonb_agg(i) FROM generate_series(1, 100000) i",
            |datum| {
                // SAFETY: a jsonb value that lives as long as the query.
                let json = Jsonb(unsafe { Detoasted::from_datum(datum) });
                let mut numbers = 0;
                json.walk(&mut |token| {
                    numbers += usize::from(matches!(token, Token::Number(_)));
                    Ok(())
                })
                .expect("a list");
                assert_eq!(numbers, 100_000);
                assert!(is_cancelled(|| drop(json.walk(&mut |_| Ok(())))));
            },
        );
    }
}
