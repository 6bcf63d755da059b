//! Recognising models: one real header, two written by hand, and hostile models.
#![allow(clippy::unwrap_used)]

use modelstore_formats::architecture::{
    Architecture, Heads, Layer, MAX_HEADS, MAX_LAYERS, WeightInfo, recognise,
};
use modelstore_formats::safetensors::parse_header;
use modelstore_tensor::DType;
use proptest::prelude::*;
use serde_json::{Value, json};

const MINILM_HEADER: &[u8] = include_bytes!("data/minilm_header.json");
const MINILM_FILE_BYTES: u64 = 90_868_376;

type Weights = Vec<(String, Vec<u64>)>;

fn recognise_all(weights: &[(String, Vec<u64>)], config: Option<&Value>) -> Architecture {
    let weights: Vec<WeightInfo<'_>> = weights
        .iter()
        .map(|(name, dims)| WeightInfo {
            name,
            dtype: DType::F32,
            dims,
        })
        .collect();
    let found = recognise(&weights, config);
    assert_eq!(found.weight_roles.len(), weights.len());
    found
}

fn component(found: &Architecture, weights: &Weights, name: &str) -> Option<&'static str> {
    let at = weights.iter().position(|(n, _)| n == name).unwrap();
    found.weight_roles[at].component
}

fn add(weights: &mut Weights, name: impl Into<String>, dims: &[u64]) {
    weights.push((name.into(), dims.to_vec()));
}

fn minilm() -> Weights {
    let header = parse_header(MINILM_HEADER, MINILM_FILE_BYTES).unwrap();
    let of = |t: modelstore_formats::safetensors::TensorEntry| (t.name, t.shape.dims().to_vec());
    header.tensors.into_iter().map(of).collect()
}

fn minilm_config() -> Value {
    serde_json::from_str(include_str!("data/minilm_config.json")).unwrap()
}

/// GPT-2 (124M) as in its file, with the masks that are not parameters.
fn gpt2(prefix: &str) -> Weights {
    let mut w = Weights::new();
    for i in 0..12 {
        let mut part =
            |name: &str, dims: &[u64]| add(&mut w, format!("{prefix}h.{i}.{name}"), dims);
        part("attn.bias", &[1, 1, 1024, 1024]);
        part("attn.c_attn.bias", &[2304]);
        part("attn.c_attn.weight", &[768, 2304]);
        part("attn.c_proj.bias", &[768]);
        part("attn.c_proj.weight", &[768, 768]);
        part("ln_1.bias", &[768]);
        part("ln_1.weight", &[768]);
        part("ln_2.bias", &[768]);
        part("ln_2.weight", &[768]);
        part("mlp.c_fc.bias", &[3072]);
        part("mlp.c_fc.weight", &[768, 3072]);
        part("mlp.c_proj.bias", &[768]);
        part("mlp.c_proj.weight", &[3072, 768]);
    }
    add(&mut w, format!("{prefix}ln_f.bias"), &[768]);
    add(&mut w, format!("{prefix}ln_f.weight"), &[768]);
    add(&mut w, format!("{prefix}wpe.weight"), &[1024, 768]);
    add(&mut w, format!("{prefix}wte.weight"), &[50257, 768]);
    w
}

/// Mistral 7B: 32 query heads of 128 that share 8 key heads. The layers are sorted as text: 0, 1, 10, …
fn mistral() -> Weights {
    let mut w = Weights::new();
    add(&mut w, "lm_head.weight", &[32000, 4096]);
    add(&mut w, "model.embed_tokens.weight", &[32000, 4096]);
    let mut numbers: Vec<String> = (0..32).map(|i| i.to_string()).collect();
    numbers.sort();
    for i in numbers {
        let mut part = |name: &str, dims: &[u64]| {
            add(&mut w, format!("model.layers.{i}.{name}.weight"), dims);
        };
        part("input_layernorm", &[4096]);
        part("mlp.down_proj", &[4096, 14336]);
        part("mlp.gate_proj", &[14336, 4096]);
        part("mlp.up_proj", &[14336, 4096]);
        part("post_attention_layernorm", &[4096]);
        part("self_attn.k_proj", &[1024, 4096]);
        part("self_attn.o_proj", &[4096, 4096]);
        part("self_attn.q_proj", &[4096, 4096]);
        part("self_attn.v_proj", &[1024, 4096]);
    }
    add(&mut w, "model.norm.weight", &[4096]);
    w
}

fn heads(count: u32, kv_count: u32, dim: u64) -> Option<Heads> {
    Some(Heads {
        count,
        kv_count,
        dim,
    })
}

/// Heads of all layers.
fn head_count(found: &Architecture) -> u32 {
    let heads = found.layers.iter().filter_map(|l| l.heads);
    heads.map(|h| h.count).sum()
}

#[test]
fn minilm_is_bert_with_six_layers_of_twelve_heads() {
    let weights = minilm();
    assert_eq!(weights.len(), 104);
    let found = recognise_all(&weights, Some(&minilm_config()));
    assert_eq!(found.family.as_deref(), Some("bert"));
    assert_eq!(found.hidden_size, Some(384));
    assert_eq!(found.vocab_size, Some(30522));
    assert_eq!(found.intermediate_size, Some(1536));
    assert_eq!(found.max_positions, Some(512));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(12), Some(12), Some(32))
    );
    assert_eq!(found.layers.len(), 6);
    let per_layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384;
    for (i, layer) in found.layers.iter().enumerate() {
        let expected = Layer {
            index: i as u32,
            name: format!("encoder.layer.{i}"),
            kind: "transformer",
            heads: heads(12, 12, 32),
            parameters: per_layer,
        };
        assert_eq!(layer, &expected);
    }
    let embeddings: Vec<_> = found
        .embeddings
        .iter()
        .map(|e| (e.kind, e.rows, e.dim, weights[e.weight].0.as_str()))
        .collect();
    assert_eq!(
        embeddings,
        [
            (
                "position",
                512,
                384,
                "embeddings.position_embeddings.weight"
            ),
            ("segment", 2, 384, "embeddings.token_type_embeddings.weight"),
            ("token", 30522, 384, "embeddings.word_embeddings.weight"),
        ]
    );
    assert_eq!(
        component(&found, &weights, "embeddings.position_ids"),
        Some("buffer")
    );
    assert!(found.weight_roles.iter().all(|r| r.component.is_some()));
    let query = component(
        &found,
        &weights,
        "encoder.layer.3.attention.self.query.bias",
    );
    assert_eq!(query, Some("attention.query"));
    assert_eq!(
        component(&found, &weights, "pooler.dense.weight"),
        Some("pooler")
    );
}

#[test]
fn without_a_configuration_heads_are_not_guessed() {
    let found = recognise_all(&minilm(), None);
    assert_eq!(found.family.as_deref(), Some("bert"));
    assert_eq!((found.hidden_size, found.layers.len()), (Some(384), 6));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (None, None, None)
    );
    assert_eq!(head_count(&found), 0);
}

#[test]
fn bert_is_recognised_under_a_prefix() {
    let weights: Weights = minilm()
        .into_iter()
        .map(|(name, dims)| (format!("roberta.{name}"), dims))
        .collect();
    let mut config = minilm_config();
    config["model_type"] = "roberta".into();
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(found.family.as_deref(), Some("roberta"));
    assert_eq!(found.layers[5].name, "roberta.encoder.layer.5");
    assert_eq!((head_count(&found), found.embeddings.len()), (72, 3));
}

#[test]
fn gpt2_stores_matrices_the_other_way_round() {
    let config =
        json!({"model_type": "gpt2", "n_head": 12, "n_embd": 768, "n_ctx": 1024, "n_inner": null});
    for prefix in ["", "transformer."] {
        let weights = gpt2(prefix);
        assert_eq!(weights.len(), 160);
        let found = recognise_all(&weights, Some(&config));
        assert_eq!(found.family.as_deref(), Some("gpt2"));
        assert_eq!(
            (found.hidden_size, found.vocab_size),
            (Some(768), Some(50257))
        );
        assert_eq!(
            (found.intermediate_size, found.max_positions),
            (Some(3072), Some(1024))
        );
        assert_eq!(
            (found.num_heads, found.num_kv_heads, found.head_dim),
            (Some(12), Some(12), Some(64))
        );
        assert_eq!(
            (
                found.layers.len(),
                head_count(&found),
                found.embeddings.len()
            ),
            (12, 144, 2)
        );
        assert_eq!(found.layers[11].name, format!("{prefix}h.11"));
        // 124 439 808 in all; embeddings and the last norm belong to no layer.
        let outside = (50257 + 1024) * 768 + 2 * 768;
        let inside: u64 = found.layers.iter().map(|l| l.parameters).sum();
        assert_eq!(inside + outside, 124_439_808);
        let mask = format!("{prefix}h.0.attn.bias");
        assert_eq!(component(&found, &weights, &mask), Some("buffer"));
        let qkv = format!("{prefix}h.0.attn.c_attn.bias");
        assert_eq!(component(&found, &weights, &qkv), Some("attention.qkv"));
    }
}

#[test]
fn one_shared_key_head_is_seen_in_the_shape() {
    let mut weights = gpt2("transformer.");
    for (name, dims) in &mut weights {
        if name.ends_with("c_attn.weight") {
            *dims = vec![768 + 2 * 64, 768];
        }
    }
    let config = json!({"model_type": "gpt_bigcode", "n_head": 12, "multi_query": true});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(found.family.as_deref(), Some("gpt_bigcode"));
    assert_eq!((found.num_heads, found.num_kv_heads), (Some(12), Some(1)));
    assert!(found.layers.iter().all(|l| l.heads == heads(12, 1, 64)));
}

#[test]
fn query_heads_share_key_heads() {
    let weights = mistral();
    let config =
        json!({"model_type": "mistral", "num_attention_heads": 32, "num_key_value_heads": 8});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(found.family.as_deref(), Some("mistral"));
    assert_eq!(
        (found.hidden_size, found.vocab_size),
        (Some(4096), Some(32000))
    );
    assert_eq!(found.intermediate_size, Some(14336));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(32), Some(8), Some(128))
    );
    assert_eq!((found.layers.len(), head_count(&found)), (32, 32 * 32));
    let indexes: Vec<u32> = found.layers.iter().map(|l| l.index).collect();
    assert_eq!(indexes, (0..32).collect::<Vec<_>>());
    assert_eq!(found.layers[2].name, "model.layers.2");
    assert!(found.layers.iter().all(|l| l.heads == heads(32, 8, 128)));
    assert!(found.weight_roles.iter().all(|r| r.component.is_some()));
    assert_eq!(
        component(&found, &weights, "lm_head.weight"),
        Some("lm_head")
    );
    assert_eq!(
        component(&found, &weights, "model.layers.7.mlp.gate_proj.weight"),
        Some("mlp.gate")
    );
}

#[test]
fn a_head_dim_is_enough_to_count_heads() {
    let found = recognise_all(&mistral(), Some(&json!({"head_dim": 128})));
    assert_eq!(found.family.as_deref(), Some("llama"));
    assert_eq!((found.num_heads, found.num_kv_heads), (Some(32), Some(8)));
    assert_eq!(head_count(&found), 1024);
}

#[test]
fn heads_need_not_fill_the_hidden_size() {
    // Gemma 7B: 16 heads of 256 on a hidden size of 3072.
    let mut weights = mistral();
    for (name, dims) in &mut weights {
        for d in dims.iter_mut().filter(|d| **d == 4096) {
            *d = 3072;
        }
        if name.contains("k_proj") || name.contains("q_proj") {
            dims[0] = 4096;
        }
    }
    let config = json!({"model_type": "gemma", "num_attention_heads": 16, "head_dim": 256, "hidden_size": 3072});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(16), Some(16), Some(256))
    );
}

#[test]
fn a_gate_beside_the_query_does_not_widen_heads() {
    let mut weights = mistral();
    for (name, dims) in &mut weights {
        if name.contains("q_proj") {
            *dims = vec![2 * 4096, 4096];
        }
    }
    let config = json!({"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(32), Some(8), Some(128))
    );
}

#[test]
fn experts_have_the_parts_of_their_layer() {
    let mut weights = mistral();
    add(
        &mut weights,
        "model.layers.0.block_sparse_moe.experts.3.w2.weight",
        &[4096, 14336],
    );
    add(
        &mut weights,
        "model.layers.0.block_sparse_moe.gate.weight",
        &[8, 4096],
    );
    let found = recognise_all(&weights, None);
    let part = |name| component(&found, &weights, name);
    assert_eq!(
        part("model.layers.0.block_sparse_moe.experts.3.w2.weight"),
        Some("mlp.down")
    );
    assert_eq!(
        part("model.layers.0.block_sparse_moe.gate.weight"),
        Some("mlp.router")
    );
}

#[test]
fn a_second_stack_goes_on_counting_and_keeps_its_own_parts() {
    let mut weights = mistral();
    for i in 0..24 {
        let name = format!("vision_tower.encoder.layers.{i}.self_attn.q_proj.weight");
        add(&mut weights, name, &[1024, 1024]);
    }
    let config = json!({"model_type": "llava", "text_config": {"model_type": "mistral", "num_attention_heads": 32}});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(found.family.as_deref(), Some("mistral"));
    assert_eq!((found.layers.len(), head_count(&found)), (56, 1024));
    assert_eq!(found.layers[32].name, "vision_tower.encoder.layers.0");
    assert_eq!(found.layers[32].index, 32);
    assert_eq!(
        found.weight_roles.last().map(|r| (r.layer, r.component)),
        Some((Some(55), None))
    );
}

#[test]
fn layers_that_predict_further_tokens_are_kept_apart() {
    let kinds =
        |found: &Architecture, kind: &str| found.layers.iter().filter(|l| l.kind == kind).count();
    // As in DeepSeek-V3 and GLM-4.5: after the model's own, in the same list.
    let config = json!({"num_hidden_layers": 30, "num_nextn_predict_layers": 2});
    let found = recognise_all(&mistral(), Some(&config));
    assert_eq!(
        (kinds(&found, "transformer"), kinds(&found, "mtp")),
        (30, 2)
    );
    assert_eq!(
        (found.layers[29].kind, found.layers[30].kind),
        ("transformer", "mtp")
    );
    assert_eq!(found.layers[31].index, 31);
    // As in Qwen3-Next, MiMo and others: in a separate list, which sorts first here.
    for stack in ["mtp.layers", "a.mtp_layers", "mtp"] {
        let mut weights = mistral();
        for part in ["self_attn.q_proj", "input_layernorm"] {
            add(&mut weights, format!("{stack}.0.{part}.weight"), &[4096]);
        }
        for config in [Some(json!({"num_hidden_layers": 32})), None] {
            let found = recognise_all(&weights, config.as_ref());
            assert_eq!(
                (kinds(&found, "transformer"), kinds(&found, "mtp")),
                (32, 1),
                "{stack}"
            );
            let last = &found.layers[32];
            assert_eq!((last.index, last.kind), (32, "mtp"));
            assert_eq!(found.layers[0].name, "model.layers.0");
            assert_eq!(found.weight_roles.last().map(|r| r.layer), Some(Some(32)));
        }
    }
    // An unknown family, but only one list: the configuration counts that one.
    let unknown: Weights = (0..5)
        .map(|i| (format!("blocks.{i}.attn.w"), vec![4, 4]))
        .collect();
    let found = recognise_all(&unknown, Some(&json!({"n_layer": 4})));
    assert_eq!((kinds(&found, "transformer"), kinds(&found, "mtp")), (4, 1));
}

#[test]
fn a_configuration_says_nothing_of_a_second_list() {
    // T5's decoder may have more layers than its encoder, which `num_layers` counts.
    let mut weights = Weights::new();
    for (stack, layers) in [("encoder", 2), ("decoder", 4)] {
        for i in 0..layers {
            add(
                &mut weights,
                format!("{stack}.block.{i}.SelfAttention.q.weight"),
                &[8, 8],
            );
        }
    }
    let found = recognise_all(&weights, Some(&json!({"num_layers": 2})));
    assert_eq!(found.layers.len(), 6);
    assert!(found.layers.iter().all(|l| l.kind == "transformer"));
    // The layers of a vision tower are not those of the text model.
    let mut weights = mistral();
    for i in 0..40 {
        add(
            &mut weights,
            format!("vision.layers.{i}.self_attn.q_proj.weight"),
            &[8, 8],
        );
    }
    let found = recognise_all(
        &weights,
        Some(&json!({"text_config": {"num_hidden_layers": 32}})),
    );
    assert!(found.layers.iter().all(|l| l.kind == "transformer"));
}

#[test]
fn buffers_are_no_parameters_of_a_layer_in_any_family() {
    let mut weights = mistral();
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let before = recognise_all(&weights, None).layers[0].parameters;
    add(&mut weights, name, &[64]);
    let found = recognise_all(&weights, None);
    assert_eq!(component(&found, &weights, name), Some("buffer"));
    assert_eq!(found.layers[0].parameters, before);
    let unknown: Weights = ["weight", "running_mean", "running_var"]
        .map(|leaf| (format!("blocks.0.bn.{leaf}"), vec![8]))
        .into();
    let found = recognise_all(&unknown, None);
    assert_eq!((found.family, found.layers[0].parameters), (None, 8));
    assert_eq!(found.weight_roles[1].component, Some("buffer"));
}

#[test]
fn unknown_names_still_have_layers() {
    let mut weights = Weights::new();
    for i in 0..3 {
        add(
            &mut weights,
            format!("net.blocks.{i}.SelfAttention.q.weight"),
            &[8, 8],
        );
        add(&mut weights, format!("net.blocks.{i}.ff.weight"), &[8, 2]);
    }
    add(&mut weights, "conv.1.weight", &[3, 3]);
    let found = recognise_all(&weights, None);
    assert_eq!(found.family, None);
    let layers: Vec<_> = found
        .layers
        .iter()
        .map(|l| (l.index, l.name.as_str(), l.kind, l.parameters))
        .collect();
    assert_eq!(
        layers,
        [
            (0, "net.blocks.0", "transformer", 80),
            (1, "net.blocks.1", "transformer", 80),
            (2, "net.blocks.2", "transformer", 80),
        ]
    );
    assert!(head_count(&found) == 0 && found.weight_roles.iter().all(|r| r.component.is_none()));
    let found = recognise_all(
        &weights,
        Some(&json!({"num_attention_heads": 2, "hidden_size": 8})),
    );
    assert_eq!((head_count(&found), found.head_dim), (6, Some(4)));
}

#[test]
fn layers_without_attention_are_blocks() {
    let weights = vec![("layers.0.weight".to_owned(), vec![2, 2])];
    let found = recognise_all(
        &weights,
        Some(&json!({"num_attention_heads": 2, "hidden_size": 8})),
    );
    assert_eq!((found.layers[0].kind, head_count(&found)), ("block", 0));
}

#[test]
fn a_name_common_to_many_families_is_not_enough() {
    let weights = vec![(
        "model.decoder.layers.0.self_attn.q_proj.weight".to_owned(),
        vec![2, 2],
    )];
    assert_eq!(recognise_all(&weights, None).family, None);
}

#[test]
fn shapes_win_over_the_configuration() {
    let config = json!({
        "hidden_size": 9, "vocab_size": 9, "intermediate_size": 9, "max_position_embeddings": 9, "head_dim": 7,
        "num_attention_heads": 12, "num_key_value_heads": 5
    });
    let found = recognise_all(&minilm(), Some(&config));
    assert_eq!(
        (found.hidden_size, found.vocab_size),
        (Some(384), Some(30522))
    );
    assert_eq!(
        (found.intermediate_size, found.max_positions),
        (Some(1536), Some(512))
    );
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(12), Some(12), Some(32))
    );
}

#[test]
fn heads_that_do_not_divide_the_shapes_are_dropped() {
    for n in [5u64, 7, 385, 1 << 40] {
        let found = recognise_all(&minilm(), Some(&json!({ "num_attention_heads": n })));
        assert_eq!((found.num_heads, head_count(&found)), (None, 0), "{n}");
    }
}

#[test]
fn packed_weights_leave_the_rest_to_the_configuration() {
    let mut weights = mistral();
    for (name, dims) in &mut weights {
        if name.contains("_proj") {
            *dims = vec![dims[0] * dims[1] / 2, 1];
        }
    }
    let config =
        json!({"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!(
        (found.num_heads, found.num_kv_heads, found.head_dim),
        (Some(32), Some(8), Some(128))
    );
    assert_eq!(found.intermediate_size, Some(14336));
}

#[test]
fn wrong_types_in_a_configuration_are_ignored_one_by_one() {
    for silly in [
        json!(null),
        json!("12"),
        json!(-12),
        json!(12.5),
        json!([12]),
        json!({}),
        json!(0),
        json!(true),
    ] {
        let mut config = minilm_config();
        config["num_attention_heads"] = silly.clone();
        config["model_type"] = silly.clone();
        config["text_config"] = silly.clone();
        let found = recognise_all(&minilm(), Some(&config));
        assert_eq!(found.family.as_deref(), Some("bert"));
        assert_eq!(
            (found.num_heads, found.hidden_size),
            (None, Some(384)),
            "{silly}"
        );
        recognise_all(&minilm(), Some(&silly));
    }
}

#[test]
fn heads_are_capped() {
    let mut weights = Weights::new();
    for i in 0..1000 {
        add(&mut weights, format!("blocks.{i}.attn.weight"), &[1]);
    }
    let with = |n: u64| {
        head_count(&recognise_all(
            &weights,
            Some(&json!({"num_heads": n, "head_dim": 1})),
        ))
    };
    assert_eq!(with(65), 65_000);
    assert_eq!(with(66), 0);
    assert_eq!(with(MAX_HEADS + 1), 0);
    assert_eq!(with(u64::MAX), 0);
    let found = recognise_all(
        &[],
        Some(&json!({"num_heads": MAX_HEADS + 1, "head_dim": 1})),
    );
    assert_eq!(found.num_heads, None);
}

#[test]
fn layers_are_capped() {
    let mut weights = Weights::new();
    for i in 0..MAX_LAYERS + 1000 {
        add(
            &mut weights,
            format!("a{i}.layers.65535.w"),
            &[u64::MAX, u64::MAX],
        );
    }
    let found = recognise_all(&weights, None);
    assert!(found.layers.len() <= MAX_LAYERS && found.layers.len() >= MAX_LAYERS - 1);
    assert!(found.layers.windows(2).all(|w| w[0].index < w[1].index));
    assert_eq!(found.layers[0].parameters, u64::MAX);
}

#[test]
fn layers_are_capped_over_all_stacks() {
    let mut weights = Weights::new();
    for stack in ["a", "b"] {
        for i in 0..40_000 {
            add(&mut weights, format!("{stack}.layers.{i}.w"), &[1]);
        }
    }
    let found = recognise_all(&weights, None);
    assert_eq!(found.layers.len(), MAX_LAYERS);
    assert_eq!(found.weight_roles.last().map(|r| r.layer), Some(None));
}

#[test]
fn key_heads_that_do_not_divide_the_query_heads_are_dropped() {
    let mut weights = mistral();
    for (name, dims) in &mut weights {
        if name.contains("k_proj") {
            *dims = vec![5 * 128, 4096];
        }
    }
    let found = recognise_all(&weights, Some(&json!({"num_attention_heads": 32})));
    assert_eq!((found.num_heads, found.num_kv_heads), (Some(32), None));
    assert_eq!(head_count(&found), 0);
}

#[test]
fn encoder_and_decoder_of_an_unknown_family_get_no_heads() {
    let weights: Weights = ["encoder.block.0.attn.w", "decoder.block.0.attn.w"]
        .map(|name| (name.to_owned(), vec![8, 8]))
        .into();
    let config = json!({"num_heads": 2, "d_model": 8});
    let found = recognise_all(&weights, Some(&config));
    assert_eq!((found.layers.len(), head_count(&found)), (2, 0));
    assert_eq!(head_count(&recognise_all(&weights[..1], Some(&config))), 2);
}

#[test]
fn a_hundred_thousand_weights_take_well_under_a_second() {
    let mut weights = mistral();
    for i in 0..100_000 {
        add(
            &mut weights,
            format!("model.layers.{}.mlp.experts.{i}.up_proj.weight", i % 60),
            &[8, 8],
        );
    }
    let started = std::time::Instant::now();
    recognise_all(&weights, None);
    for (name, _) in &mut weights {
        name.insert(0, 'x');
        *name = name.replace("q_proj", "other_attn");
    }
    recognise_all(&weights, None);
    // Many times what a slow machine needs without optimisation.
    assert!(started.elapsed().as_secs() < 5);
}

fn any_name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "model",
        "layers",
        "layer",
        "h",
        "blocks",
        "0",
        "1",
        "65535",
        "65536",
        "self_attn",
        "q_proj",
        "k_proj",
        "input_layernorm",
        "attn",
        "c_attn",
        "mlp",
        "c_fc",
        "encoder",
        "attention",
        "self",
        "query",
        "output",
        "LayerNorm",
        "dense",
        "embeddings",
        "word_embeddings",
        "wte",
        "wpe",
        "embed_tokens",
        "ln_1",
        "weight",
        "bias",
        "",
        "é",
    ]);
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.join("."))
}

fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5, Just(u64::MAX), Just(1 << 40)]
}

proptest! {
    #[test]
    fn nothing_panics(
        weights in prop::collection::vec((any_name(), prop::collection::vec(any_size(), 0..4)), 0..40),
        sizes in prop::collection::vec(any_size(), 5),
    ) {
        let config = json!({
            "num_attention_heads": sizes[0], "head_dim": sizes[1], "num_key_value_heads": sizes[2],
            "hidden_size": sizes[3], "text_config": {"vocab_size": sizes[4]}
        });
        let found = recognise_all(&weights, Some(&config));
        prop_assert!(head_count(&found) as u64 <= MAX_HEADS);
        for heads in found.layers.iter().filter_map(|l| l.heads) {
            prop_assert!(heads.kv_count > 0 && heads.count.is_multiple_of(heads.kv_count));
            prop_assert_eq!(Some(u64::from(heads.kv_count)), found.num_kv_heads);
            prop_assert!(heads.dim <= u64::from(u32::MAX));
        }
        for role in &found.weight_roles {
            if let Some(index) = role.layer {
                prop_assert!(found.layers.iter().any(|l| l.index == index));
            }
        }
    }
}
