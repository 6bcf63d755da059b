//! Parameters by configuration against published numbers, and configurations that do not say enough.
#![allow(clippy::unwrap_used)]

use modelstore_formats::architecture::parameter_count;
use proptest::prelude::*;
use serde_json::{Value, json};

fn bert() -> Value {
    json!({
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 768,
        "intermediate_size": 3072, "max_position_embeddings": 512, "num_attention_heads": 12,
        "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522,
        "position_embedding_type": "absolute"
    })
}

fn gpt2() -> Value {
    json!({
        "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_inner": null,
        "n_layer": 12, "n_positions": 1024, "vocab_size": 50257
    })
}

fn llama(model_type: &str, sizes: [u64; 6], is_tied: bool) -> Value {
    let [hidden, inner, heads, key_heads, layers, vocab] = sizes;
    json!({
        "model_type": model_type, "hidden_size": hidden, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": key_heads,
        "num_hidden_layers": layers, "vocab_size": vocab, "tie_word_embeddings": is_tied,
        "max_position_embeddings": 4096
    })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn without(mut config: Value, key: &str) -> Value {
    config.as_object_mut().unwrap().remove(key);
    config
}

fn llama2_7b() -> Value {
    llama("llama", [4096, 11008, 32, 32, 32, 32000], false)
}

#[test]
fn counts_are_the_published_ones() {
    let minilm = serde_json::from_str(include_str!("data/minilm_config.json")).unwrap();
    let mut roberta = with(bert(), "model_type", json!("roberta"));
    roberta["max_position_embeddings"] = json!(514);
    roberta["type_vocab_size"] = json!(1);
    roberta["vocab_size"] = json!(50265);
    let qwen3 = llama("qwen3", [1024, 3072, 16, 8, 28, 151936], true);
    let models = [
        ("bert-base-uncased", bert(), 109_482_240u64),
        ("all-MiniLM-L6-v2", minilm, 22_713_216),
        ("roberta-base", roberta, 124_645_632),
        ("gpt2", gpt2(), 124_439_808),
        ("Llama-2-7B", llama2_7b(), 6_738_415_616),
        (
            "Llama-2-7B without key heads",
            without(llama2_7b(), "num_key_value_heads"),
            6_738_415_616,
        ),
        (
            "TinyLlama-1.1B",
            llama("llama", [2048, 5632, 32, 4, 22, 32000], false),
            1_100_048_384,
        ),
        (
            "Llama-3-8B",
            llama("llama", [4096, 14336, 32, 8, 32, 128256], false),
            8_030_261_248,
        ),
        (
            "Mistral-7B-v0.1",
            llama("mistral", [4096, 14336, 32, 8, 32, 32000], false),
            7_241_732_096,
        ),
        (
            "Qwen2-0.5B",
            llama("qwen2", [896, 4864, 14, 2, 24, 151936], true),
            494_032_768,
        ),
        (
            "Qwen3-0.6B",
            with(qwen3, "head_dim", json!(128)),
            596_049_920,
        ),
    ];
    for (name, config, count) in models {
        assert_eq!(parameter_count(&config), Some(count), "{name}");
    }
}

#[test]
fn ties_and_biases_count() {
    let untied = with(gpt2(), "tie_word_embeddings", json!(false));
    assert_eq!(parameter_count(&untied), Some(124_439_808 + 50257 * 768));
    let tied = with(llama2_7b(), "tie_word_embeddings", json!(true));
    assert_eq!(parameter_count(&tied), Some(6_738_415_616 - 32000 * 4096));
    let biases = with(llama2_7b(), "attention_bias", json!(true));
    assert_eq!(
        parameter_count(&biases),
        Some(6_738_415_616 + 32 * 4 * 4096)
    );
    let biases = with(llama2_7b(), "mlp_bias", json!(true));
    let of_layer = 2 * 11008 + 4096;
    assert_eq!(
        parameter_count(&biases),
        Some(6_738_415_616 + 32 * of_layer)
    );
    let inner = with(gpt2(), "n_inner", json!(3072));
    assert_eq!(parameter_count(&inner), Some(124_439_808));
}

#[test]
fn a_number_in_the_configuration_wins() {
    for key in ["num_parameters", "parameter_count"] {
        assert_eq!(parameter_count(&with(bert(), key, json!(7))), Some(7));
        assert_eq!(parameter_count(&json!({ key: 7 })), Some(7));
        for odd in [json!("7"), json!(-7), json!(7.5), json!(null)] {
            assert_eq!(parameter_count(&with(bert(), key, odd)), Some(109_482_240));
        }
    }
}

#[test]
fn what_is_missing_is_not_guessed() {
    for key in [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_hidden_layers",
        "type_vocab_size",
        "vocab_size",
    ] {
        assert_eq!(parameter_count(&without(bert(), key)), None, "{key}");
        assert_eq!(parameter_count(&with(bert(), key, json!(0))), None, "{key}");
    }
    for key in [
        "hidden_size",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ] {
        assert_eq!(parameter_count(&without(llama2_7b(), key)), None, "{key}");
    }
    for key in ["n_embd", "n_layer", "vocab_size"] {
        assert_eq!(parameter_count(&without(gpt2(), key)), None, "{key}");
    }
    let mistral = llama("mistral", [4096, 14336, 32, 8, 32, 32000], false);
    let unlike = [
        without(mistral, "num_key_value_heads"),
        llama("qwen3", [1024, 3072, 16, 8, 28, 151936], true),
        with(llama2_7b(), "hidden_size", json!(4097)),
        with(llama2_7b(), "model_type", json!("mixtral")),
        with(bert(), "position_embedding_type", json!("relative_key")),
        with(bert(), "add_cross_attention", json!(true)),
        with(llama2_7b(), "text_config", llama2_7b()),
        json!(null),
        json!([]),
    ];
    for config in unlike {
        assert_eq!(parameter_count(&config), None, "{config}");
    }
}

#[test]
fn counts_that_do_not_fit_are_none() {
    for config in [bert(), gpt2(), llama2_7b()] {
        for (key, value) in config.as_object().unwrap() {
            // Nothing is as large in heads: their product is the hidden size.
            if value.is_u64() && !matches!(key.as_str(), "num_attention_heads" | "n_head" | "n_ctx")
            {
                let huge = with(config.clone(), key, json!(u64::MAX));
                let expected = matches!(
                    (config["model_type"].as_str(), key.as_str()),
                    (Some("llama"), "max_position_embeddings")
                );
                assert_eq!(parameter_count(&huge).is_some(), expected, "{key}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_sizes_panic(sizes in proptest::array::uniform6(any::<u64>()), kind in 0usize..3) {
        let kind = ["llama", "mistral", "qwen2"][kind];
        parameter_count(&llama(kind, sizes, sizes[0] % 2 == 0));
    }
}
