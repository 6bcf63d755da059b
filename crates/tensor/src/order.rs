//! A total order of tensors that agrees with equality of bits: first the dtype by its stored code, then the number of
//! dimensions, then the dimensions, then the elements in row-major order. Integers compare as numbers, floats as the
//! total order of IEEE 754 (-NaN, -Infinity, ..., -0, 0, ..., Infinity, NaN), all others as bytes.

use crate::DType;
use crate::dtype::Kind;
use crate::layout::Head;
use std::cmp::Ordering;

/// Compares two tensors by their headers.
pub fn heads(a: &Head, b: &Head) -> Ordering {
    let dims = || a.shape.dims().cmp(b.shape.dims());
    a.dtype
        .code()
        .cmp(&b.dtype.code())
        .then_with(|| a.shape.rank().cmp(&b.shape.rank()))
        .then_with(dims)
}

/// Compares as many whole elements of one dtype; for opaque bytes, the shorter part and then the lengths.
pub fn elements(dtype: DType, a: &[u8], b: &[u8]) -> Ordering {
    /// Comparing slices for equality is much faster than finding the byte that differs.
    const BLOCK: usize = 4096;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        if a == b {
            continue;
        }
        let Some(differs) = a.iter().zip(b).position(|(a, b)| a != b) else {
            break;
        };
        // Elements of at most 8 bytes do not cross the end of a block.
        let width = dtype.element_bytes().unwrap_or(1);
        let start = differs / width * width;
        let element = |bytes: &[u8]| bytes[start..].iter().take(width).rev().fold(0, push);
        return match dtype.kind() {
            Kind::Float => magnitude(element(a), width).cmp(&magnitude(element(b), width)),
            Kind::Int if is_signed(dtype) => {
                signed(element(a), width).cmp(&signed(element(b), width))
            }
            Kind::Int | Kind::Bool => element(a).cmp(&element(b)),
            Kind::Quantised | Kind::Opaque => a[differs].cmp(&b[differs]),
        };
    }
    a.len().cmp(&b.len())
}

fn push(value: u64, byte: &u8) -> u64 {
    value << 8 | u64::from(*byte)
}

fn is_signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

/// Reads the number of this many bytes in two's complement.
fn signed(bits: u64, width: usize) -> i64 {
    let unused = 64 - 8 * width as u32;
    (bits << unused) as i64 >> unused
}

/// Returns a number that sorts like the total order of IEEE 754: among negative floats the larger magnitude comes
/// first.
fn magnitude(bits: u64, width: usize) -> i64 {
    let number = signed(bits, width);
    if number < 0 {
        number ^ (i64::MAX >> (64 - 8 * width as u32))
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layout, text};

    fn compare(a: &str, b: &str) -> Ordering {
        let (a, b) = (text::parse(a).unwrap(), text::parse(b).unwrap());
        let (a_bytes, b_bytes) = (layout::write(&a.view()), layout::write(&b.view()));
        let head = |bytes: &[u8]| layout::read_header(bytes).unwrap();
        heads(&head(&a_bytes), &head(&b_bytes))
            .then_with(|| elements(a.dtype(), a.data(), b.data()))
    }

    #[test]
    fn every_kind_in_its_order() {
        let ladders: &[&[&str]] = &[
            &[
                "bool:[false]",
                "bool:[true]",
                "u8:0",
                "u8:[255]",
                "i8:-1",
                "f16:1",
                "f32:1",
                "f64:0",
                "f64:[0]",
            ],
            &[
                "[-nan]",
                "[-inf]",
                "[-1e38]",
                "[-1]",
                "[-1e-45]",
                "[-0]",
                "[0]",
                "[1e-45]",
                "[1]",
                "[inf]",
                "[nan]",
                "[nan(0x7fc00001)]",
            ],
            &[
                "f64:[-nan]",
                "f64:[-inf]",
                "f64:[-1]",
                "f64:[-0]",
                "f64:[0]",
                "f64:[5e-324]",
                "f64:[inf]",
                "f64:[nan]",
            ],
            &[
                "bf16:[-2]",
                "bf16:[-1]",
                "bf16:[0]",
                "bf16:[1]",
                "bf16:[256]",
            ],
            &["f8_e4m3:[-1]", "f8_e4m3:[0]", "f8_e4m3:[0.5]"],
            &["i8:[-128]", "i8:[-1]", "i8:[0]", "i8:[127]"],
            &["i16:[-129]", "i16:[-128]", "i16:[255]", "i16:[256]"],
            &[
                "i64:[-9223372036854775808]",
                "i64:[-1]",
                "i64:[0]",
                "i64:[256]",
                "i64:[9223372036854775807]",
            ],
            &["u64:[1]", "u64:[256]", "u64:[18446744073709551615]"],
            &[
                "[9]",
                "[0,0]",
                "[0,1]",
                "[1,0]",
                "[[9]]",
                "[[0,0]]",
                "[[9],[9]]",
            ],
            &["f4(2):\\x01", "f4(2):\\xff", "f4(4):\\x0000"],
            &["c64(1):\\x0000000000000001", "c64(1):\\x0100000000000000"],
        ];
        for ladder in ladders {
            let sorted: Vec<_> = (0..ladder.len()).collect();
            for &i in &sorted {
                for &j in &sorted {
                    assert_eq!(
                        compare(ladder[i], ladder[j]),
                        i.cmp(&j),
                        "{} {}",
                        ladder[i],
                        ladder[j]
                    );
                }
            }
        }
    }

    #[test]
    fn a_difference_far_behind() {
        for width in [1usize, 2, 4, 8] {
            let dtype = [DType::I8, DType::I16, DType::I32, DType::I64][width.ilog2() as usize];
            let a = vec![0u8; 40_000];
            for at in [0, 4095, 4096, 12_345, 39_999] {
                let mut b = a.clone();
                b[at] = 0x80;
                // Negative where the byte holds the sign.
                let expected = if at % width == width - 1 {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
                assert_eq!(elements(dtype, &a, &b), expected, "{width} {at}");
                assert_eq!(elements(dtype, &b, &a), expected.reverse());
            }
            assert_eq!(elements(dtype, &a, &a), Ordering::Equal);
        }
    }
}
