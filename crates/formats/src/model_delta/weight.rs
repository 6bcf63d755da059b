//! One weight of the manifest: `{"name": …, "base": …, "chunks": [[raw_bytes, stored_bytes], …]}`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::parse::{DOCUMENT, hash, needed};
use crate::error::{Error, shown};
use crate::json::Context;
use crate::safetensors::{METADATA_KEY, check_name};

/// One weight of the target model.
///
/// Without chunks it equals the base model's weight of the same name. With chunks, its bytes are those of the chunks in
/// order; the base of a delta is the same range of bytes of the base model's weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightDelta {
    /// The name, unique in the model.
    pub name: String,
    /// BLAKE3-256 of the bytes of the base model's weight of that name, if it is used.
    pub base: Option<[u8; 32]>,
    /// The chunks in the file, or `None` if the weight is unchanged.
    pub chunks: Option<Vec<ChunkDelta>>,
}

/// One encoded chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkDelta {
    /// Bytes it decodes to.
    pub raw_bytes: u32,
    /// Bytes it has in the file.
    pub stored_bytes: u32,
}

/// A list of weights.
pub(super) struct Weights<'a>(pub(super) &'a Context);

impl<'de> DeserializeSeed<'de> for Weights<'_> {
    type Value = Vec<WeightDelta>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Weights<'_> {
    type Value = Vec<WeightDelta>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of weights")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // Grows with the input: JSON does not announce a length.
        let mut out = Vec::new();
        while let Some(weight) = seq.next_element_seed(Weight(self.0))? {
            out.push(weight);
        }
        Ok(out)
    }
}

struct Weight<'a>(&'a Context);

impl<'de> DeserializeSeed<'de> for Weight<'_> {
    type Value = WeightDelta;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<WeightDelta, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Weight<'_> {
    type Value = WeightDelta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with name, base and chunks")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightDelta, A::Error> {
        let context = self.0;
        let (mut name, mut base, mut chunks) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let repeated = match key.as_str() {
                "name" => name.replace(map.next_value::<String>()?).is_some(),
                "base" => {
                    let text = map.next_value::<Option<String>>()?;
                    let parsed = text.map(|t| hash(context, "base", &t)).transpose()?;
                    base.replace(parsed).is_some()
                }
                "chunks" => chunks.replace(map.next_value_seed(Chunks)?).is_some(),
                _ => {
                    return Err(context.fail(Error::UnknownKey {
                        document: DOCUMENT,
                        key: shown(&key),
                    }));
                }
            };
            if repeated {
                return Err(context.duplicate(&key));
            }
        }
        let name = needed(context, "name", name)?;
        check_weight_name(&name).map_err(|e| context.fail(e))?;
        Ok(WeightDelta {
            name,
            base: needed(context, "base", base)?,
            chunks: chunks.flatten(),
        })
    }
}

/// Refuses names that a safetensors file cannot have.
pub(super) fn check_weight_name(name: &str) -> crate::Result<()> {
    check_name(DOCUMENT, name)?;
    if name == METADATA_KEY {
        return Err(Error::ReservedName { name: name.into() });
    }
    Ok(())
}

/// A list of pairs, or null.
struct Chunks;

impl<'de> DeserializeSeed<'de> for Chunks {
    type Value = Option<Vec<ChunkDelta>>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Chunks {
    type Value = Option<Vec<ChunkDelta>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of chunks or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut out = Vec::new();
        while let Some(chunk) = seq.next_element_seed(Pair)? {
            out.push(chunk);
        }
        Ok(Some(out))
    }
}

/// Exactly two numbers of 32 bits.
struct Pair;

impl<'de> DeserializeSeed<'de> for Pair {
    type Value = ChunkDelta;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<ChunkDelta, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair {
    type Value = ChunkDelta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two numbers, of raw and stored bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ChunkDelta, A::Error> {
        let refused = |n: usize| serde::de::Error::invalid_length(n, &Pair);
        let raw_bytes = seq.next_element()?.ok_or_else(|| refused(0))?;
        let stored_bytes = seq.next_element()?.ok_or_else(|| refused(1))?;
        // Without this, the parser would report the third one as invalid JSON.
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(refused(3));
        }
        Ok(ChunkDelta {
            raw_bytes,
            stored_bytes,
        })
    }
}
