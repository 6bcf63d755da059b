//! Type modifiers: `tensor(bf16)`, `tensor(f32,768)`, `tensor(f32,'*',768)` packed into the 31 bits PostgreSQL
//! gives a type modifier.
//!
//! The low 6 bits are the dtype code, 0 for any. The 25 bits above them encode the allowed shapes:
//!
//! | value | shape |
//! | --- | --- |
//! | 0 | any |
//! | 1 to 2^24 - 1 | rank 1 of that dimension plus one; 1 stands for dimension 0 |
//! | 2^24 plus a code of up to 23 bits | two or more dimensions, or one that may vary |
//!
//! The code is a sentinel bit, then for each dimension 4 bits `e` and, unless `e` is 14 (dimension 0) or 15 (any), a
//! number in Elias' delta code that gives the factor of `2^e`. Sizes of real models (768, 4096, 11008) take 5 to 13
//! bits each. The error for a modifier that does not fit suggests an equivalent CHECK constraint.

use crate::{DType, Error, Result, Shape};

const SHAPE_BITS: u32 = 25;
const CODE_BITS: u32 = 24;
const ZERO: u32 = 14;
const ANY: u32 = 15;

/// The requirements of a type modifier.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Typmod {
    /// The element type, or any.
    pub dtype: Option<DType>,
    /// The dimensions, each a number or any; `None` for any shape.
    pub dims: Option<Vec<Option<u64>>>,
}

impl Typmod {
    /// Parses the words in the parentheses of a type name: an optional dtype first, then dimensions, each a number, `*`
    /// or `-1` for any.
    pub fn parse(words: &[&str]) -> Result<Typmod> {
        let mut words = words;
        let mut typmod = Typmod::default();
        if let Some((first, rest)) = words.split_first()
            && first.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            typmod.dtype = Some(DType::from_name(first)?);
            words = rest;
        }
        if !words.is_empty() {
            typmod.dims = Some(words.iter().map(|w| dimension(w)).collect::<Result<_>>()?);
        }
        if words.len() > Shape::MAX_RANK {
            return Err(Error::RankTooLarge(words.len()));
        }
        Ok(typmod)
    }

    /// Packs it; the result is never negative.
    pub fn pack(&self) -> Result<i32> {
        let dtype = self.dtype.map_or(0, |d| u32::from(d.code()));
        let too_long = || Error::TypmodTooLong(self.to_string());
        let shape = match self.dims.as_deref() {
            None => 0,
            Some([Some(dim)]) => u32::try_from(dim + 1)
                .ok()
                .filter(|&s| s < 1 << CODE_BITS)
                .ok_or_else(too_long)?,
            Some(dims) => (1 << CODE_BITS) | encode(dims).ok_or_else(too_long)?,
        };
        i32::try_from(shape << 6 | dtype).map_err(|_| too_long())
    }

    /// Unpacks the result of [`Typmod::pack`]; any negative value means no modifier.
    pub fn unpack(typmod: i32) -> Result<Typmod> {
        let Ok(bits) = u32::try_from(typmod) else {
            return Ok(Typmod::default());
        };
        let dtype = match (bits & 63) as u8 {
            0 => None,
            code => Some(DType::from_code(code)?),
        };
        let shape = bits >> 6;
        let dims = match shape {
            0 => None,
            s if s < 1 << CODE_BITS => Some(vec![Some(u64::from(s - 1))]),
            s => Some(decode(s & ((1 << CODE_BITS) - 1)).ok_or(Error::InvalidTypmod(typmod))?),
        };
        Ok(Typmod { dtype, dims })
    }

    /// Returns whether a tensor of this dtype and shape is allowed.
    pub fn check(&self, dtype: DType, shape: &Shape) -> Result<()> {
        let dtype_fits = self.dtype.is_none_or(|d| d == dtype);
        let shape_fits = self.dims.as_ref().is_none_or(|dims| {
            dims.len() == shape.rank()
                && dims
                    .iter()
                    .zip(shape.dims())
                    .all(|(want, have)| want.is_none_or(|w| w == *have))
        });
        if dtype_fits && shape_fits {
            Ok(())
        } else {
            Err(Error::TypmodMismatch {
                expected: self.to_string(),
                dtype,
                shape: shape.to_string(),
                converts_to: self.dtype.filter(|_| shape_fits),
            })
        }
    }
}

/// Formats it as after the type's name, with parentheses; empty if there are no requirements.
impl std::fmt::Display for Typmod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words: Vec<String> = self.dtype.iter().map(|d| d.name().to_owned()).collect();
        for dim in self.dims.iter().flatten() {
            words.push(dim.map_or_else(|| "'*'".to_owned(), |d| d.to_string()));
        }
        if words.is_empty() {
            Ok(())
        } else {
            write!(f, "({})", words.join(","))
        }
    }
}

fn dimension(word: &str) -> Result<Option<u64>> {
    match word {
        "*" | "-1" => Ok(None),
        w => w
            .parse::<u64>()
            .ok()
            .filter(|&d| d < 1 << 62)
            .map(Some)
            .ok_or_else(|| Error::InvalidTypmodWord(w.chars().take(64).collect())),
    }
}

/// Bits are appended below the sentinel; `None` if they do not fit.
fn encode(dims: &[Option<u64>]) -> Option<u32> {
    let mut code: u32 = 1;
    let mut used = 0;
    let mut push = |value: u32, bits: u32| {
        used += bits;
        if used >= CODE_BITS {
            return None;
        }
        code = code << bits | value;
        Some(())
    };
    for dim in dims {
        match dim {
            None => push(ANY, 4)?,
            Some(0) => push(ZERO, 4)?,
            Some(dim) => {
                let e = dim.trailing_zeros().min(ZERO - 1);
                let m = u32::try_from(dim >> e).ok()?;
                // Odd below the cap, so its lowest bit need not be stored.
                let v = if e < ZERO - 1 { (m >> 1) + 1 } else { m };
                let n = v.ilog2() + 1;
                let l = n.ilog2();
                push(e, 4)?;
                push(0, l)?;
                push(n, l + 1)?;
                push(v & !(1 << (n - 1)), n - 1)?;
            }
        }
    }
    Some(code)
}

fn decode(code: u32) -> Option<Vec<Option<u64>>> {
    let mut left = code.checked_ilog2()?;
    let mut dims = Vec::new();
    let pull = |bits: u32, left: &mut u32| {
        *left = left.checked_sub(bits)?;
        Some(code >> *left & ((1 << bits) - 1))
    };
    while left > 0 {
        match pull(4, &mut left)? {
            ANY => dims.push(None),
            ZERO => dims.push(Some(0)),
            e => {
                let mut l = 0;
                while pull(1, &mut left)? == 0 {
                    l += 1;
                }
                let n = 1 << l | pull(l, &mut left)?;
                if n > SHAPE_BITS {
                    return None;
                }
                let v: u32 = 1 << (n - 1) | pull(n - 1, &mut left)?;
                let m = if e < ZERO - 1 { ((v - 1) << 1) | 1 } else { v };
                dims.push(Some(u64::from(m) << e));
            }
        }
    }
    // One dimension has its own form.
    if matches!(dims[..], [] | [Some(_)]) {
        None
    } else {
        Some(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(words: &[&str]) {
        let typmod = Typmod::parse(words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
        let packed = typmod.pack().unwrap_or_else(|e| panic!("{words:?}: {e}"));
        assert!(packed >= 0);
        assert_eq!(Typmod::unpack(packed), Ok(typmod), "{words:?}");
    }

    #[test]
    fn common_modifiers_round_trip() {
        for words in [
            &["bf16"][..],
            &["768"],
            &["0"],
            &["f32", "16777213"],
            &["f32", "*", "768"],
            &["*", "*", "*", "*"],
            &["F32", "4096", "4096"],
            &["bf16", "32000", "4096"],
            &["f16", "11008", "4096"],
            &["i64", "0", "3"],
            &["u8", "*", "224", "224"],
            &["f32", "1", "1", "1", "1"],
            &[],
        ] {
            round_trip(words);
        }
        assert_eq!(Typmod::unpack(-1), Ok(Typmod::default()));
    }

    #[test]
    fn every_small_matrix_round_trips() {
        for a in 0..200u64 {
            for b in 0..200u64 {
                let typmod = Typmod {
                    dtype: Some(DType::F32),
                    dims: Some(vec![Some(a), Some(b)]),
                };
                if let Ok(packed) = typmod.pack() {
                    assert_eq!(Typmod::unpack(packed), Ok(typmod));
                } else {
                    assert!(a.max(b) >= 15, "{a} x {b} should fit");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(
            Typmod::parse(&["f32", "30522", "384"])
                .and_then(|t| t.pack())
                .is_err()
        );
        assert!(Typmod::parse(&["f33"]).is_err());
        assert!(Typmod::parse(&["f32", "x"]).is_err());
        assert!(Typmod::parse(&["f32", "-2"]).is_err());
        assert!(Typmod::parse(&["1"; 33]).is_err());
    }

    #[test]
    fn any_bits_unpack_or_are_refused() {
        for bits in (0..i32::MAX).step_by(9973) {
            if let Ok(typmod) = Typmod::unpack(bits) {
                assert_eq!(typmod.pack().and_then(Typmod::unpack), Ok(typmod), "{bits}");
            }
        }
    }

    #[test]
    fn check_compares_dtype_and_shape() {
        let typmod = Typmod::parse(&["f32", "*", "3"]).expect("a modifier");
        let shape = |d: &[u64]| Shape::new(d).expect("a shape");
        assert_eq!(typmod.check(DType::F32, &shape(&[7, 3])), Ok(()));
        assert!(typmod.check(DType::F16, &shape(&[7, 3])).is_err());
        assert!(typmod.check(DType::F32, &shape(&[7, 4])).is_err());
        assert!(typmod.check(DType::F32, &shape(&[3])).is_err());
    }
}
