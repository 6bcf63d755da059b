//! Finds weights that are the same parameter, which equal content alone does not prove.
//!
//! Two weights with equal content are one parameter only if names or the configuration say so. A copy that training
//! keeps besides the weights (an average, a target network) is equal to them at its start, and yet a separate
//! parameter.

use std::collections::HashMap;

use serde_json::Value;

use super::config::Config;

/// The properties of a weight that matter for sharing.
#[derive(Clone, Copy, Debug)]
pub struct SharedWeight<'a> {
    /// The name.
    pub name: &'a str,
    /// Equal for weights of equal dtype, shape and content.
    pub content: [u8; 16],
    /// The number of its dimensions; only matrices are shared.
    pub rank: usize,
    /// Whether all its elements are equal: two such weights can be equal without being the same parameter.
    pub constant: bool,
}

/// Returns, for each weight, the index of an earlier one that is the same parameter.
///
/// These are: the token embedding and the output projection that is its transpose, or two of either, known by their
/// names (`embed_tokens`, `wte`, `word_embeddings`, `shared`; `lm_head`, `embed_out`, `cls.predictions.decoder`),
/// unless the configuration says `"tie_word_embeddings": false`; and the names listed in its `"tied_weights"`, as in
/// `[["encoder.weight", "decoder.weight"]]`. Their content is equal and, unless the configuration says that they are
/// tied, not constant.
///
/// Compares each weight with all distinct ones of equal content: quadratic if many equal weights are not tied.
pub fn tied(weights: &[SharedWeight<'_>], config: Option<&Value>) -> Vec<Option<usize>> {
    let rules = Rules::new(config);
    let mut groups: HashMap<[u8; 16], Vec<usize>> = HashMap::new();
    let mut tied = vec![None; weights.len()];
    for (place, weight) in weights.iter().enumerate().filter(|(_, w)| w.rank >= 2) {
        let firsts = groups.entry(weight.content).or_default();
        let first = firsts
            .iter()
            .copied()
            .find(|&first| rules.are_one(&weights[first], weight));
        match first {
            Some(first) => tied[place] = Some(first),
            None => firsts.push(place),
        }
    }
    tied
}

/// Returns whether a tensor is, by its name, an attention mask saved with the weights: it may contain -inf and is not
/// trained. The last part of the name ends with `mask`, or is `masked_bias`.
pub fn is_mask(name: &str) -> bool {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let leaf = leaf.to_ascii_lowercase();
    leaf.ends_with("mask") || leaf == "masked_bias"
}

struct Rules<'a> {
    says: Option<bool>,
    /// The configuration's group of a name.
    groups: HashMap<&'a str, usize>,
}

impl<'a> Rules<'a> {
    fn new(config: Option<&'a Value>) -> Rules<'a> {
        let lists = config.and_then(|c| c.get("tied_weights")?.as_array());
        let mut groups = HashMap::new();
        for (group, list) in lists.into_iter().flatten().enumerate() {
            let names = list.as_array().into_iter().flatten();
            groups.extend(names.filter_map(|name| Some((name.as_str()?, group))));
        }
        Rules {
            says: Config::new(config).flag("tie_word_embeddings"),
            groups,
        }
    }

    fn are_one(&self, a: &SharedWeight<'_>, b: &SharedWeight<'_>) -> bool {
        let group = |w: &SharedWeight<'_>| self.groups.get(w.name);
        if group(a).is_some() && group(a) == group(b) {
            return true;
        }
        if self.says == Some(false) || (a.constant && self.says.is_none()) {
            return false;
        }
        let (Some(first), Some(second)) = (Part::of(a.name), Part::of(b.name)) else {
            return false;
        };
        let shares = match (first, second) {
            (Part::Token, Part::Token) => is_of_both(module(a.name)) && is_of_both(module(b.name)),
            _ => true,
        };
        shares && copies(a.name).eq(copies(b.name))
    }
}

/// The input and the output of a language model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Token,
    Output,
}

impl Part {
    fn of(name: &str) -> Option<Part> {
        let module = module(name);
        let (before, last) = module.rsplit_once('.').unwrap_or(("", module));
        match last {
            "embed_tokens" | "wte" | "word_embeddings" | "word_embedding" | "tok_embeddings"
            | "token_embedding" | "token_embeddings" | "tokens_embed" | "embed_in" | "shared"
            | "embedding" | "embed" => Some(Part::Token),
            "lm_head" | "embed_out" | "output_projection" | "generator" | "unembed" | "output"
            | "proj_out" => Some(Part::Output),
            "decoder" if before.ends_with("predictions") || before.ends_with("lm_head") => {
                Some(Part::Output)
            }
            _ => None,
        }
    }
}

fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Returns whether a token embedding is shared by an encoder and a decoder.
fn is_of_both(module: &str) -> bool {
    module
        .split('.')
        .any(|part| matches!(part, "shared" | "encoder" | "decoder"))
}

/// Returns the parts of a name that distinguish a copy of a network from the network, and the numbers that distinguish
/// networks in a list.
fn copies(name: &str) -> impl Iterator<Item = &str> {
    name.split(['.', '_']).filter(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_number
            || matches!(
                *part,
                "ema"
                    | "swa"
                    | "avg"
                    | "average"
                    | "averaged"
                    | "shadow"
                    | "target"
                    | "teacher"
                    | "student"
                    | "online"
                    | "momentum"
                    | "copy"
                    | "old"
                    | "ref"
                    | "reference"
            )
    })
}
