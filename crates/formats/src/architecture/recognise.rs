//! Combines names, shapes and configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::buffers::is_buffer;
use super::config::Config;
use super::family::Family;
use super::heads::HeadCounts;
use super::path::{LayerPath, Path};
use super::sizes::{Parts, Sizes};
use super::{Architecture, Embedding, Heads, Layer, MAX_HEADS, MAX_LAYERS, WeightInfo, WeightRole};

/// Derives the architecture of a model from its weights and its configuration, if any. If these contradict each other,
/// shapes win.
pub fn recognise(weights: &[WeightInfo<'_>], config: Option<&Value>) -> Architecture {
    let config = Config::new(config);
    let paths: Vec<Path<'_>> = weights.iter().map(|w| Path::new(w.name)).collect();
    let stacks = Stacks::new(&paths);
    let (family, family_stacks) = Family::detect(&paths)
        .map_or((None, BTreeSet::new()), |(family, stacks)| {
            (Some(family), stacks)
        });

    let in_stack: Vec<bool> = paths
        .iter()
        .map(|p| p.layer.is_some_and(|l| family_stacks.contains(l.stack)))
        .collect();
    let components: Vec<Option<&'static str>> = paths
        .iter()
        .zip(&in_stack)
        .zip(weights)
        .map(|((path, &in_stack), w)| {
            if is_buffer(w.name, w.dtype, w.dims) {
                return Some("buffer");
            }
            family.and_then(|f| f.component(path, in_stack))
        })
        .collect();
    let parts = Parts {
        weights,
        paths: &paths,
        components: &components,
        in_stack: &in_stack,
    };
    let sizes = Sizes::new(family, &parts, &config);
    let counts = HeadCounts::new(family, &parts, &sizes, &config);

    let weight_roles: Vec<WeightRole> = paths
        .iter()
        .zip(&components)
        .map(|(path, &component)| WeightRole {
            layer: stacks.index(path),
            component,
        })
        .collect();
    let further = Further::new(&stacks, &family_stacks, &config);
    // Without a family, encoder and decoder of one configuration cannot be told apart.
    let one_stack = family.is_some() || stacks.own().count() == 1;
    let heads = counts.heads().filter(|_| one_stack);
    let layers = layers(&parts, &weight_roles, family.is_some(), further, heads);
    Architecture {
        family: family.map(|f| {
            let name = config.text_model_type().or(config.model_type());
            f.name(name).to_owned()
        }),
        hidden_size: sizes.hidden,
        vocab_size: sizes.vocab,
        intermediate_size: sizes.intermediate,
        max_positions: sizes.max_positions,
        num_heads: counts.query,
        num_kv_heads: counts.key_value,
        head_dim: counts.dim,
        layers,
        embeddings: embeddings(weights, &components),
        weight_roles,
    }
}

/// The lists of layers in a model, and the index of the first layer of each.
struct Stacks<'a> {
    /// Lists of layers that predict further tokens are marked with true, and so come after the others.
    first: BTreeMap<(bool, &'a str), u32>,
    /// The distinct layers.
    known: BTreeSet<(&'a str, u32)>,
}

impl<'a> Stacks<'a> {
    fn new(paths: &[Path<'a>]) -> Stacks<'a> {
        let mut known = BTreeSet::new();
        let mut ends: BTreeMap<(bool, &str), u32> = BTreeMap::new();
        for layer in paths.iter().filter_map(|p| p.layer) {
            if known.len() < MAX_LAYERS && known.insert((layer.stack, layer.number)) {
                let end = ends.entry((layer.is_mtp(), layer.stack)).or_default();
                *end = (*end).max(layer.number + 1);
            }
        }
        let mut next = 0u32;
        let mut first = BTreeMap::new();
        for (stack, end) in ends {
            // A number has at most 16 bits and a model at most 2^16 layers, so only the very last can be out of range.
            let Some(after) = next.checked_add(end) else {
                known.retain(|(s, _)| *s != stack.1);
                continue;
            };
            first.insert(stack, next);
            next = after;
        }
        Stacks { first, known }
    }

    fn index(&self, path: &Path<'_>) -> Option<u32> {
        let layer = path.layer?;
        if !self.known.contains(&(layer.stack, layer.number)) {
            return None;
        }
        let first = self.first.get(&(layer.is_mtp(), layer.stack))?;
        first.checked_add(layer.number)
    }

    /// Returns the lists of the model's own layers.
    fn own(&self) -> impl Iterator<Item = &'a str> {
        let own = self.first.keys().filter(|(is_mtp, _)| !is_mtp);
        own.map(|(_, stack)| *stack)
    }
}

/// Layers at the end of the model's own list that its configuration does not count: DeepSeek-V3 and GLM-4.5 put those
/// that predict further tokens there (`num_nextn_predict_layers`).
#[derive(Clone, Copy, Default)]
struct Further<'a> {
    beyond: Option<(&'a str, u64)>,
}

impl<'a> Further<'a> {
    /// Only if it is certain which list the configuration counts: an encoder and a decoder may differ.
    fn new(
        stacks: &Stacks<'a>,
        family_stacks: &BTreeSet<&'a str>,
        config: &Config<'_>,
    ) -> Further<'a> {
        let of_family = || stacks.own().filter(|stack| family_stacks.contains(stack));
        let only = match (of_family().count(), stacks.own().count()) {
            (1, _) => of_family().next(),
            (0, 1) => stacks.own().next(),
            _ => None,
        };
        Further {
            beyond: only.zip(config.num_layers()),
        }
    }

    fn has(&self, layer: &LayerPath<'_>) -> bool {
        let beyond = self
            .beyond
            .is_some_and(|(stack, count)| layer.stack == stack && u64::from(layer.number) >= count);
        beyond || layer.is_mtp()
    }
}

/// The layers; `heads` are those of each layer with queries.
fn layers(
    parts: &Parts<'_>,
    roles: &[WeightRole],
    family_known: bool,
    further: Further<'_>,
    heads: Option<Heads>,
) -> Vec<Layer> {
    let mut layers: BTreeMap<u32, Layer> = BTreeMap::new();
    for (i, role) in roles.iter().enumerate() {
        let path = &parts.paths[i];
        let (Some(index), Some(found)) = (role.layer, path.layer) else {
            continue;
        };
        let layer = layers.entry(index).or_insert_with(|| Layer {
            index,
            name: found.name.to_owned(),
            kind: if further.has(&found) { "mtp" } else { "block" },
            heads: None,
            parameters: 0,
        });
        if role.component != Some("buffer") {
            let elements = elements(parts.weights[i].dims);
            layer.parameters = layer.parameters.saturating_add(elements);
        }
        if layer.kind == "block" && is_attention(path.module) {
            layer.kind = "transformer";
        }
        let has_heads = match role.component {
            Some(c) => matches!(c, "attention.query" | "attention.qkv"),
            None => !family_known && is_attention(path.module),
        };
        if has_heads {
            layer.heads = heads;
        }
    }
    let mut layers: Vec<Layer> = layers.into_values().collect();
    let total: u64 = layers
        .iter()
        .filter_map(|l| l.heads)
        .map(|h| u64::from(h.count))
        .sum();
    if total > MAX_HEADS {
        layers.iter_mut().for_each(|layer| layer.heads = None);
    }
    layers
}

fn is_attention(module: &str) -> bool {
    module.split('.').any(|part| {
        let part = part.to_ascii_lowercase();
        part.contains("attn") || part.contains("attention")
    })
}

/// Returns the number of elements of a tensor, saturated.
fn elements(dims: &[u64]) -> u64 {
    if dims.contains(&0) {
        return 0;
    }
    dims.iter().fold(1, |product, &d| product.saturating_mul(d))
}

fn embeddings(weights: &[WeightInfo<'_>], components: &[Option<&'static str>]) -> Vec<Embedding> {
    let kind = |component: &'static str| component.strip_prefix("embedding.");
    let found = weights.iter().zip(components).enumerate();
    found
        .filter_map(|(weight, (info, component))| {
            let kind = component.and_then(kind)?;
            let &[rows, dim] = info.dims else { return None };
            Some(Embedding {
                kind,
                weight,
                rows,
                dim,
            })
        })
        .collect()
}
