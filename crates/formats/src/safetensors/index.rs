//! The index of a sharded model: which tensor is in which file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::entry::check_name;
use crate::error::{Document, Error, Result, shown};
use crate::file_name::is_plain_file_name;
use crate::json::{Context, StrictValue, StringMap, parse_object};

const DOCUMENT: Document = Document::SafetensorsIndex;

const SHARD_EXTENSION: &str = ".safetensors";

/// The content of a `model.safetensors.index.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardIndex {
    /// The file of each tensor. Files are plain names without a directory.
    pub weight_map: BTreeMap<String, String>,
    /// Other metadata of the model, usually its size; null if there is none.
    pub metadata: Value,
}

impl ShardIndex {
    /// Returns the files, sorted, without duplicates.
    pub fn files(&self) -> Vec<&str> {
        let files: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        files.into_iter().collect()
    }

    /// Checks that `shards`, file names with the names of the tensors in them, are exactly the files of this index:
    /// every tensor is in its file, and there are no other files and tensors. O(tensors · log tensors).
    pub fn check(&self, shards: &[(String, Vec<String>)]) -> Result<()> {
        let files: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        let mut given = BTreeSet::new();
        for (file, _) in shards {
            if !files.contains(file.as_str()) {
                return Err(Error::UnexpectedFile { file: shown(file) });
            }
            if !given.insert(file.as_str()) {
                return Err(Error::RepeatedFile { file: shown(file) });
            }
        }
        if let Some(file) = files.difference(&given).next() {
            return Err(Error::MissingFile { file: shown(file) });
        }
        let mut found = BTreeSet::new();
        for (file, tensors) in shards {
            for tensor in tensors {
                match self.weight_map.get(tensor) {
                    None => {
                        return Err(Error::UnexpectedTensor {
                            tensor: shown(tensor),
                            file: shown(file),
                        });
                    }
                    Some(expected) if expected != file => {
                        return Err(Error::MisplacedTensor {
                            tensor: shown(tensor),
                            file: shown(file),
                            expected: shown(expected),
                        });
                    }
                    Some(_) => found.insert(tensor.as_str()),
                };
            }
        }
        match self
            .weight_map
            .iter()
            .find(|(t, _)| !found.contains(t.as_str()))
        {
            Some((tensor, file)) => Err(Error::MissingTensor {
                tensor: shown(tensor),
                file: shown(file),
            }),
            None => Ok(()),
        }
    }
}

/// Parses an index. Ignores keys other than `weight_map` and `metadata`, as other readers do.
pub fn parse_index(json: &[u8]) -> Result<ShardIndex> {
    let index = parse_object(json, DOCUMENT, |context, parser| {
        IndexSeed(context).deserialize(parser)
    })?;
    for (tensor, file) in &index.weight_map {
        check_name(DOCUMENT, tensor)?;
        if !is_plain_file_name(file) {
            return Err(Error::InvalidFileName {
                tensor: shown(tensor),
                file: shown(file),
            });
        }
    }
    Ok(index)
}

/// Returns whether a file name is that of an index rather than a shard: `model.safetensors.index.json`, or with the
/// variant of the weights `model.safetensors.index.fp16.json` or `model.fp16.index.json`.
pub fn is_index_name(name: &str) -> bool {
    name.strip_suffix(".json")
        .is_some_and(|name| name.split('.').skip(1).any(|part| part == "index"))
}

/// Returns whether a file is an index of safetensors shards, rather than one of another format (such as
/// `pytorch_model.bin.index.json`): its name says so, or it has the name of an index and lists a `.safetensors` file.
pub fn is_index(name: &str, json: &[u8]) -> bool {
    is_index_name(name) && (name.contains(SHARD_EXTENSION) || lists_shards(json).unwrap_or(false))
}

/// Any file can be asked: nothing but one entry at a time is kept of it.
fn lists_shards(json: &[u8]) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Listed {
        weight_map: AnyShard,
    }
    struct AnyShard(bool);
    impl<'de> serde::Deserialize<'de> for AnyShard {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<AnyShard, D::Error> {
            struct Files;
            impl<'de> Visitor<'de> for Files {
                type Value = AnyShard;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map of files")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyShard, A::Error> {
                    let mut any = false;
                    while let Some((_, file)) = map.next_entry::<IgnoredAny, Box<RawValue>>()? {
                        let file = file.get().trim_end_matches('"');
                        any |= file.starts_with('"') && file.ends_with(SHARD_EXTENSION);
                    }
                    Ok(AnyShard(any))
                }
            }
            d.deserialize_map(Files)
        }
    }
    let listed: Listed = serde_json::from_slice(json).ok()?;
    Some(listed.weight_map.0)
}

struct IndexSeed<'a>(&'a Context);

impl<'de> DeserializeSeed<'de> for IndexSeed<'_> {
    type Value = ShardIndex;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<ShardIndex, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexSeed<'_> {
    type Value = ShardIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with weight_map and metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShardIndex, A::Error> {
        let context = self.0;
        let (mut weight_map, mut metadata) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let repeated = match key.as_str() {
                "weight_map" => weight_map
                    .replace(context.under(&key, map.next_value_seed(StringMap(context)))?)
                    .is_some(),
                "metadata" => metadata
                    .replace(context.under(&key, map.next_value_seed(StrictValue(context)))?)
                    .is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if repeated {
                return Err(context.duplicate(&key));
            }
        }
        let Some(weight_map) = weight_map else {
            return Err(context.fail(Error::MissingKey {
                document: DOCUMENT,
                key: "weight_map",
            }));
        };
        Ok(ShardIndex {
            weight_map,
            metadata: metadata.unwrap_or(Value::Null),
        })
    }
}
