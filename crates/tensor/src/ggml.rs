//! The block types of ggml, dequantised to f32.
//!
//! A block contains 32 or 256 numbers as small integers with f16 scales. All arithmetic is in f32, in the order of the
//! reference (gguf.quants), so results agree with it bit for bit. The layouts are public: ggml-common.h.

use crate::small_float::F16;
use crate::{DType, Error, Result};

mod k_quants;
mod legacy;

/// Elements of the largest block.
pub const MAX_BLOCK: usize = 256;

/// Appends the numbers of whole blocks.
pub fn dequantise(dtype: DType, data: &[u8], out: &mut Vec<f32>) -> Result<()> {
    for_each_block(dtype, data, &mut [0.0; MAX_BLOCK], &mut |block| {
        out.extend_from_slice(block)
    })
}

/// Calls `f` with the numbers of each block in order, dequantised into `buffer`.
pub fn for_each_block(
    dtype: DType,
    data: &[u8],
    buffer: &mut [f32; MAX_BLOCK],
    f: &mut dyn FnMut(&[f32]),
) -> Result<()> {
    let decode: fn(&[u8], &mut [f32]) = match dtype {
        DType::Q4_0 => legacy::q4_0,
        DType::Q4_1 => legacy::q4_1,
        DType::Q5_0 => legacy::q5_0,
        DType::Q5_1 => legacy::q5_1,
        DType::Q8_0 => legacy::q8_0,
        DType::Q2K => k_quants::q2_k,
        DType::Q3K => k_quants::q3_k,
        DType::Q4K => k_quants::q4_k,
        DType::Q5K => k_quants::q5_k,
        DType::Q6K => k_quants::q6_k,
        _ => return Err(Error::NotNumeric(dtype)),
    };
    let out = &mut buffer[..dtype.block_elements() as usize];
    for block in data.chunks_exact(dtype.block_bytes() as usize) {
        decode(block, out);
        f(out);
    }
    Ok(())
}

/// Reads the f16 at a byte offset of a block.
#[inline(always)]
fn scale(block: &[u8], at: usize) -> f32 {
    F16.decode(u16::from_le_bytes([block[at], block[at + 1]]))
}
