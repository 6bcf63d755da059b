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
pub fn tied(weights: &[SharedWeight<'_>], config: Option<&Value>) -> Vec<Option<usize>> {
    let rules = Rules::new(config);
    let mut firsts = Firsts::default();
    let mut tied = vec![None; weights.len()];
    for (place, weight) in weights.iter().enumerate().filter(|(_, w)| w.rank >= 2) {
        let group = rules.groups.get(weight.name).copied();
        let part = Part::of(weight.name).filter(|_| rules.go_by_name(weight));
        tied[place] = firsts.find(weight, group, part);
        if tied[place].is_none() {
            firsts.add(place, weight, group, part);
        }
    }
    tied
}

/// The content of a weight, and what its name says of copies.
type NameKey<'a> = ([u8; 16], Vec<&'a str>);

/// The first weights of each content that are no other weight, by what they can be shared by.
#[derive(Default)]
struct Firsts<'a> {
    /// By the configuration's group.
    by_group: HashMap<([u8; 16], usize), usize>,
    /// By what the name says of copies: the first token embedding, the first of several stacks, the first output projection.
    by_name: HashMap<NameKey<'a>, [Option<usize>; 3]>,
}

impl<'a> Firsts<'a> {
    fn find(
        &self,
        weight: &SharedWeight<'a>,
        group: Option<usize>,
        part: Option<Part>,
    ) -> Option<usize> {
        let of_group = group.and_then(|group| self.by_group.get(&(weight.content, group)).copied());
        let of_name = part.and_then(|part| {
            let key = (weight.content, copies(weight.name).collect());
            let [token, of_both, output] = *self.by_name.get(&key)?;
            let others = match part {
                Part::Token if is_of_both(module(weight.name)) => [of_both, output],
                Part::Token => [None, output],
                Part::Output => [token, output],
            };
            others.into_iter().flatten().min()
        });
        of_group.into_iter().chain(of_name).min()
    }

    fn add(
        &mut self,
        place: usize,
        weight: &SharedWeight<'a>,
        group: Option<usize>,
        part: Option<Part>,
    ) {
        if let Some(group) = group {
            self.by_group
                .entry((weight.content, group))
                .or_insert(place);
        }
        if let Some(part) = part {
            let key = (weight.content, copies(weight.name).collect());
            let [token, of_both, output] = self.by_name.entry(key).or_default();
            match part {
                Part::Token => {
                    token.get_or_insert(place);
                    if is_of_both(module(weight.name)) {
                        of_both.get_or_insert(place);
                    }
                }
                Part::Output => {
                    output.get_or_insert(place);
                }
            }
        }
    }
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

    /// Whether a weight can be shared because of its name.
    fn go_by_name(&self, weight: &SharedWeight<'_>) -> bool {
        self.says == Some(true) || self.says.is_none() && !weight.constant
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
