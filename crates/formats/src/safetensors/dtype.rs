//! The names of element types in safetensors, and the order in which tensors are written.

use modelstore_tensor::DType;

/// All of safetensors' element types by ascending alignment; within one alignment in the order of other writers, so
/// that the same tensors give the same file.
const NAMES: [(&str, DType); 22] = [
    ("BOOL", DType::Bool),
    ("F4", DType::F4),
    ("F6_E2M3", DType::F6E2M3),
    ("F6_E3M2", DType::F6E3M2),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("F8_E5M2", DType::F8E5M2),
    ("F8_E4M3", DType::F8E4M3),
    ("F8_E8M0", DType::F8E8M0),
    ("F8_E4M3FNUZ", DType::F8E4M3Fnuz),
    ("F8_E5M2FNUZ", DType::F8E5M2Fnuz),
    ("I16", DType::I16),
    ("U16", DType::U16),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I32", DType::I32),
    ("U32", DType::U32),
    ("F32", DType::F32),
    ("C64", DType::C64),
    ("F64", DType::F64),
    ("I64", DType::I64),
    ("U64", DType::U64),
];

/// Returns the element type of a name, which is upper case; `None` for names of other formats.
pub fn from_name(name: &str) -> Option<DType> {
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
}

/// Returns the name of an element type; `None` for the block types, which safetensors lacks.
pub fn name(dtype: DType) -> Option<&'static str> {
    NAMES.iter().find(|(_, d)| *d == dtype).map(|(n, _)| *n)
}

/// Returns the position of an element type in the writing order, lowest alignment first.
pub(crate) fn rank(dtype: DType) -> Option<usize> {
    NAMES.iter().position(|(_, d)| *d == dtype)
}

/// Returns all names, for a message.
pub(crate) fn names() -> String {
    NAMES.map(|(n, _)| n).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelstore_tensor::dtype::Kind;

    #[test]
    fn every_type_but_the_block_types_has_its_upper_case_name() {
        for d in DType::ALL {
            let expected = (d.kind() != Kind::Quantised).then(|| d.name().to_uppercase());
            assert_eq!(name(*d), expected.as_deref());
        }
        for (n, d) in NAMES {
            assert_eq!(from_name(n), Some(d));
        }
        assert_eq!(from_name("f32"), None);
        assert_eq!(from_name("Q4_0"), None);
    }
}
