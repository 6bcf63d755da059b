//! The input is a whole safetensors file: what its header promises holds, and recognising it never fails.

use modelstore_formats::architecture::{WeightInfo, recognise};
use modelstore_formats::other_format::{IDENTIFYING_BYTES, other_format};
use modelstore_formats::safetensors::{LENGTH_BYTES, header_len, parse_header};

/// Panics where a promise does not hold.
pub fn check(file: &[u8]) {
    let file_len = file.len() as u64;
    let first = &file[..file.len().min(IDENTIFYING_BYTES as usize)];
    if let Some(error) = other_format(first, file_len) {
        assert!(error.detail().is_some());
    }
    let Ok(length) = header_len(file, file_len) else {
        return;
    };
    let data_offset = LENGTH_BYTES + length;
    let json = &file[LENGTH_BYTES as usize..data_offset as usize];
    let header = match parse_header(json, file_len) {
        Ok(header) => header,
        Err(error) => {
            // Whatever the input, the message is short and is one line.
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control));
            let _ = (error.kind(), error.detail());
            return;
        }
    };
    assert_eq!(header.data_offset, data_offset);
    let mut end = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.start, end);
        assert_eq!(
            tensor.shape.byte_len(tensor.dtype),
            Ok(tensor.end - tensor.start)
        );
        assert!(!tensor.name.is_empty() && !tensor.name.contains('\0'));
        end = tensor.end;
    }
    assert_eq!(data_offset + end, file_len);

    let weights: Vec<WeightInfo<'_>> = header
        .tensors
        .iter()
        .map(|tensor| WeightInfo {
            name: &tensor.name,
            dtype: tensor.dtype,
            dims: tensor.shape.dims(),
        })
        .collect();
    let found = recognise(&weights, None);
    assert_eq!(found.weight_roles.len(), weights.len());
}
