//! Tensor values as a safetensors file.

use crate::error::{Code, Failure, Result};
use modelstore_formats::safetensors::{Header, TensorEntry, build_header};
use modelstore_tensor::TensorView;

/// A safetensors file that is never built as a whole: a generated header, and the elements where they are.
pub struct TensorsSource<'a> {
    /// The length of the header and its JSON.
    pub head: Vec<u8>,
    /// The parsed header.
    pub header: Header,
    /// Elements of the non-empty tensors, each with its offset in the file.
    parts: Vec<(u64, &'a [u8])>,
    len: u64,
}

impl<'a> TensorsSource<'a> {
    /// Builds the file of named tensors; names must differ.
    pub fn new(tensors: &[(String, TensorView<'a>)]) -> Result<TensorsSource<'a>> {
        let entries: Vec<_> = tensors
            .iter()
            .map(|(name, view)| (name.clone(), view.dtype(), view.shape().clone()))
            .collect();
        let (head, order) = build_header(&entries, None)?;
        let data_offset = head.len() as u64;
        let (mut parts, mut in_order) = (Vec::new(), Vec::with_capacity(order.len()));
        let mut at = 0;
        for index in order {
            let (name, view) = &tensors[index];
            let data = view.data();
            if !data.is_empty() {
                parts.push((data_offset + at, data));
            }
            let start = at;
            at += data.len() as u64;
            in_order.push(TensorEntry {
                name: name.clone(),
                dtype: view.dtype(),
                shape: view.shape().clone(),
                start,
                end: at,
            });
        }
        Ok(TensorsSource {
            head,
            header: Header {
                tensors: in_order,
                metadata: None,
                data_offset,
            },
            parts,
            len: data_offset + at,
        })
    }
}

impl modelstore_chunk::Source<Failure> for TensorsSource<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut at = offset;
        while out.len() < len {
            let (start, bytes) = match self.parts.partition_point(|(start, _)| *start <= at) {
                0 => (0, self.head.as_slice()),
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
