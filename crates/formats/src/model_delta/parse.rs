//! Reading the manifest.
//!
//! A manifest that [`parse_manifest`] accepts fulfils:
//!
//! 1. every key is there once and no other is, but that a weight may do without `chunks`;
//! 2. names of weights are those of a safetensors header: distinct, not empty, not reserved, free of zero characters,
//!    and of at most [`MAX_NAME_BYTES`](crate::safetensors::MAX_NAME_BYTES) bytes;
//! 3. name and version of the model are not empty and free of zero characters;
//! 4. the file's name stays in its directory wherever it is joined to one.

use faster_hex::hex_decode;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::Manifest;
use super::weight::{WeightDelta, Weights};
use crate::error::{Document, Error, Result, shown};
use crate::file_name::is_plain_file_name;
use crate::json::{Context, parse_object};
use crate::safetensors::check_distinct;

pub(super) const DOCUMENT: Document = Document::DeltaManifest;

/// Parses the manifest from its JSON.
pub fn parse_manifest(json: &[u8]) -> Result<Manifest> {
    let manifest = parse_object(json, DOCUMENT, |context, parser| {
        ManifestSeed(context).deserialize(parser)
    })?;
    manifest.check_texts()?;
    Ok(manifest)
}

impl Manifest {
    /// Checks rules 2 to 4, except those on single names of weights.
    pub(super) fn check_texts(&self) -> Result<()> {
        check_text("model_name", &self.model_name)?;
        check_text("version", &self.version)?;
        check_text("file_name", &self.file_name)?;
        if !is_plain_file_name(&self.file_name) {
            return Err(Error::InvalidTargetFile {
                document: DOCUMENT,
                file: shown(&self.file_name),
            });
        }
        check_distinct(DOCUMENT, self.weights.iter().map(|w| w.name.as_str()))
    }
}

fn check_text(key: &'static str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::EmptyText {
            document: DOCUMENT,
            key,
        });
    }
    if text.contains('\0') {
        return Err(Error::NulCharacter {
            document: DOCUMENT,
            text: shown(text),
        });
    }
    Ok(())
}

/// Parses 64 hexadecimal digits as 32 bytes; lower case only, so that a hash has one spelling.
pub(super) fn hash<E: serde::de::Error>(
    context: &Context,
    key: &'static str,
    text: &str,
) -> Result<[u8; 32], E> {
    unhex(text).ok_or_else(|| {
        context.fail(Error::InvalidHash {
            document: DOCUMENT,
            key,
            value: shown(text),
        })
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let is_upper = text.bytes().any(|digit| digit.is_ascii_uppercase());
    if text.len() != 2 * out.len() || is_upper {
        return None;
    }
    hex_decode(text.as_bytes(), &mut out).ok()?;
    Some(out)
}

/// Returns the value of a required key.
pub(super) fn needed<T, E: serde::de::Error>(
    context: &Context,
    key: &'static str,
    value: Option<T>,
) -> Result<T, E> {
    value.ok_or_else(|| {
        context.fail(Error::MissingKey {
            document: DOCUMENT,
            key,
        })
    })
}

struct ManifestSeed<'a>(&'a Context);

impl<'de> DeserializeSeed<'de> for ManifestSeed<'_> {
    type Value = Manifest;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Manifest, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ManifestSeed<'_> {
    type Value = Manifest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the manifest of a model delta")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            let repeated = self.0.under(&key, fields.read(self.0, &key, &mut map))?;
            if repeated {
                return Err(self.0.duplicate(&key));
            }
        }
        fields.finish(self.0)
    }
}

/// The fields read so far.
#[derive(Default)]
struct Fields {
    from: Option<[u8; 32]>,
    to: Option<[u8; 32]>,
    model_name: Option<String>,
    version: Option<String>,
    file_name: Option<String>,
    file_bytes: Option<u64>,
    blake3: Option<[u8; 32]>,
    weights: Option<Vec<WeightDelta>>,
}

impl Fields {
    /// Reads the value of a key; returns true if the key is repeated.
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        context: &Context,
        key: &str,
        map: &mut A,
    ) -> Result<bool, A::Error> {
        let mut digest = |key| hash(context, key, &map.next_value::<String>()?);
        Ok(match key {
            "from" => self.from.replace(digest("from")?).is_some(),
            "to" => self.to.replace(digest("to")?).is_some(),
            "blake3" => self.blake3.replace(digest("blake3")?).is_some(),
            "model_name" => self.model_name.replace(map.next_value()?).is_some(),
            "version" => self.version.replace(map.next_value()?).is_some(),
            "file_name" => self.file_name.replace(map.next_value()?).is_some(),
            "file_bytes" => self.file_bytes.replace(map.next_value()?).is_some(),
            "weights" => {
                let weights = map.next_value_seed(Weights(context))?;
                self.weights.replace(weights).is_some()
            }
            _ => {
                return Err(context.fail(Error::UnknownKey {
                    document: DOCUMENT,
                    key: shown(key),
                }));
            }
        })
    }

    fn finish<E: serde::de::Error>(self, context: &Context) -> Result<Manifest, E> {
        Ok(Manifest {
            from: needed(context, "from", self.from)?,
            to: needed(context, "to", self.to)?,
            model_name: needed(context, "model_name", self.model_name)?,
            version: needed(context, "version", self.version)?,
            file_name: needed(context, "file_name", self.file_name)?,
            file_bytes: needed(context, "file_bytes", self.file_bytes)?,
            blake3: needed(context, "blake3", self.blake3)?,
            weights: needed(context, "weights", self.weights)?,
        })
    }
}
