//! A slice resolved against a shape: the runs of elements it selects, in order.

use crate::{Error, Result, Shape, TensorView};

/// The part of a slice for one dimension: `count` indices from `start`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    start: u64,
    count: u64,
    step: u64,
    dropped: bool,
}

impl Axis {
    pub(crate) fn whole(size: u64) -> Axis {
        Axis::range(0, size, 1)
    }

    pub(crate) fn index(start: u64) -> Axis {
        Axis {
            dropped: true,
            ..Axis::range(start, 1, 1)
        }
    }

    pub(crate) fn range(start: u64, count: u64, step: u64) -> Axis {
        // For one index the step does not matter, and 1 keeps it part of a longer run.
        let step = if count <= 1 { 1 } else { step };
        Axis {
            start,
            count,
            step,
            dropped: false,
        }
    }
}

/// The elements that a slice selects of a tensor of a known shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The shape of the result.
    pub shape: Shape,
    source: Shape,
    axes: Vec<Axis>,
    /// Dimensions before this one are iterated; it and all after it are one run.
    outer: usize,
    /// Elements between neighbours of each dimension.
    strides: Vec<u64>,
}

impl Selection {
    /// Combines one axis per dimension, each within it.
    pub(crate) fn new(source: Shape, axes: Vec<Axis>) -> Result<Selection> {
        let dims: Vec<u64> = axes
            .iter()
            .filter(|a| !a.dropped)
            .map(|a| a.count)
            .collect();
        let mut strides = vec![1u64; axes.len()];
        for i in (1..axes.len()).rev() {
            // Only tensors without elements could overflow, and nothing is read of them.
            strides[i - 1] = strides[i].saturating_mul(source.dims()[i].max(1));
        }
        let whole = axes
            .iter()
            .zip(source.dims())
            .rev()
            .take_while(|&(axis, &size)| axis.count == size)
            .count();
        // The dimension before the whole ones still belongs to the run if it has no gaps.
        let mut outer = axes.len() - whole;
        if outer > 0 && axes[outer - 1].step == 1 {
            outer -= 1;
        }
        Ok(Selection {
            shape: Shape::new(&dims)?,
            source,
            axes,
            outer,
            strides,
        })
    }

    /// Returns the shape it selects from.
    pub fn source(&self) -> &Shape {
        &self.source
    }

    /// Returns the runs of contiguous source elements in the order of the result: first element and number of elements.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        Runs {
            selection: self,
            indices: [0; Shape::MAX_RANK],
            next: self.bounds().map(|(first, _)| first),
            length: self.axes[self.outer..].iter().map(|a| a.count).product(),
        }
    }

    /// Returns the first element and one past the last; `None` if nothing is selected.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        if self.shape.elements() == 0 {
            return None;
        }
        let (mut first, mut last) = (0, 0);
        for (axis, stride) in self.axes.iter().zip(&self.strides) {
            first += axis.start * stride;
            last += (axis.start + (axis.count - 1) * axis.step) * stride;
        }
        Some((first, last + 1))
    }

    /// Returns whether the elements are contiguous: at most one run.
    pub fn is_contiguous(&self) -> bool {
        self.bounds()
            .is_none_or(|(first, end)| end - first == self.shape.elements())
    }
}

struct Runs<'a> {
    selection: &'a Selection,
    indices: [u64; Shape::MAX_RANK],
    next: Option<u64>,
    length: u64,
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let first = self.next?;
        let mut at = first;
        let mut dim = self.selection.outer;
        self.next = loop {
            let Some(before) = dim.checked_sub(1) else {
                break None;
            };
            dim = before;
            let axis = &self.selection.axes[dim];
            let stride = self.selection.strides[dim] * axis.step;
            if self.indices[dim] + 1 < axis.count {
                self.indices[dim] += 1;
                break Some(at + stride);
            }
            at -= self.indices[dim] * stride;
            self.indices[dim] = 0;
        };
        Some((first, self.length))
    }
}

/// Appends the selected elements of a tensor. For dtypes of several elements per group, every run must consist of whole
/// groups.
pub fn gather(selection: &Selection, view: &TensorView<'_>, out: &mut Vec<u8>) -> Result<()> {
    if selection.source != *view.shape() {
        return Err(Error::SelectionShape {
            expected: selection.source.to_string(),
            actual: view.shape().to_string(),
        });
    }
    let dtype = view.dtype();
    let group = dtype.block_elements();
    let partial = || Error::SlicePartialBlock { dtype };
    let total = selection.shape.byte_len(dtype).map_err(|_| partial())?;
    // Checked before anything is appended; starts and lengths of all runs are sums of these.
    if group > 1
        && selection
            .runs()
            .any(|(first, count)| first % group != 0 || count % group != 0)
    {
        return Err(partial());
    }
    out.reserve(total as usize);
    let data = view.data();
    match (dtype.element_bytes(), selection.runs().next()) {
        (Some(1), Some((_, 1))) => gather_single::<1>(selection, data, out),
        (Some(2), Some((_, 1))) => gather_single::<2>(selection, data, out),
        (Some(4), Some((_, 1))) => gather_single::<4>(selection, data, out),
        (Some(8), Some((_, 1))) => gather_single::<8>(selection, data, out),
        _ => {
            let bytes = dtype.block_bytes();
            for (first, count) in selection.runs() {
                let start = (first / group * bytes) as usize;
                out.extend_from_slice(&data[start..][..(count / group * bytes) as usize]);
            }
        }
    }
    Ok(())
}

/// Runs of one element are common (a column, a step), and copied fastest as a value of known size.
fn gather_single<const BYTES: usize>(selection: &Selection, data: &[u8], out: &mut Vec<u8>) {
    let (elements, _) = data.as_chunks::<BYTES>();
    out.extend(
        selection
            .runs()
            .flat_map(|(first, _)| elements[first as usize]),
    );
}
