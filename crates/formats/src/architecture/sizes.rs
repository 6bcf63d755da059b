//! Sizes of a model, from shapes if possible, else from the configuration.

use super::WeightInfo;
use super::config::Config;
use super::family::Family;
use super::path::Path;

/// The weights of a model with their parsed names and their components.
pub(super) struct Parts<'a> {
    pub(super) weights: &'a [WeightInfo<'a>],
    pub(super) paths: &'a [Path<'a>],
    /// `None` also for weights outside the family's stacks that do not belong to the model as a whole.
    pub(super) components: &'a [Option<&'static str>],
    /// Whether the weight is in one of the family's stacks.
    pub(super) in_stack: &'a [bool],
}

impl<'a> Parts<'a> {
    /// Returns the dimensions of the first weight of a stack with this module.
    fn of_module(&self, module: &str) -> Option<&'a [u64]> {
        let found = (0..self.weights.len()).find(|&i| {
            let path = &self.paths[i];
            self.in_stack[i] && path.module == module && matches!(path.leaf, "weight" | "gamma")
        })?;
        Some(self.weights[found].dims)
    }

    /// Returns the dimensions of the first matrix of a component.
    fn of_component(&self, component: &str) -> Option<&'a [u64]> {
        let found = (0..self.weights.len()).find(|&i| {
            self.components[i] == Some(component)
                && self.paths[i].leaf == "weight"
                && self.weights[i].dims.len() == 2
        })?;
        Some(self.weights[found].dims)
    }

    /// Returns the size to which a matrix of a component maps the hidden size.
    pub(super) fn width(&self, component: &str, hidden: Option<u64>) -> Option<u64> {
        other_dim(self.of_component(component)?, hidden?)
    }
}

/// Sizes that do not depend on heads.
#[derive(Default)]
pub(super) struct Sizes {
    pub(super) hidden: Option<u64>,
    pub(super) vocab: Option<u64>,
    pub(super) intermediate: Option<u64>,
    pub(super) max_positions: Option<u64>,
}

impl Sizes {
    pub(super) fn new(family: Option<Family>, parts: &Parts<'_>, config: &Config<'_>) -> Sizes {
        let token = parts.of_component("embedding.token");
        let position = parts.of_component("embedding.position");
        // Prefer the norm: an embedding can be narrower than the layers, and a packed one seems narrower.
        let norm = family.and_then(|f| match parts.of_module(f.hidden_norm()) {
            Some(&[length]) => Some(length),
            _ => None,
        });
        let hidden = norm
            .or(token.map(|dims| dims[1]))
            .filter(|&n| n > 0)
            .or(config.hidden_size());
        let up = family.and_then(|f| parts.of_module(f.up_projection()));
        let rows = |dims: Option<&[u64]>| dims.map(|d| d[0]).filter(|&n| n > 0);
        Sizes {
            hidden,
            vocab: rows(token).or(config.vocab_size()),
            intermediate: up
                .zip(hidden)
                .and_then(|(dims, hidden)| other_dim(dims, hidden))
                .or(config.intermediate_size()),
            max_positions: rows(position).or(config.max_positions()),
        }
    }
}

/// Returns the dimension of a matrix that is not `known`. Most programs store `[out, in]`, GPT-2 `[in, out]`. `None`
/// for packed weights, which have neither.
fn other_dim(dims: &[u64], known: u64) -> Option<u64> {
    match *dims {
        [out, input] if input == known => Some(out),
        [input, out] if input == known => Some(out),
        _ => None,
    }
    .filter(|&n| n > 0)
}
