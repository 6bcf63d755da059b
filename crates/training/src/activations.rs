//! The costs of a transformer's layers in training, from sizes alone.
//!
//! Activations by Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models"
//! (arXiv:2205.05198), section 4.1: attention over all heads, a feed-forward part of two products, two layer norms, and
//! dropout masks of one byte an element. Per layer and at two bytes an element that is `s·b·h·(34 + 5·a·s/h)` bytes for
//! `s` tokens, a batch of `b`, the hidden size `h` = `f`/4 and `a` heads. Kernels that do not keep the attention matrix
//! (FlashAttention), shared key heads and gated feed-forward parts need other amounts.

use crate::gradient_checkpoints::{Layer, MAX_LAYERS};
use crate::{Error, Result};

/// The sizes of a transformer layer and of its training input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerLayer {
    /// The length `h` of a token's vector between layers.
    pub hidden_size: u64,
    /// The inner width `f` of the feed-forward part, usually `4·h`.
    pub intermediate_size: u64,
    /// Attention heads, `a`.
    pub num_heads: u64,
    /// Tokens in a sequence, `s`.
    pub sequence_length: u64,
    /// Sequences in a batch, `b`.
    pub batch_size: u64,
    /// Bytes of an element of an activation: 2 for bfloat16, 4 for float32.
    pub element_bytes: u64,
}

impl TransformerLayer {
    /// Returns the costs of the layer: bytes kept for its backward pass, bytes of its output, FLOPs of its forward pass
    /// (a multiplication and an addition count as two, as usual; only matrix products count).
    pub fn cost(&self) -> Result<Layer> {
        let TransformerLayer {
            hidden_size: h,
            intermediate_size: f,
            num_heads: a,
            sequence_length: s,
            batch_size: b,
            element_bytes: e,
        } = *self;
        let sizes = [
            ("hidden size", h),
            ("intermediate size", f),
            ("number of heads", a),
            ("sequence length", s),
            ("batch size", b),
            ("element size", e),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::ZeroSize(name));
        }
        // Elements of the three shapes used: [s, b, h], [s, b, f] and [a, s, s, b].
        let hidden = [1, s, b, h];
        let inner = [1, s, b, f];
        let scores = [a, s, s, b];
        let memory = Error::CostOverflow("memory");
        let activation_bytes = sum(&[
            // Inputs of the two norms; input of the first products, queries, keys, values and input of the last product
            // of attention; input of the feed-forward part.
            (e, 8, hidden),
            // Masks of the dropout after attention and after the feed-forward part.
            (1, 2, hidden),
            // Input and output of the nonlinearity.
            (e, 2, inner),
            // Output of softmax, and of the dropout after it.
            (e, 2, scores),
            // The mask of that dropout.
            (1, 1, scores),
        ]);
        let forward_cost = sum(&[
            // Four products with an h × h matrix.
            (8, h, hidden),
            // Two products with an h × f matrix.
            (4, h, inner),
            // The scores, and the weighted values: two products over all pairs of tokens.
            (4, s, hidden),
        ]);
        Ok(Layer {
            activation_bytes: activation_bytes.ok_or(memory.clone())?,
            output_bytes: sum(&[(e, 1, hidden)]).ok_or(memory)?,
            forward_cost: forward_cost.ok_or(Error::CostOverflow("work"))?,
        })
    }

    /// Returns a chain of equal layers; its input has the size of a layer's output.
    pub fn chain(&self, num_layers: usize) -> Result<Vec<Layer>> {
        if num_layers > MAX_LAYERS {
            return Err(Error::TooManyLayers(num_layers));
        }
        Ok(vec![self.cost()?; num_layers])
    }
}

/// Returns the sum of terms that are each two factors times the elements of a shape.
fn sum(terms: &[(u64, u64, [u64; 4])]) -> Option<u64> {
    terms.iter().try_fold(0u64, |sum, (x, y, shape)| {
        let factors = [*x, *y].into_iter().chain(*shape);
        let term = factors.into_iter().try_fold(1, u64::checked_mul)?;
        sum.checked_add(term)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Models of the paper's table 3, with half-precision activations and a batch of one.
    fn model(num_heads: u64, hidden_size: u64) -> TransformerLayer {
        TransformerLayer {
            hidden_size,
            intermediate_size: 4 * hidden_size,
            num_heads,
            sequence_length: 2048,
            batch_size: 1,
            element_bytes: 2,
        }
    }

    const GPT3_175B: (u64, u64, u64) = (96, 12288, 96);
    const MT_NLG_530B: (u64, u64, u64) = (128, 20480, 105);

    #[test]
    fn bytes_are_those_of_the_paper() {
        // Section 5: 5·a·s/h is 80 for GPT-3 and 64 for MT-NLG, and what of the 34 + that it saves not to keep it.
        for ((a, h, _), pairs, saved) in [(GPT3_175B, 80, 70), (MT_NLG_530B, 64, 65)] {
            let cost = model(a, h).cost().unwrap();
            assert_eq!(cost.activation_bytes, 2048 * h * (34 + pairs));
            assert_eq!(cost.output_bytes, 2 * 2048 * h);
            assert_eq!(100 * pairs / (34 + pairs), saved);
        }
        assert_eq!(
            model(96, 12288).cost().unwrap().activation_bytes,
            2_868_903_936
        );
    }

    #[test]
    fn flops_are_those_of_the_paper() {
        // Appendix A: a step, with the 6·b·s·h·v of the output layer, is 72·b·L·s·h²·(1 + s/6h + v/12hL).
        let (b, s, v) = (1.0, 2048.0, 51200.0);
        for (a, h, layers) in [GPT3_175B, MT_NLG_530B] {
            let forward = model(a, h).cost().unwrap().forward_cost as f64;
            let (h, l) = (h as f64, layers as f64);
            let step = 3.0 * l * forward + 6.0 * b * s * h * v;
            let paper = 72.0 * b * l * s * h * h * (1.0 + s / (6.0 * h) + v / (12.0 * h * l));
            assert!((step / paper - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn elements_and_inner_width_count_where_they_should() {
        let base = model(96, 12288);
        let cost = |layer: TransformerLayer| layer.cost().unwrap();
        let (sbh, scores) = (2048 * 12288, 96 * 2048 * 2048);
        let single = cost(TransformerLayer {
            element_bytes: 4,
            ..base
        });
        // All but the masks double.
        assert_eq!(
            single.activation_bytes,
            sbh * (2 * 32 + 2) + scores * (2 * 4 + 1)
        );
        assert_eq!(single.output_bytes, 4 * sbh);
        assert_eq!(single.forward_cost, cost(base).forward_cost);
        let narrow = cost(TransformerLayer {
            intermediate_size: 12288,
            ..base
        });
        assert_eq!(
            cost(base).activation_bytes - narrow.activation_bytes,
            2 * 2 * 3 * sbh
        );
        assert_eq!(
            cost(base).forward_cost - narrow.forward_cost,
            4 * 3 * sbh * 12288
        );
    }

    #[test]
    fn sizes_that_make_no_sense_are_errors() {
        let base = model(96, 12288);
        let huge = u64::MAX / 3;
        let with = |change: fn(&mut TransformerLayer, u64), size| {
            let mut layer = base;
            change(&mut layer, size);
            layer.cost()
        };
        type Field = (&'static str, fn(&mut TransformerLayer, u64));
        let fields: [Field; 6] = [
            ("hidden size", |l, n| l.hidden_size = n),
            ("intermediate size", |l, n| l.intermediate_size = n),
            ("number of heads", |l, n| l.num_heads = n),
            ("sequence length", |l, n| l.sequence_length = n),
            ("batch size", |l, n| l.batch_size = n),
            ("element size", |l, n| l.element_bytes = n),
        ];
        for (name, change) in fields {
            assert_eq!(with(change, 0), Err(Error::ZeroSize(name)));
            assert_eq!(with(change, huge), Err(Error::CostOverflow("memory")));
        }
        // Work overflows before memory does for wide layers.
        let wide = with(|l, n| l.hidden_size = n, 1 << 40);
        assert_eq!(wide, Err(Error::CostOverflow("work")));
        assert_eq!(
            base.chain(MAX_LAYERS + 1),
            Err(Error::TooManyLayers(MAX_LAYERS + 1))
        );
        assert_eq!(base.chain(96).unwrap(), vec![base.cost().unwrap(); 96]);
    }
}
