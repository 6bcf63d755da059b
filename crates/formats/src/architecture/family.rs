//! Naming families: how each names the parts of its layers.

use std::collections::{BTreeMap, BTreeSet};

use super::path::Path;

/// A naming scheme shared by several model types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Gpt2,
    Llama,
}

type Table = &'static [(&'static str, &'static str)];

const BERT_LAYER: Table = &[
    ("attention.self.query", "attention.query"),
    ("attention.self.key", "attention.key"),
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.output"),
    ("attention.output.LayerNorm", "norm"),
    ("intermediate.dense", "mlp.up"),
    ("output.dense", "mlp.down"),
    ("output.LayerNorm", "norm"),
];

const GPT2_LAYER: Table = &[
    ("attn.c_attn", "attention.qkv"),
    ("attn.c_proj", "attention.output"),
    ("mlp.c_fc", "mlp.up"),
    ("mlp.c_proj", "mlp.down"),
    ("ln_1", "norm"),
    ("ln_2", "norm"),
];

/// By the last part of the module, as mixtures of experts nest the same names deeper.
const LLAMA_LAYER: Table = &[
    ("q_proj", "attention.query"),
    ("k_proj", "attention.key"),
    ("v_proj", "attention.value"),
    ("qkv_proj", "attention.qkv"),
    ("o_proj", "attention.output"),
    ("up_proj", "mlp.up"),
    ("gate_proj", "mlp.gate"),
    ("gate_up_proj", "mlp.gate_up"),
    ("down_proj", "mlp.down"),
    ("w1", "mlp.gate"),
    ("w2", "mlp.down"),
    ("w3", "mlp.up"),
    ("gate", "mlp.router"),
    ("input_layernorm", "norm"),
    ("post_attention_layernorm", "norm"),
    ("pre_feedforward_layernorm", "norm"),
    ("post_feedforward_layernorm", "norm"),
    ("q_norm", "norm"),
    ("k_norm", "norm"),
];

/// Outside layers, by the end of the module.
const BERT_MODEL: Table = &[
    ("embeddings.word_embeddings", "embedding.token"),
    ("embeddings.position_embeddings", "embedding.position"),
    ("embeddings.token_type_embeddings", "embedding.segment"),
    ("embeddings.LayerNorm", "norm"),
    ("pooler.dense", "pooler"),
    ("cls.predictions", "lm_head"),
    ("cls.predictions.decoder", "lm_head"),
    ("cls.predictions.transform.dense", "lm_head"),
    ("cls.predictions.transform.LayerNorm", "lm_head"),
    ("lm_head", "lm_head"),
    ("lm_head.dense", "lm_head"),
    ("lm_head.layer_norm", "lm_head"),
    ("lm_head.decoder", "lm_head"),
    ("cls.seq_relationship", "classifier"),
    ("classifier", "classifier"),
    ("classifier.dense", "classifier"),
    ("classifier.out_proj", "classifier"),
    ("qa_outputs", "classifier"),
];

const GPT2_MODEL: Table = &[
    ("wte", "embedding.token"),
    ("wpe", "embedding.position"),
    ("ln_f", "norm"),
    ("lm_head", "lm_head"),
    ("score", "classifier"),
];

const LLAMA_MODEL: Table = &[
    ("embed_tokens", "embedding.token"),
    ("norm", "norm"),
    ("lm_head", "lm_head"),
    ("score", "classifier"),
];

impl Family {
    /// Detects the family of a model, and its stacks of layers.
    ///
    /// A stack must have the names that no other family combines: names such as `q_proj` alone occur in many.
    pub(super) fn detect<'a>(paths: &[Path<'a>]) -> Option<(Family, BTreeSet<&'a str>)> {
        let mut signs: BTreeMap<&str, [u8; 3]> = BTreeMap::new();
        for path in paths {
            let Some(layer) = path.layer else { continue };
            let list = layer.stack.rsplit('.').next().unwrap_or_default();
            let (family, sign) = match (list, path.module) {
                ("layer", "attention.self.query") => (0, 0b11),
                ("h", "attn.c_attn") => (1, 0b01),
                ("h", "mlp.c_fc") => (1, 0b10),
                ("layers", "self_attn.q_proj" | "self_attn.qkv_proj") => (2, 0b01),
                ("layers", "input_layernorm") => (2, 0b10),
                _ => continue,
            };
            signs.entry(layer.stack).or_default()[family] |= sign;
        }
        [Family::Bert, Family::Gpt2, Family::Llama]
            .into_iter()
            .enumerate()
            .map(|(i, family)| {
                let complete = signs.iter().filter(|(_, s)| s[i] == 0b11);
                (family, complete.map(|(stack, _)| *stack).collect())
            })
            .find(|(_, stacks): &(Family, BTreeSet<&str>)| !stacks.is_empty())
    }

    /// Returns the family's name, or the model type of a configuration if it belongs to this family.
    pub(super) fn name(self, model_type: Option<&str>) -> &'static str {
        let members: &[&'static str] = match self {
            Family::Bert => &["bert", "camembert", "electra", "roberta", "xlm-roberta"],
            Family::Gpt2 => &["gpt2", "gpt_bigcode"],
            Family::Llama => &[
                "llama",
                "cohere",
                "gemma",
                "gemma2",
                "gemma3_text",
                "granite",
                "ministral",
                "mistral",
                "mixtral",
                "phi3",
                "qwen2",
                "qwen2_moe",
                "qwen3",
                "qwen3_moe",
                "smollm3",
                "stablelm",
            ],
        };
        let named = members.iter().find(|m| Some(**m) == model_type);
        named.unwrap_or(&members[0])
    }

    /// Returns the component of a tensor that is not a buffer; `in_stack` if it is in one of the family's stacks.
    pub(super) fn component(self, path: &Path<'_>, in_stack: bool) -> Option<&'static str> {
        let exact = |table: Table, module: &str| {
            let found = table.iter().find(|(name, _)| *name == module);
            found.map(|(_, component)| *component)
        };
        if in_stack {
            return match self {
                Family::Bert => exact(BERT_LAYER, path.module),
                Family::Gpt2 => exact(GPT2_LAYER, path.module),
                Family::Llama => exact(LLAMA_LAYER, path.module.rsplit('.').next()?),
            };
        }
        if path.layer.is_some() {
            return None;
        }
        let table = match self {
            Family::Bert => BERT_MODEL,
            Family::Gpt2 => GPT2_MODEL,
            Family::Llama => LLAMA_MODEL,
        };
        let found = table.iter().find(|(end, _)| path.module_ends(end));
        found.map(|(_, component)| *component)
    }

    /// Returns the module of a layer whose weight has the hidden size as its only dimension.
    pub(super) fn hidden_norm(self) -> &'static str {
        match self {
            Family::Bert => "attention.output.LayerNorm",
            Family::Gpt2 => "ln_1",
            Family::Llama => "input_layernorm",
        }
    }

    /// Returns the module of a layer whose weight maps the hidden size to the intermediate size.
    pub(super) fn up_projection(self) -> &'static str {
        match self {
            Family::Bert => "intermediate.dense",
            Family::Gpt2 => "mlp.c_fc",
            Family::Llama => "mlp.up_proj",
        }
    }
}
