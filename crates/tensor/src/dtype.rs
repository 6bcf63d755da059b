//! Element types, their stored codes, names and sizes.
//!
//! The names are those of safetensors in lower case (`f32`, `bf16`, `f8_e4m3`) and of ggml for its block types
//! (`q4_0`). A stored code never changes and is never reused.

use crate::{Error, Result};

macro_rules! dtypes {
    ($( $variant:ident = $code:literal, $name:literal, $block:literal x $bytes:literal, $kind:ident; )*) => {
        /// The element type of a tensor. The discriminant is the code stored on disk.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType {
            $( #[doc = concat!("`", $name, "`: ", $block, " element(s) in ", $bytes, " byte(s)")] $variant = $code, )*
        }

        impl DType {
            /// Every element type, in the order of the codes.
            pub const ALL: &'static [DType] = &[$( DType::$variant ),*];

            /// Returns the element type of a stored code.
            pub fn from_code(code: u8) -> Result<DType> {
                match code { $( $code => Ok(DType::$variant), )* _ => Err(Error::UnknownDTypeCode(code)) }
            }

            /// Returns the name used in SQL, lower case.
            pub const fn name(self) -> &'static str {
                match self { $( DType::$variant => $name, )* }
            }

            /// Returns the elements in the smallest addressable group: 1, more for sub-byte and block types.
            pub const fn block_elements(self) -> u64 {
                match self { $( DType::$variant => $block, )* }
            }

            /// Returns the bytes of one such group.
            pub const fn block_bytes(self) -> u64 {
                match self { $( DType::$variant => $bytes, )* }
            }

            /// Returns the kind of the elements, which decides which operations apply.
            pub const fn kind(self) -> Kind {
                match self { $( DType::$variant => Kind::$kind, )* }
            }
        }
    };
}

/// The kind of the elements of a [`DType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// Signed or unsigned two's-complement integers.
    Int,
    /// Binary floating point with a sign bit on top and arithmetic defined here.
    Float,
    /// ggml blocks: stored unchanged, dequantised to f32 for arithmetic.
    Quantised,
    /// Stored bit for bit, without arithmetic.
    Opaque,
}

dtypes! {
    Bool = 1, "bool", 1 x 1, Bool;
    U8 = 2, "u8", 1 x 1, Int;
    I8 = 3, "i8", 1 x 1, Int;
    U16 = 4, "u16", 1 x 2, Int;
    I16 = 5, "i16", 1 x 2, Int;
    U32 = 6, "u32", 1 x 4, Int;
    I32 = 7, "i32", 1 x 4, Int;
    U64 = 8, "u64", 1 x 8, Int;
    I64 = 9, "i64", 1 x 8, Int;
    F8E4M3 = 10, "f8_e4m3", 1 x 1, Float;
    F8E5M2 = 11, "f8_e5m2", 1 x 1, Float;
    F16 = 12, "f16", 1 x 2, Float;
    BF16 = 13, "bf16", 1 x 2, Float;
    F32 = 14, "f32", 1 x 4, Float;
    F64 = 15, "f64", 1 x 8, Float;
    F4 = 16, "f4", 2 x 1, Opaque;
    F6E2M3 = 17, "f6_e2m3", 4 x 3, Opaque;
    F6E3M2 = 18, "f6_e3m2", 4 x 3, Opaque;
    F8E8M0 = 19, "f8_e8m0", 1 x 1, Opaque;
    F8E4M3Fnuz = 20, "f8_e4m3fnuz", 1 x 1, Opaque;
    F8E5M2Fnuz = 21, "f8_e5m2fnuz", 1 x 1, Opaque;
    C64 = 22, "c64", 1 x 8, Opaque;
    Q4_0 = 32, "q4_0", 32 x 18, Quantised;
    Q4_1 = 33, "q4_1", 32 x 20, Quantised;
    Q5_0 = 34, "q5_0", 32 x 22, Quantised;
    Q5_1 = 35, "q5_1", 32 x 24, Quantised;
    Q8_0 = 36, "q8_0", 32 x 34, Quantised;
    Q2K = 37, "q2_k", 256 x 84, Quantised;
    Q3K = 38, "q3_k", 256 x 110, Quantised;
    Q4K = 39, "q4_k", 256 x 144, Quantised;
    Q5K = 40, "q5_k", 256 x 176, Quantised;
    Q6K = 41, "q6_k", 256 x 210, Quantised;
}

impl DType {
    /// Returns the stored code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Finds a name, ignoring ASCII case: SQL's (`bf16`), safetensors' (`BF16`), numpy's and torch's (`float32`,
    /// `torch.bfloat16`). `float` and `int` mean different types in numpy and torch, so they need `torch.` in front.
    pub fn from_name(name: &str) -> Result<DType> {
        let own = |name: &str| {
            let mut all = DType::ALL.iter().copied();
            all.find(|d| d.name().eq_ignore_ascii_case(name))
        };
        own(name)
            .or_else(|| alias(name))
            .ok_or_else(|| Error::UnknownDType(name.chars().take(64).collect()))
    }

    /// Returns the bytes of `elements` elements; `None` on overflow or if they do not end on a group.
    pub const fn byte_len(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    /// Returns the bytes as an offset in memory, or an error that names the groups.
    pub fn group_bytes(self, elements: u64) -> Result<usize> {
        self.byte_len(elements)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or(Error::SlicePartialBlock { dtype: self })
    }

    /// Returns whether elements convert to numbers, directly or by dequantising.
    pub const fn is_numeric(self) -> bool {
        !matches!(self.kind(), Kind::Opaque)
    }

    /// Returns the bytes of one element for types of one element per group; `None` for sub-byte and block types.
    pub const fn element_bytes(self) -> Option<usize> {
        if self.block_elements() == 1 {
            Some(self.block_bytes() as usize)
        } else {
            None
        }
    }
}

/// Names of numpy, of ml_dtypes and of torch.
const ALIASES: &[(&str, DType)] = &[
    ("bool_", DType::Bool),
    ("uint8", DType::U8),
    ("int8", DType::I8),
    ("uint16", DType::U16),
    ("int16", DType::I16),
    ("uint32", DType::U32),
    ("int32", DType::I32),
    ("uint64", DType::U64),
    ("int64", DType::I64),
    ("float8_e4m3fn", DType::F8E4M3),
    ("float8_e5m2", DType::F8E5M2),
    ("float8_e4m3fnuz", DType::F8E4M3Fnuz),
    ("float8_e5m2fnuz", DType::F8E5M2Fnuz),
    ("float8_e8m0fnu", DType::F8E8M0),
    ("float16", DType::F16),
    ("half", DType::F16),
    ("fp16", DType::F16),
    ("bfloat16", DType::BF16),
    ("float32", DType::F32),
    ("fp32", DType::F32),
    ("float64", DType::F64),
    ("double", DType::F64),
    ("fp64", DType::F64),
    ("complex64", DType::C64),
];

/// Names that only torch gives these meanings.
const TORCH: &[(&str, DType)] = &[
    ("bool", DType::Bool),
    ("short", DType::I16),
    ("int", DType::I32),
    ("long", DType::I64),
    ("float", DType::F32),
    ("cfloat", DType::C64),
];

fn alias(name: &str) -> Option<DType> {
    let name = name.to_ascii_lowercase();
    let find = |names: &[(&str, DType)], name: &str| {
        let found = names.iter().find(|(alias, _)| *alias == name);
        found.map(|(_, dtype)| *dtype)
    };
    match name.split_once('.') {
        Some(("torch", name)) => find(TORCH, name).or_else(|| find(ALIASES, name)),
        Some(("numpy" | "np" | "jnp" | "ml_dtypes", name)) => match name {
            "bool" => Some(DType::Bool),
            name => find(ALIASES, name),
        },
        _ => find(ALIASES, &name),
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_a_bijection() {
        for (i, d) in DType::ALL.iter().enumerate() {
            assert_eq!(DType::from_code(d.code()), Ok(*d));
            assert_eq!(DType::from_name(&d.name().to_uppercase()), Ok(*d));
            assert!(
                DType::ALL[..i]
                    .iter()
                    .all(|e| e.code() < d.code() && e.name() != d.name())
            );
        }
        assert_eq!(DType::from_code(0), Err(Error::UnknownDTypeCode(0)));
        assert_eq!(
            DType::from_name("float"),
            Err(Error::UnknownDType("float".into()))
        );
    }

    #[test]
    fn names_of_numpy_and_torch() {
        for (name, dtype) in [
            ("float32", DType::F32),
            ("torch.float", DType::F32),
            ("torch.bfloat16", DType::BF16),
            ("np.float64", DType::F64),
            ("fp16", DType::F16),
            ("Half", DType::F16),
            ("torch.float8_e4m3fn", DType::F8E4M3),
            ("ml_dtypes.bfloat16", DType::BF16),
            ("uint8", DType::U8),
            ("torch.long", DType::I64),
            ("numpy.bool", DType::Bool),
            ("complex64", DType::C64),
        ] {
            assert_eq!(DType::from_name(name), Ok(dtype), "{name}");
        }
        for name in [
            "int",
            "long",
            "np.float",
            "torch.",
            "numpy.long",
            "float128",
            "tf.float32",
            "torch.torch.int",
            "",
        ] {
            assert_eq!(
                DType::from_name(name),
                Err(Error::UnknownDType(name.into()))
            );
        }
        // No alias is another type's own name.
        for (name, _) in ALIASES {
            assert!(DType::ALL.iter().all(|d| d.name() != *name), "{name}");
        }
    }

    #[test]
    fn byte_len_counts_whole_groups_only() {
        assert_eq!(DType::F32.byte_len(3), Some(12));
        assert_eq!(DType::F4.byte_len(6), Some(3));
        assert_eq!(DType::F4.byte_len(5), None);
        assert_eq!(DType::F6E2M3.byte_len(8), Some(6));
        assert_eq!(DType::Q6K.byte_len(512), Some(420));
        assert_eq!(DType::F64.byte_len(u64::MAX), None);
    }
}
