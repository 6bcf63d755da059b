//! Tensor values as the safetensors file they make.

use crate::error::{Code, Failure, Result};
use crate::io::Source;
use modelstore_formats::safetensors::build_header;
use modelstore_tensor::TensorView;

/// A safetensors file that exists only in parts: a header made for the tensors, and their elements where they lie.
pub struct TensorsSource<'a> {
    header: Vec<u8>,
    /// Elements of the tensors that have any, each with where it begins in the file.
    parts: Vec<(u64, &'a [u8])>,
    len: u64,
}

impl<'a> TensorsSource<'a> {
    /// Of named tensors; names must differ.
    pub fn new(tensors: &[(String, TensorView<'a>)]) -> Result<TensorsSource<'a>> {
        let entries: Vec<_> = tensors
            .iter()
            .map(|(name, view)| (name.clone(), view.dtype(), view.shape().clone()))
            .collect();
        let (header, order) = build_header(&entries, None)?;
        let mut parts = Vec::with_capacity(tensors.len());
        let mut at = header.len() as u64;
        for index in order {
            let data = tensors[index].1.data();
            if !data.is_empty() {
                parts.push((at, data));
            }
            at += data.len() as u64;
        }
        Ok(TensorsSource {
            header,
            parts,
            len: at,
        })
    }
}

impl Source for TensorsSource<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut at = offset;
        while out.len() < len {
            let (start, bytes) = match self.parts.partition_point(|(start, _)| *start <= at) {
                0 => (0, self.header.as_slice()),
                next => self.parts[next - 1],
            };
            let rest = usize::try_from(at - start)
                .ok()
                .and_then(|from| bytes.get(from..))
                .filter(|rest| !rest.is_empty())
                .ok_or_else(|| {
                    Failure::new(
                        Code::ERRCODE_INTERNAL_ERROR,
                        "read behind the end of tensors",
                    )
                })?;
            let taken = rest.len().min(len - out.len());
            out.extend_from_slice(&rest[..taken]);
            at += taken as u64;
        }
        Ok(())
    }
}
