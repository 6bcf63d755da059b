//! The parts of a tensor's name.

use super::MAX_LAYERS;

/// The parts of a name such as `encoder.layer.0.output.dense.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// Its layer, if names number layers.
    pub(super) layer: Option<LayerPath<'a>>,
    /// The part between the layer, or the start, and the last dot: `output.dense`.
    pub(super) module: &'a str,
    /// The part after the last dot: `weight`.
    pub(super) leaf: &'a str,
}

/// The layer of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerPath<'a> {
    /// The list that contains it: `encoder.layer`.
    pub(super) stack: &'a str,
    /// The list and the number: `encoder.layer.0`.
    pub(super) name: &'a str,
    /// The number.
    pub(super) number: u32,
}

impl LayerPath<'_> {
    /// Returns whether the list contains layers that predict further tokens: `mtp.layers` of Qwen3-Next,
    /// `model.mtp_layers` of MiMo.
    pub(super) fn is_mtp(&self) -> bool {
        let mut parts = self.stack.split('.');
        parts.any(|part| part == "mtp" || part == "mtp_layers")
    }
}

impl<'a> Path<'a> {
    pub(super) fn new(name: &'a str) -> Path<'a> {
        let (layer, rest) = match split_layer(name) {
            Some((layer, rest)) => (Some(layer), rest),
            None => (None, name),
        };
        let (module, leaf) = rest.rsplit_once('.').unwrap_or(("", rest));
        Path {
            layer,
            module,
            leaf,
        }
    }

    /// Returns whether the module is `end`, or ends with it after a dot.
    pub(super) fn module_ends(&self, end: &str) -> bool {
        self.module
            .strip_suffix(end)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

fn split_layer(name: &str) -> Option<(LayerPath<'_>, &str)> {
    let mut start = 0;
    let mut in_list = false;
    for part in name.split('.') {
        let end = start + part.len();
        if in_list && let Some(number) = layer_number(part) {
            let layer = LayerPath {
                stack: &name[..start - 1],
                name: &name[..end],
                number,
            };
            return Some((layer, name.get(end + 1..).unwrap_or("")));
        }
        in_list = matches!(
            part,
            "layers" | "layer" | "h" | "blocks" | "block" | "mtp" | "mtp_layers"
        );
        start = end + 1;
    }
    None
}

/// Parses a number in canonical form: `007` would be a second name of layer 7.
fn layer_number(part: &str) -> Option<u32> {
    let canonical = part == "0" || !part.starts_with('0');
    if !canonical || part.len() > 5 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    part.parse().ok().filter(|&n| (n as usize) < MAX_LAYERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> Option<(&str, &str, u32)> {
        Path::new(name).layer.map(|l| (l.stack, l.name, l.number))
    }

    #[test]
    fn the_first_numbered_list_is_the_layer() {
        let p = Path::new("bert.encoder.layer.10.output.dense.weight");
        assert_eq!((p.module, p.leaf), ("output.dense", "weight"));
        assert_eq!(
            p.layer.map(|l| (l.stack, l.name, l.number)),
            Some(("bert.encoder.layer", "bert.encoder.layer.10", 10))
        );
        assert_eq!(layer("h.0"), Some(("h", "h.0", 0)));
        assert_eq!(
            layer("encoder.block.1.layer.0.x"),
            Some(("encoder.block", "encoder.block.1", 1))
        );
    }

    #[test]
    fn what_is_no_number_is_no_layer() {
        for name in [
            "",
            ".",
            "layers",
            "layers.",
            "layers.x.1",
            "layers.00.w",
            "layers.-1.w",
            "layers.65536.w",
            "layers.99999999999999999999.w",
            "layers.１.w",
            "layer1.0.conv.weight",
        ] {
            assert_eq!(layer(name), None, "{name}");
        }
        assert_eq!(layer("layers.65535.w").map(|l| l.2), Some(65535));
    }

    #[test]
    fn modules_end_at_dots() {
        let p = Path::new("bert.embeddings.word_embeddings.weight");
        assert!(p.module_ends("embeddings.word_embeddings"));
        assert!(!p.module_ends("dings.word_embeddings"));
        assert!(Path::new("wte.weight").module_ends("wte"));
    }
}
