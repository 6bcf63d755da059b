//! Equal weights: one parameter, or a copy.
#![allow(clippy::unwrap_used)]

use modelstore_formats::architecture::{SharedWeight, is_mask, tied};
use serde_json::{Value, json};

/// Weights of one content by name; a `!` in front of a name makes the content constant.
fn tied_names(names: &[&str], config: Value) -> Vec<Option<usize>> {
    let weights: Vec<SharedWeight<'_>> = names
        .iter()
        .map(|name| SharedWeight {
            name: name.trim_start_matches('!'),
            content: [7; 16],
            rank: 2,
            constant: name.starts_with('!'),
        })
        .collect();
    tied(&weights, Some(&config))
}

#[test]
fn ends_of_a_language_model_are_one() {
    for (a, b) in [
        ("lm_head.weight", "model.embed_tokens.weight"),
        ("lm_head.weight", "transformer.wte.weight"),
        (
            "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.weight",
        ),
        (
            "lm_head.decoder.weight",
            "roberta.embeddings.word_embeddings.weight",
        ),
        ("embed_out.weight", "gpt_neox.embed_in.weight"),
        ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
        ("output.weight", "tok_embeddings.weight"),
        ("ema.lm_head.weight", "ema.model.embed_tokens.weight"),
    ] {
        assert_eq!(tied_names(&[a, b], json!({})), [None, Some(0)], "{a} {b}");
        let not = json!({"tie_word_embeddings": false});
        assert_eq!(tied_names(&[a, b], not), [None, None], "{a} {b}");
    }
}

#[test]
fn copies_are_parameters_of_their_own() {
    for (a, b) in [
        ("a.weight", "b.weight"),
        ("net.fc.weight", "target_net.fc.weight"),
        ("ema.lm_head.weight", "model.embed_tokens.weight"),
        ("ema_model.wte.weight", "wte.weight"),
        ("model.wte.weight", "model_ema.wte.weight"),
        ("nets.0.lm_head.weight", "nets.1.wte.weight"),
        ("user.embedding.weight", "item.embedding.weight"),
        ("classifier.weight", "wte.weight"),
        (
            "bert.encoder.layer.0.output.dense.weight",
            "bert.encoder.layer.1.output.dense.weight",
        ),
    ] {
        for config in [
            json!({}),
            json!({"tie_word_embeddings": true}),
            json!(null),
            json!([1]),
        ] {
            assert_eq!(tied_names(&[a, b], config), [None, None], "{a} {b}");
        }
    }
}

#[test]
fn a_copy_between_does_not_hide_what_is_tied() {
    let names = ["ema.wte.weight", "lm_head.weight", "wte.weight"];
    assert_eq!(tied_names(&names, json!({})), [None, None, Some(1)]);
}

#[test]
fn the_configuration_names_others() {
    let config = json!({"tied_weights": [["x.weight", "y.weight"], ["z"], 3, [4]]});
    let names = ["x.weight", "y.weight", "z", "w"];
    assert_eq!(tied_names(&names, config), [None, Some(0), None, None]);
}

#[test]
fn constants_are_one_where_the_configuration_says_so() {
    let names = ["!lm_head.weight", "!wte.weight"];
    assert_eq!(tied_names(&names, json!({})), [None, None]);
    let tied = json!({"tie_word_embeddings": true});
    assert_eq!(tied_names(&names, tied), [None, Some(0)]);
}

#[test]
fn vectors_and_other_contents_are_not_tied() {
    let mut weights = ["lm_head.weight", "wte.weight"].map(|name| SharedWeight {
        name,
        content: [1; 16],
        rank: 1,
        constant: false,
    });
    assert_eq!(tied(&weights, None), [None, None]);
    weights[0].rank = 2;
    weights[1].rank = 2;
    assert_eq!(tied(&weights, None), [None, Some(0)]);
    weights[1].content = [2; 16];
    assert_eq!(tied(&weights, None), [None, None]);
}

#[test]
fn masks_by_name() {
    for name in [
        "attn.mask",
        "h.0.attn.causal_mask",
        "attn_mask",
        "h.1.attn.masked_bias",
        "h.attentionMask",
    ] {
        assert!(is_mask(name), "{name}");
    }
    for name in [
        "mask.weight",
        "mask_token",
        "w",
        "",
        "attn.bias",
        "mask_head.weight",
    ] {
        assert!(!is_mask(name), "{name}");
    }
}
