//! Counts the parameters of a model from its configuration alone.

use serde_json::Value;

use super::config::Config;

/// Counts the parameters of the model described by a `config.json` of Hugging Face; shared ones, such as an output
/// layer that is the token embedding, count once.
///
/// A number in the configuration (`num_parameters` or `parameter_count`) takes precedence. Else the model is what its
/// base class builds: BERT and RoBERTa with pooler and without a task head; GPT-2, LLaMA, Mistral, Qwen2 and Qwen3 as
/// language models. Returns `None` for other types, for multimodal models, if a size is missing, and on overflow.
pub fn parameter_count(config: &Value) -> Option<u64> {
    // Only of the whole model: so not by `Config`, which also reads the text part.
    let given = ["num_parameters", "parameter_count"];
    let mut counts = given.iter().filter_map(|name| config.get(*name)?.as_u64());
    if let Some(count) = counts.find(|&count| count > 0) {
        return Some(count);
    }
    let sizes = Config::new(Some(config));
    let is_part = config.get("text_config").is_some();
    if is_part || sizes.flag("add_cross_attention") == Some(true) {
        return None;
    }
    match sizes.model_type()? {
        "bert" | "camembert" | "roberta" | "xlm-roberta" => bert(&sizes),
        "gpt2" => gpt2(&sizes),
        model_type @ ("llama" | "mistral" | "qwen2" | "qwen3") => llama(&sizes, model_type),
        _ => None,
    }
}

fn bert(config: &Config<'_>) -> Option<u64> {
    // Relative positions have embeddings in each layer.
    if config.text("position_embedding_type").unwrap_or("absolute") != "absolute" {
        return None;
    }
    let hidden = config.hidden_size()?;
    let inner = config.intermediate_size()?;
    let layer = sum(&[
        product(4, linear(hidden, hidden, true)),
        linear(hidden, inner, true),
        linear(inner, hidden, true),
        hidden.checked_mul(4),
    ]);
    sum(&[
        config.vocab_size()?.checked_mul(hidden),
        config.max_positions()?.checked_mul(hidden),
        config.num_segments()?.checked_mul(hidden),
        hidden.checked_mul(2),
        product(config.num_layers()?, layer),
        linear(hidden, hidden, true),
    ])
}

fn gpt2(config: &Config<'_>) -> Option<u64> {
    let hidden = config.hidden_size()?;
    let inner = config.intermediate_size().or(hidden.checked_mul(4))?;
    let embedding = config.vocab_size()?.checked_mul(hidden);
    let layer = sum(&[
        linear(hidden, hidden.checked_mul(3)?, true),
        linear(hidden, hidden, true),
        linear(hidden, inner, true),
        linear(inner, hidden, true),
        hidden.checked_mul(4),
    ]);
    let is_tied = config.flag("tie_word_embeddings").unwrap_or(true);
    sum(&[
        embedding,
        config.max_positions()?.checked_mul(hidden),
        product(config.num_layers()?, layer),
        hidden.checked_mul(2),
        if is_tied { Some(0) } else { embedding },
    ])
}

fn llama(config: &Config<'_>, model_type: &str) -> Option<u64> {
    let hidden = config.hidden_size()?;
    let inner = config.intermediate_size()?;
    let heads = config.num_heads()?;
    // Only for LLaMA does a missing count mean one key head per query head.
    let key_heads = match model_type {
        "llama" => config.num_kv_heads().unwrap_or(heads),
        _ => config.num_kv_heads()?,
    };
    let head_dim = match (config.head_dim(), model_type) {
        (Some(dim), _) => dim,
        (None, "qwen3") => return None,
        (None, _) if hidden.is_multiple_of(heads) => hidden / heads,
        (None, _) => return None,
    };
    let query = heads.checked_mul(head_dim)?;
    let key = key_heads.checked_mul(head_dim)?;
    let attention_bias = config.flag("attention_bias") == Some(true);
    let (input_bias, output_bias) = match model_type {
        "qwen2" => (true, false),
        "mistral" => (false, false),
        _ => (attention_bias, attention_bias),
    };
    let mlp_bias = model_type == "llama" && config.flag("mlp_bias") == Some(true);
    let head_norms = if model_type == "qwen3" {
        head_dim.checked_mul(2)?
    } else {
        0
    };
    let layer = sum(&[
        linear(hidden, query, input_bias),
        product(2, linear(hidden, key, input_bias)),
        linear(query, hidden, output_bias),
        product(2, linear(hidden, inner, mlp_bias)),
        linear(inner, hidden, mlp_bias),
        hidden.checked_mul(2),
        Some(head_norms),
    ]);
    let embedding = config.vocab_size()?.checked_mul(hidden);
    let is_tied = config.flag("tie_word_embeddings") == Some(true);
    sum(&[
        embedding,
        product(config.num_layers()?, layer),
        Some(hidden),
        if is_tied { Some(0) } else { embedding },
    ])
}

/// A matrix, and a bias on its output.
fn linear(input: u64, output: u64, has_bias: bool) -> Option<u64> {
    let bias = if has_bias { output } else { 0 };
    input.checked_mul(output)?.checked_add(bias)
}

fn product(times: u64, count: Option<u64>) -> Option<u64> {
    count?.checked_mul(times)
}

fn sum(counts: &[Option<u64>]) -> Option<u64> {
    let mut sum = 0u64;
    for count in counts {
        sum = sum.checked_add((*count)?)?;
    }
    Some(sum)
}
