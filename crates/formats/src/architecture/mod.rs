//! The role of each tensor of a model: its layers, attention heads and embeddings.
//!
//! Everything is derived from names and shapes, and from the model's configuration (the `config.json` of Hugging Face)
//! if there is one. Nothing is guessed: what these do not determine stays empty. A model of an unknown family still has
//! layers if names number them (`blocks.3.…`). Names and configuration are untrusted: counts are limited, and a field
//! of the wrong type counts as absent.

mod buffers;
mod config;
mod family;
mod heads;
mod parameters;
mod path;
mod recognise;
mod sizes;
mod tied;

use modelstore_tensor::DType;

pub use buffers::{is_buffer, is_trainable};
pub use config::layer_count;
pub use parameters::parameter_count;
pub use recognise::recognise;
pub use tied::{SharedWeight, is_mask, tied};

/// Maximum number of distinct layers; tensors of further ones belong to no layer.
pub const MAX_LAYERS: usize = 65_536;

/// The most attention heads of a model; with more, [`Layer::heads`] is `None` everywhere.
pub const MAX_HEADS: u64 = 65_536;

/// One tensor in the listing of a file.
#[derive(Clone, Copy, Debug)]
pub struct WeightInfo<'a> {
    /// The name.
    pub name: &'a str,
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub dims: &'a [u64],
}

/// The derived architecture of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Architecture {
    /// The family according to the names of the tensors, `bert`, `gpt2` or `llama`, or the member of it named by the
    /// configuration (`mistral`).
    pub family: Option<String>,
    /// The length of a token's vector between layers.
    pub hidden_size: Option<u64>,
    /// Rows of the token embedding.
    pub vocab_size: Option<u64>,
    /// The inner width of the feed-forward part.
    pub intermediate_size: Option<u64>,
    /// The longest input in tokens.
    pub max_positions: Option<u64>,
    /// Query heads in a layer.
    pub num_heads: Option<u64>,
    /// Key and value heads in a layer; fewer than query heads if these share them.
    pub num_kv_heads: Option<u64>,
    /// The length of a head's query, which fits into 32 bits.
    pub head_dim: Option<u64>,
    /// The layers, ordered by [`Layer::index`].
    pub layers: Vec<Layer>,
    /// The embeddings in the order of the weights.
    pub embeddings: Vec<Embedding>,
    /// The role of each weight, in the order of the weights.
    pub weight_roles: Vec<WeightRole>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The number in the name. If a model has several stacks of layers, these are sorted by name, and the numbers of
    /// each continue after the last of the previous one, so that an index is unique. Stacks that predict further tokens
    /// come last.
    pub index: u32,
    /// The common prefix of the names of its tensors, such as `encoder.layer.0`.
    pub name: String,
    /// `mtp` for a layer that predicts further tokens (beyond the configuration's number of layers, or in its own list)
    /// and does not count as one of the model's layers; else `transformer` for a layer with attention, and `block`.
    pub kind: &'static str,
    /// Its attention heads, where it has attention and their number is known.
    pub heads: Option<Heads>,
    /// Elements of its tensors without buffers such as causal masks.
    pub parameters: u64,
}

/// The attention heads of a layer. Query head `i` uses key and value head `i / (count / kv_count)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, at least one.
    pub count: u32,
    /// Key and value heads, which divide `count`.
    pub kv_count: u32,
    /// The length of a head's query, which fits into 32 bits.
    pub dim: u64,
}

/// One embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// `token`, `position` or `segment`.
    pub kind: &'static str,
    /// Its index among the weights.
    pub weight: usize,
    /// Rows, one for each token, position or segment.
    pub rows: u64,
    /// The length of a row.
    pub dim: u64,
}

/// The role of one weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightRole {
    /// The [`Layer::index`] of the layer it belongs to.
    pub layer: Option<u32>,
    /// Its component: one of `attention.query`, `attention.key`, `attention.value`, `attention.qkv`,
    /// `attention.output`, `mlp.up`, `mlp.gate`, `mlp.gate_up`, `mlp.down`, `mlp.router`, `norm`, `embedding.token`,
    /// `embedding.position`, `embedding.segment`, `lm_head`, `pooler`, `classifier`, or `buffer` for what is stored but
    /// not trained. A bias has the component that it is added to.
    pub component: Option<&'static str>,
}
