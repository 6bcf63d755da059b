//! Any bytes are a value or an error; a value is written again as the same bytes.

use modelstore_tensor::layout;

/// Panics where a promise does not hold.
pub fn check(input: &[u8]) {
    match layout::read(input) {
        Ok(view) => {
            assert_eq!(layout::write(&view), input);
            let head = layout::read_header(input).expect("the value was read");
            assert_eq!((head.dtype, &head.shape), (view.dtype(), view.shape()));
        }
        // Messages are made of hostile input as well.
        Err(error) => drop((error.to_string(), error.detail())),
    }
}
