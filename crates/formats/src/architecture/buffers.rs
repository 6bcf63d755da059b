//! Buffers: tensors of a file that are not parameters and that no optimizer changes.
//!
//! PyTorch keeps both in one state dict, and a safetensors file does not distinguish them: only the name does. The
//! names here are those that the sources below pass to `register_buffer`. A name that is a parameter in another library
//! (`weight_v`, `pe`, `scale`) does not count as a buffer.

use modelstore_tensor::DType;
use modelstore_tensor::dtype::Kind;

/// Last parts of names that are always buffers.
const LEAVES: &[&str] = &[
    // torch.nn.modules.batchnorm._NormBase, the base of BatchNorm, SyncBatchNorm and InstanceNorm.
    "running_mean",
    "running_var",
    "num_batches_tracked",
    // torch.nn.utils.prune: the weight itself is then `weight_orig`.
    "weight_mask",
    "bias_mask",
    // torch.ao.quantization: observers and fake quantisation.
    "fake_quant_enabled",
    "observer_enabled",
    // transformers: BERT, RoBERTa, CLIP, ViT and others.
    "position_ids",
    "token_type_ids",
    // transformers: GPT-2, GPT-Neo, GPT-J and GPT-NeoX until 4.40; Baichuan and MPT.
    "masked_bias",
    "causal_mask",
    "future_mask",
    "alibi_mask",
    // transformers: LLaMA, GPT-NeoX and all others with rotary positions; their caches until 4.36.
    "inv_freq",
    "original_inv_freq",
    "cos_cached",
    "sin_cached",
    // LLaMA as published by Meta, and EVA.
    "freqs_cis",
    "freqs_cos",
    "freqs_sin",
    // Swin Transformer, also of version 2.
    "attn_mask",
    "relative_position_index",
    "relative_coords_table",
    // YOLOv3 to v7.
    "anchors",
    "anchor_grid",
    // Segment Anything, Detectron2.
    "pixel_mean",
    "pixel_std",
    "positional_encoding_gaussian_matrix",
    // transformers: DeepSeek-V3 and GLM-4.5 update it by the load of the experts, not by a gradient.
    "e_score_correction_bias",
    // Latent diffusion: `DDPM.register_schedule`.
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    // fairseq: sinusoidal positions.
    "_float_tensor",
    // EnCodec and VQ-VAE with moving averages.
    "cluster_size",
    "embed_avg",
];

/// Returns whether a tensor is a buffer: a running statistic, a mask, a computed table.
pub fn is_buffer(name: &str, dtype: DType, dims: &[u64]) -> bool {
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    if LEAVES.contains(&leaf) {
        return true;
    }
    let parent = module.rsplit('.').next().unwrap_or_default();
    match leaf {
        // The causal mask of GPT-2, GPT-NeoX and nanoGPT: (1, 1, n, n), whereas a trained bias has one dimension.
        "bias" | "mask" => is_attention(parent) && is_square(dims),
        // `rope.freqs` of LLaMA as published by Meta.
        "freqs" => parent == "rope" && dims.len() == 1,
        // fairseq: `decoder.version`.
        "version" => dims.iter().all(|&d| d == 1) && matches!(parent, "encoder" | "decoder"),
        // torch.nn.utils.parametrizations.spectral_norm.
        "_u" | "_v" => name.contains("parametrizations.") && dims.len() == 1,
        // torch.ao.quantization: statistics of an observer.
        "scale" | "zero_point" | "min_val" | "max_val" | "eps" => {
            matches!(
                parent,
                "activation_post_process" | "weight_fake_quant" | "observer"
            )
        }
        // Masks under other names.
        _ => dtype == DType::Bool && leaf.ends_with("mask"),
    }
}

/// Returns whether training changes a tensor by default: floating point, and not a buffer.
pub fn is_trainable(name: &str, dtype: DType, dims: &[u64]) -> bool {
    dtype.kind() == Kind::Float && !is_buffer(name, dtype, dims)
}

fn is_attention(part: &str) -> bool {
    matches!(
        part,
        "attn" | "attention" | "self_attn" | "self_attention" | "self"
    )
}

/// Returns whether the last two dimensions are equal and all others are 1.
fn is_square(dims: &[u64]) -> bool {
    match dims {
        [ones @ .., rows, columns] => rows == columns && ones.iter().all(|&d| d == 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_by_their_names() {
        let f32 = DType::F32;
        let cases: &[(&str, DType, &[u64], bool)] = &[
            ("layer1.0.bn1.weight", f32, &[64], false),
            ("layer1.0.bn1.bias", f32, &[64], false),
            ("layer1.0.bn1.running_mean", f32, &[64], true),
            ("layer1.0.bn1.running_var", f32, &[64], true),
            ("layer1.0.bn1.num_batches_tracked", DType::I64, &[], true),
            ("running_mean", f32, &[2], true),
            ("my_running_mean", f32, &[2], false),
            ("running_mean.weight", f32, &[2, 2], false),
            ("h.0.attn.bias", f32, &[1, 1, 1024, 1024], true),
            (
                "transformer.h.0.attn.attention.bias",
                f32,
                &[1, 1, 16, 16],
                true,
            ),
            (
                "gpt_neox.layers.3.attention.bias",
                DType::Bool,
                &[1, 1, 8, 8],
                true,
            ),
            ("gpt_neox.layers.3.attention.masked_bias", f32, &[], true),
            (
                "gpt_neox.layers.3.attention.rotary_emb.inv_freq",
                f32,
                &[12],
                true,
            ),
            ("h.0.attn.c_attn.bias", f32, &[2304], false),
            ("blocks.0.attn.bias", f32, &[64], false),
            ("blocks.0.attn.bias", f32, &[4, 64, 64], false),
            ("blocks.0.attn.mask", f32, &[1, 1, 64, 64], true),
            ("conv.bias", f32, &[1, 1, 3, 3], false),
            (
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                f32,
                &[64],
                true,
            ),
            (
                "model.layers.0.self_attn.rotary_emb.cos_cached",
                f32,
                &[1, 1, 8, 4],
                true,
            ),
            (
                "model.layers.0.self_attn.q_proj.weight",
                DType::BF16,
                &[8, 8],
                false,
            ),
            ("rope.freqs", f32, &[64], true),
            ("rotary_emb.freqs", f32, &[64], false),
            ("embeddings.position_ids", DType::I64, &[1, 512], true),
            (
                "layers.0.blocks.1.attn.relative_position_index",
                DType::I64,
                &[49, 49],
                true,
            ),
            (
                "layers.0.blocks.1.attn.relative_position_bias_table",
                f32,
                &[169, 3],
                false,
            ),
            ("layers.0.blocks.1.attn_mask", f32, &[64, 49, 49], true),
            ("model.24.anchors", DType::F16, &[3, 3, 2], true),
            (
                "model.layers.4.mlp.gate.e_score_correction_bias",
                f32,
                &[256],
                true,
            ),
            ("betas", f32, &[1000], true),
            ("mask_token", f32, &[1, 1, 8], false),
            ("logit_scale", f32, &[], false),
            ("norm.scale", f32, &[8], false),
            ("fc.activation_post_process.scale", f32, &[1], true),
            ("fc.weight_v", f32, &[8, 8], false),
            ("fc.parametrizations.weight.0._u", f32, &[8], true),
            ("fc.parametrizations.weight.original", f32, &[8, 8], false),
            ("decoder.version", f32, &[1], true),
            ("decoder.version", f32, &[8], false),
            ("tril_mask", DType::Bool, &[8, 8], true),
            ("tril_mask", f32, &[8, 8], false),
            ("", f32, &[], false),
            (".", f32, &[], false),
        ];
        for (name, dtype, dims, expected) in cases {
            assert_eq!(is_buffer(name, *dtype, dims), *expected, "{name} {dims:?}");
        }
    }

    #[test]
    fn trainable_is_floating_point_and_no_buffer() {
        assert!(is_trainable("fc.weight", DType::F16, &[2, 2]));
        assert!(!is_trainable("fc.weight", DType::I8, &[2, 2]));
        assert!(!is_trainable("bn.running_var", DType::F32, &[2]));
        let overflowing = [u64::MAX, u64::MAX];
        assert!(is_trainable("fc.version", DType::F32, &overflowing));
    }
}
