//! The fields of a `config.json` that are used here.

use serde_json::Value;

/// Returns the number of layers according to a configuration.
pub fn layer_count(config: &Value) -> Option<u64> {
    Config::new(Some(config)).num_layers()
}

/// A configuration; fields of a wrong type or not above zero count as absent.
#[derive(Clone, Copy)]
pub(super) struct Config<'a> {
    /// The object itself, and the one for text of a multimodal model.
    objects: [Option<&'a Value>; 2],
}

impl<'a> Config<'a> {
    pub(super) fn new(config: Option<&'a Value>) -> Config<'a> {
        let text = config.and_then(|c| c.get("text_config"));
        Config {
            objects: [config, text],
        }
    }

    fn get<T>(&self, names: &[&str], read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let objects = self.objects.iter().flatten();
        objects
            .flat_map(|object| names.iter().filter_map(|name| object.get(*name)))
            .find_map(read)
    }

    fn size(&self, names: &[&str]) -> Option<u64> {
        self.get(names, |v| v.as_u64().filter(|&n| n > 0))
    }

    pub(super) fn model_type(&self) -> Option<&'a str> {
        self.get(&["model_type"], Value::as_str)
    }

    /// Returns the type of the text part, which is more specific than that of the whole.
    pub(super) fn text_model_type(&self) -> Option<&'a str> {
        self.objects[1]?.get("model_type")?.as_str()
    }

    pub(super) fn hidden_size(&self) -> Option<u64> {
        self.size(&["hidden_size", "n_embd", "d_model", "dim"])
    }

    pub(super) fn vocab_size(&self) -> Option<u64> {
        self.size(&["vocab_size"])
    }

    pub(super) fn intermediate_size(&self) -> Option<u64> {
        self.size(&["intermediate_size", "n_inner", "d_ff", "hidden_dim"])
    }

    pub(super) fn max_positions(&self) -> Option<u64> {
        self.size(&["max_position_embeddings", "n_positions", "n_ctx"])
    }

    pub(super) fn num_heads(&self) -> Option<u64> {
        self.size(&["num_attention_heads", "n_head", "num_heads", "n_heads"])
    }

    /// Returns the number of key and value heads: one if, by the configuration, all queries share it.
    pub(super) fn num_kv_heads(&self) -> Option<u64> {
        let shared = self.get(&["multi_query"], Value::as_bool) == Some(true);
        self.size(&["num_key_value_heads", "n_head_kv"])
            .or(shared.then_some(1))
    }

    pub(super) fn num_layers(&self) -> Option<u64> {
        self.size(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"])
    }

    /// Returns the number of segments of the segment embedding.
    pub(super) fn num_segments(&self) -> Option<u64> {
        self.size(&["type_vocab_size"])
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(&[name], Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(&[name], Value::as_str)
    }

    pub(super) fn head_dim(&self) -> Option<u64> {
        self.size(&["head_dim", "d_kv"])
    }
}
