//! Dispatches from a dtype to generic code, and converts between dtypes.

use crate::dtype::Kind;
use crate::element::{Element, Number};
use crate::{DType, Error, Result, Tensor, TensorView, ggml};

/// Runs `$body` with `$element` as the element type of `$dtype`; `$other` for dtypes without one.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr, _ => $other:expr) => {{
        use $crate::DType as D;
        macro_rules! run {
            ($t:ty) => {{
                type $element = $t;
                $body
            }};
        }
        match $dtype {
            D::Bool => run!($crate::element::Bool),
            D::U8 => run!(u8),
            D::I8 => run!(i8),
            D::U16 => run!(u16),
            D::I16 => run!(i16),
            D::U32 => run!(u32),
            D::I32 => run!(i32),
            D::U64 => run!(u64),
            D::I64 => run!(i64),
            D::F8E4M3 => run!($crate::float8::F8E4M3),
            D::F8E5M2 => run!($crate::float8::F8E5M2),
            D::F16 => run!(half::f16),
            D::BF16 => run!(half::bf16),
            D::F32 => run!(f32),
            D::F64 => run!(f64),
            _ => $other,
        }
    }};
}
pub(crate) use with_element;

/// Elements converted at a time: the buffer fits into the first-level cache.
const BLOCK: usize = 1024;

/// Elements converted between two checks: a millisecond or less.
const CHECK_ELEMENTS: usize = 1 << 18;

/// Returns the elements of a dtype of whole bytes.
#[inline(always)]
pub(crate) fn elements<E: Element>(data: &[u8]) -> impl Iterator<Item = E> + '_ {
    data.chunks_exact(E::BYTES).map(E::load)
}

/// Calls `f` with the elements in order, as doubles, one block at a time. 64-bit integers round to the nearest double.
pub fn for_each_block(view: &TensorView<'_>, f: &mut dyn FnMut(&[f64])) -> Result<()> {
    let mut block = [0f64; BLOCK];
    let data = view.data();
    with_element!(view.dtype(), E => {
        for bytes in data.chunks(BLOCK * E::BYTES) {
            let count = bytes.len() / E::BYTES;
            for (value, element) in block.iter_mut().zip(elements::<E>(bytes)) {
                *value = element.to_f64();
            }
            f(&block[..count]);
        }
    }, _ => {
        let mut singles = [0f32; ggml::MAX_BLOCK];
        ggml::for_each_block(view.dtype(), data, &mut singles, &mut |singles| {
            for (value, &single) in block.iter_mut().zip(singles) {
                *value = f64::from(single);
            }
            f(&block[..singles.len()]);
        })?;
    });
    Ok(())
}

/// Calls `f` with every element in order, as a double.
pub fn to_f64(view: &TensorView<'_>, f: &mut dyn FnMut(f64)) -> Result<()> {
    for_each_block(view, &mut |block| block.iter().for_each(|&v| f(v)))
}

/// Returns all elements as doubles.
pub fn to_f64_vec(view: &TensorView<'_>) -> Result<Vec<f64>> {
    check_numeric(view.dtype())?;
    let mut out = Vec::with_capacity(view.shape().elements() as usize);
    for_each_block(view, &mut |block| out.extend_from_slice(block))?;
    Ok(out)
}

/// Returns all elements as singles, rounded to nearest.
pub fn to_f32_vec(view: &TensorView<'_>) -> Result<Vec<f32>> {
    check_numeric(view.dtype())?;
    let mut out = Vec::with_capacity(view.shape().elements() as usize);
    with_element!(view.dtype(), E => {
        // Floats can represent every number.
        out.extend(elements::<E>(view.data()).filter_map(|e| f32::from_number(e.to_number())));
    }, _ => ggml::dequantise(view.dtype(), view.data(), &mut out)?);
    Ok(out)
}

fn check_numeric(dtype: DType) -> Result<()> {
    if dtype.is_numeric() {
        Ok(())
    } else {
        Err(Error::NotNumeric(dtype))
    }
}

/// Converts a tensor to another dtype, as numpy's `astype`: floats round to nearest even and overflow to infinity (NaN
/// if the format has none), numbers become bool by comparison with 0. What numpy leaves undefined is an error: a float
/// out of range of an integer type, and integers that do not fit.
pub fn cast(view: &TensorView<'_>, to: DType) -> Result<Tensor> {
    cast_checked(view, to, &mut || ())
}

/// Converts like [`astype`], calling `check` regularly, which may unwind.
pub fn cast_checked(view: &TensorView<'_>, to: DType, check: &mut dyn FnMut()) -> Result<Tensor> {
    let from = view.dtype();
    let data = if from == to {
        view.data().to_vec()
    } else if from.kind() == Kind::Quantised && to.is_numeric() && to.kind() != Kind::Quantised {
        let mut singles = Vec::with_capacity(view.shape().elements() as usize * 4);
        let mut blocks = 0usize;
        ggml::for_each_block(
            from,
            view.data(),
            &mut [0f32; ggml::MAX_BLOCK],
            &mut |block| {
                block.iter().for_each(|v| v.store(&mut singles));
                blocks += 1;
                if blocks.is_multiple_of(CHECK_ELEMENTS / ggml::MAX_BLOCK) {
                    check();
                }
            },
        )?;
        if to == DType::F32 {
            singles
        } else {
            with_element!(to, B => cast_elements::<f32, B>(&singles, check)?, _ => singles)
        }
    } else {
        let refused = || Error::CastRefused { from, to };
        with_element!(from, A => with_element!(to, B => cast_elements::<A, B>(view.data(), check)?, _ => return Err(refused())),
            _ => return Err(refused()))
    };
    Tensor::new(to, view.shape().clone(), data)
}

fn cast_elements<A: Element, B: Element>(data: &[u8], check: &mut dyn FnMut()) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len() / A::BYTES * B::BYTES);
    for (nth, block) in data.chunks(CHECK_ELEMENTS * A::BYTES).enumerate() {
        for (index, element) in elements::<A>(block).enumerate() {
            let number = element.to_number();
            B::from_number(number)
                .ok_or_else(|| Error::CastOutOfRange {
                    value: match number {
                        Number::Int(i) => i.to_string(),
                        Number::Float(f) => f.to_string(),
                    },
                    index: (nth * CHECK_ELEMENTS + index) as u64,
                    to: B::DTYPE,
                })?
                .store(&mut out);
        }
        check();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    fn cast_text(from: &str, to: DType) -> Result<String> {
        let mut out = String::new();
        text::format(&cast(&text::parse(from)?.view(), to)?.view(), &mut out)
            .expect("a string takes all");
        Ok(out)
    }

    #[test]
    fn integers_do_not_pass_through_doubles() {
        assert_eq!(
            cast_text("u64:[9223372036854775807,9007199254740993]", DType::I64).as_deref(),
            Ok("i64:[9223372036854775807,9007199254740993]")
        );
        assert!(matches!(
            cast_text("u64:[1,18446744073709551615]", DType::I64),
            Err(Error::CastOutOfRange { index: 1, .. })
        ));
        // 2^61 + 2^37 + 1: rounding to double first would give a tie, and that would round to 2^61.
        assert_eq!(
            cast_text("i64:2305843146652647425", DType::F32).as_deref(),
            Ok("f32:2.3058433e18")
        );
        assert_eq!(
            cast_text("i64:2305843146652647424", DType::F32).as_deref(),
            Ok("f32:2.305843e18")
        );
    }

    #[test]
    fn floats_truncate_and_are_refused_out_of_range() {
        assert_eq!(
            cast_text("[1.9,-1.9,255.9]", DType::I16).as_deref(),
            Ok("i16:[1,-1,255]")
        );
        assert_eq!(
            cast_text("[-0.9,255.9]", DType::U8).as_deref(),
            Ok("u8:[0,255]")
        );
        for text in ["256", "-1", "nan", "inf", "-inf"] {
            assert!(
                matches!(
                    cast_text(text, DType::U8),
                    Err(Error::CastOutOfRange { .. })
                ),
                "{text}"
            );
        }
        assert!(cast_text("f64:9223372036854775808", DType::I64).is_err());
        assert!(cast_text("f64:-9223372036854775808", DType::I64).is_ok());
        assert!(cast_text("f64:18446744073709551616", DType::U64).is_err());
    }

    #[test]
    fn overflow_and_bool() {
        assert_eq!(
            cast_text("[1e6,-1e6]", DType::F16).as_deref(),
            Ok("f16:[Infinity,-Infinity]")
        );
        assert_eq!(
            cast_text("[1e6,-1e6]", DType::F8E4M3).as_deref(),
            Ok("f8_e4m3:[NaN,nan(0xff)]")
        );
        assert_eq!(
            cast_text("[0,-0,0.5,nan]", DType::Bool).as_deref(),
            Ok("bool:[false,false,true,true]")
        );
        assert_eq!(
            cast_text("bool:[f,t]", DType::BF16).as_deref(),
            Ok("bf16:[0,1]")
        );
    }

    #[test]
    fn opaque_and_quantised_targets_are_refused() {
        assert_eq!(
            cast_text("c64(1):\\x0000000000000000", DType::C64).as_deref(),
            Ok("c64(1):\\x0000000000000000")
        );
        assert!(matches!(
            cast_text("c64(1):\\x0000000000000000", DType::F32),
            Err(Error::CastRefused { .. })
        ));
        assert!(matches!(
            cast_text("1", DType::F4),
            Err(Error::CastRefused { .. })
        ));
        let q8 = format!("q8_0(32):\\x003c{}", "02".repeat(32));
        assert!(matches!(
            cast_text(&q8, DType::Q4_0),
            Err(Error::CastRefused { .. })
        ));
        assert!(cast_text(&q8, DType::I8).is_ok_and(|t| t.starts_with("i8:[2,2,2")));
    }
}
