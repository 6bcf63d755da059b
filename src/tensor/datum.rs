//! Passes tensor values between PostgreSQL and Rust.
//!
//! The bytes of a value after its length word are exactly `modelstore_tensor::layout`: 4 bytes of header, the
//! dimensions, the elements. With the length word in front the elements start on an 8-byte boundary.

use crate::error::{Code, Failure, Result};
use crate::pg::varlena::{Building, Detoasted, Toasted, varlena_argument, varlena_result};
use modelstore_tensor::layout::{self, Head};
use modelstore_tensor::{DType, Shape, Tensor, TensorView};

/// A whole tensor: not copied if it is inline, copied once if it was toasted.
pub struct TensorIn<'a>(pub Detoasted<'a>);

/// A tensor of which only the header or a slice is needed: reads only the TOAST pieces it needs.
pub struct TensorRef<'a>(pub Toasted<'a>);

/// A result.
pub struct TensorOut(pub Building);

varlena_argument!(TensorIn, Detoasted, "tensor");
varlena_argument!(TensorRef, Toasted, "tensor");
varlena_result!(TensorOut, "tensor", crate::pg::extension::types().tensor);

impl TensorIn<'_> {
    /// Returns a checked view of its bytes.
    pub fn view(&self) -> Result<TensorView<'_>> {
        layout::read(self.0.bytes()).map_err(corrupted)
    }
}

impl TensorRef<'_> {
    /// Returns dtype and shape, from the first piece of the value.
    pub fn head(&self) -> Result<Head> {
        let prefix = self.0.slice(0, layout::MAX_HEADER);
        let head = layout::read_header(prefix.bytes()).map_err(corrupted)?;
        let expected =
            head.shape.byte_len(head.dtype).map_err(corrupted)? + head.payload_offset as u64;
        if expected != self.0.len() as u64 {
            return Err(Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                "stored tensor has the wrong length",
            )
            .detail(format!(
                "Its header asks for {expected} bytes; there are {}.",
                self.0.len()
            )));
        }
        Ok(head)
    }
}

impl TensorOut {
    /// Creates a tensor of zeros; its elements are then filled in place.
    pub fn zeroed(dtype: DType, shape: &Shape) -> Result<TensorOut> {
        let bytes = shape.byte_len(dtype)?;
        if bytes > MAX_VALUE_BYTES {
            return Err(too_large(dtype, shape));
        }
        let header = layout::write_header(dtype, shape);
        let mut building = Building::zeroed(header.len() + bytes as usize)?;
        building.bytes_mut()[..header.len()].copy_from_slice(&header);
        Ok(TensorOut(building))
    }

    /// Copies the bytes of a whole value that has been parsed without an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<TensorOut> {
        if bytes.len() as u64 > MAX_VALUE_BYTES + layout::MAX_HEADER as u64 {
            let head = layout::read_header(bytes)?;
            return Err(too_large(head.dtype, &head.shape));
        }
        Ok(TensorOut(Building::from_parts(&[bytes])?))
    }

    /// Copies a view.
    pub fn from_view(view: &TensorView<'_>) -> Result<TensorOut> {
        let mut out = TensorOut::zeroed(view.dtype(), view.shape())?;
        out.elements_mut(view.shape().rank())
            .copy_from_slice(view.data());
        Ok(out)
    }

    /// Copies an owned tensor.
    pub fn from_tensor(tensor: &Tensor) -> Result<TensorOut> {
        TensorOut::from_view(&tensor.view())
    }

    /// Returns the bytes of the elements, to be filled.
    pub fn elements_mut(&mut self, rank: usize) -> &mut [u8] {
        &mut self.0.bytes_mut()[layout::header_len(rank)..]
    }
}

/// Maximum size of a value: text output and pg_dump fail for larger ones, which belong in the store.
pub const MAX_VALUE_BYTES: u64 = 512 * 1024 * 1024;

fn too_large(dtype: DType, shape: &Shape) -> Failure {
    Failure::new(
        Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("tensor of shape {shape} and dtype {dtype} is too large for one value"),
    )
    .detail(format!(
        "A value holds at most {MAX_VALUE_BYTES} bytes; larger tensors stay in the store."
    ))
    .hint("SELECT modelstore.get_tensor_slice(model_id, weight_name, '0:10');")
}

/// Stored bytes that cannot be parsed are corrupt, whatever the pure crate's error says.
fn corrupted(e: modelstore_tensor::Error) -> Failure {
    let failure = Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("stored tensor is corrupted: {e}"),
    );
    match e.detail() {
        Some(detail) => failure.detail(detail),
        None => failure,
    }
}
