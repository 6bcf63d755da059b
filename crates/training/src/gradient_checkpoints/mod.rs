//! Gradient checkpointing: which layers to recompute in the backward pass instead of keeping their activations.
//!
//! A chain of layers is split into segments (Chen et al. 2016, arXiv:1604.06174; on exact search for splits by dynamic
//! programming on chains: Beaumont, Herrmann et al. 2019, arXiv:1911.13214). A segment is one of
//!
//! - [`Policy::Store`]: the activations of its layers are kept from forward to backward pass, no extra work;
//! - [`Policy::Recompute`]: only its input is kept, which is the output of the previous layer. The backward pass runs
//!   the layers forward once more, and then holds all their activations.
//!
//! The backward pass goes from the last segment to the first and frees each when it is done. So the memory in use at a
//! segment is what the segments before it keep, and its own: the activations, and for a recomputed segment also its
//! input. The peak is the largest of these. It excludes weights, gradients and allocator overhead. Recomputation is one
//! level deep: a recomputed segment is not split again.

mod bounds;
mod search;

use crate::{Error, Result};

pub use search::plan;

/// Maximum number of layers in a chain.
pub const MAX_LAYERS: usize = 4096;

/// Maximum number of partial plans that a search keeps, about 25 MB.
pub const MAX_PARTIAL_PLANS: usize = 1 << 20;

/// The costs of one layer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Bytes of everything that the layer's backward pass needs, if it is kept.
    pub activation_bytes: u64,
    /// Bytes of the output, which is the next layer's input.
    pub output_bytes: u64,
    /// Work of the forward pass in any unit, such as FLOPs.
    pub forward_cost: u64,
}

/// What happens to the activations of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They are kept from forward to backward pass.
    Store,
    /// They are recomputed in the backward pass.
    Recompute,
}

/// A plan's decision for one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What happens to its activations.
    pub policy: Policy,
    /// Its segment, from 0. Consecutive stored layers are one segment.
    pub segment: usize,
    /// Bytes kept from forward to backward pass: its activations or, for the first layer of a recomputed segment, its
    /// input.
    pub kept_bytes: u64,
    /// Work that recomputing it adds.
    pub extra_work: u64,
}

/// A plan for a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One entry per layer.
    pub layers: Vec<PlannedLayer>,
    /// The largest number of bytes in use at once.
    pub peak_bytes: u64,
    /// Work that all recomputation adds.
    pub extra_work: u64,
    /// Work of the forward pass with all recomputation; the backward pass proper is the same in every plan.
    pub total_work: u64,
    /// Whether this is proven to be the best plan; if not, it is a good one within the budget.
    pub exact: bool,
}

/// A segment of a plan: layers `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    start: usize,
    end: usize,
    policy: Policy,
}

/// A chain with prefix sums for the plans. No sum of any plan overflows.
struct Chain<'a> {
    layers: &'a [Layer],
    /// Bytes of each layer's input.
    inputs: Vec<u64>,
    /// Activation bytes of all layers before each.
    activations: Vec<u64>,
    /// Work of all layers before each.
    work: Vec<u64>,
}

impl<'a> Chain<'a> {
    fn new(input_bytes: u64, layers: &'a [Layer]) -> Result<Chain<'a>> {
        if layers.is_empty() {
            return Err(Error::NoLayers);
        }
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers(layers.len()));
        }
        let outputs = layers.iter().map(|layer| layer.output_bytes);
        let inputs: Vec<u64> = std::iter::once(input_bytes).chain(outputs).collect();
        let activations = sums(layers.iter().map(|layer| layer.activation_bytes));
        let work = sums(layers.iter().map(|layer| layer.forward_cost));
        // A plan keeps each activation and each input at most once, and does each layer's work at most twice.
        let all_inputs = sums(inputs.iter().copied());
        let (Some(activations), Some(all_inputs)) = (activations, all_inputs) else {
            return Err(Error::CostOverflow("memory"));
        };
        let (a, i) = (last(&activations), last(&all_inputs));
        a.checked_add(i).ok_or(Error::CostOverflow("memory"))?;
        let work = work.ok_or(Error::CostOverflow("work"))?;
        let doubled = last(&work).checked_mul(2);
        doubled.ok_or(Error::CostOverflow("work"))?;
        Ok(Chain {
            layers,
            inputs,
            activations,
            work,
        })
    }

    fn len(&self) -> usize {
        self.layers.len()
    }

    /// Returns the activation bytes of the layers `start..end`.
    fn activations(&self, start: usize, end: usize) -> u64 {
        self.activations[end] - self.activations[start]
    }

    /// Returns the work of the layers `start..end`.
    fn work(&self, start: usize, end: usize) -> u64 {
        self.work[end] - self.work[start]
    }

    /// Returns the plan with these segments, which together are the chain.
    fn plan(&self, segments: &[Segment]) -> Plan {
        let mut layers: Vec<PlannedLayer> = Vec::with_capacity(self.len());
        let (mut kept, mut peak, mut extra_work) = (0u64, 0u64, 0u64);
        let mut number = 0;
        for segment in segments {
            let recompute = segment.policy == Policy::Recompute;
            let follows_store = layers.last().is_some_and(|l| l.policy == Policy::Store);
            if !layers.is_empty() && (recompute || !follows_store) {
                number += 1;
            }
            for index in segment.start..segment.end {
                let layer = &self.layers[index];
                let kept_bytes = match segment.policy {
                    Policy::Store => layer.activation_bytes,
                    Policy::Recompute if index == segment.start => self.inputs[index],
                    Policy::Recompute => 0,
                };
                let extra = if recompute { layer.forward_cost } else { 0 };
                kept += kept_bytes;
                extra_work += extra;
                layers.push(PlannedLayer {
                    policy: segment.policy,
                    segment: number,
                    kept_bytes,
                    extra_work: extra,
                });
            }
            let transient = match segment.policy {
                Policy::Store => 0,
                Policy::Recompute => self.activations(segment.start, segment.end),
            };
            peak = peak.max(kept + transient);
        }
        Plan {
            layers,
            peak_bytes: peak,
            extra_work,
            total_work: last(&self.work) + extra_work,
            exact: false,
        }
    }
}

/// Returns the sum before each item and of all; `None` on overflow.
fn sums(items: impl Iterator<Item = u64>) -> Option<Vec<u64>> {
    let mut all = vec![0u64];
    for item in items {
        all.push(last(&all).checked_add(item)?);
    }
    Some(all)
}

fn last(sums: &[u64]) -> u64 {
    sums.last().copied().unwrap_or(0)
}
