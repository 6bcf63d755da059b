//! Strict JSON: typed errors from serde visitors, no duplicate keys, no zero characters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::de::StrRead;
use serde_json::error::Category;

use crate::error::{Document, Error, Result, shown, shown_reason};
use crate::safetensors::MAX_HEADER_BYTES;

/// State of the visitors. Serde errors only carry a string, so the typed error is kept here.
pub(crate) struct Context {
    pub(crate) document: Document,
    error: RefCell<Option<Error>>,
    key: RefCell<Option<String>>,
}

impl Context {
    /// Stores `error` and returns the serde error that stops the parser.
    pub(crate) fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        self.error.borrow_mut().get_or_insert(error);
        E::custom("refused")
    }

    /// Stores the key whose value was refused.
    pub(crate) fn under<T, E>(&self, key: &str, value: Result<T, E>) -> Result<T, E> {
        if value.is_err() {
            *self.key.borrow_mut() = Some(shown(key));
        }
        value
    }

    /// Refuses text that PostgreSQL cannot store.
    pub(crate) fn text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(self.fail(Error::NulCharacter {
                document: self.document,
                text: shown(text),
            }));
        }
        Ok(())
    }

    /// Returns the error for a repeated key.
    pub(crate) fn duplicate<E: serde::de::Error>(&self, key: &str) -> E {
        self.fail(Error::DuplicateKey {
            document: self.document,
            key: shown(key),
        })
    }
}

/// Parses a document that is one JSON object; `read` visits it.
pub(crate) fn parse_object<'de, T>(
    json: &'de [u8],
    document: Document,
    read: impl FnOnce(&Context, &mut serde_json::Deserializer<StrRead<'de>>) -> serde_json::Result<T>,
) -> Result<T> {
    let length = json.len() as u64;
    if length > MAX_HEADER_BYTES {
        return Err(Error::HeaderTooLong { document, length });
    }
    // JSON allows leading white space, and other readers of safetensors accept it although the format forbids it; a
    // delta is our own format.
    let space = |byte: &u8| {
        document != Document::DeltaManifest && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    };
    if json.iter().find(|byte| !space(byte)) != Some(&b'{') {
        return Err(Error::NotAnObject { document });
    }
    let text = std::str::from_utf8(json).map_err(|e| Error::InvalidUtf8 {
        document,
        offset: e.valid_up_to() as u64,
    })?;
    let context = Context {
        document,
        error: RefCell::new(None),
        key: RefCell::new(None),
    };
    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed = read(&context, &mut parser).and_then(|value| parser.end().map(|()| value));
    parsed.map_err(|e| {
        if let Some(error) = context.error.take() {
            return error;
        }
        let reason = shown_reason(&e.to_string());
        match (e.classify(), context.key.take()) {
            (Category::Data, Some(key)) => Error::WrongType {
                document,
                key,
                reason,
            },
            _ => Error::InvalidJson { document, reason },
        }
    })
}

/// An object of strings.
pub(crate) struct StringMap<'a>(pub(crate) &'a Context);

impl<'de> DeserializeSeed<'de> for StringMap<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StringMap<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut out = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.text(&key)?;
            if out.contains_key(&key) {
                return Err(self.0.duplicate(&key));
            }
            let value = map.next_value::<String>()?;
            self.0.text(&value)?;
            out.insert(key, value);
        }
        Ok(out)
    }
}

/// A value, or null for none.
pub(crate) struct Nullable<S>(pub(crate) S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(d).map(Some)
    }
}

/// Any JSON value without duplicate keys. The parser limits the depth.
pub(crate) struct StrictValue<'a>(pub(crate) &'a Context);

impl<'de> DeserializeSeed<'de> for StrictValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.0.text(v)?;
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(StrictValue(self.0))? {
            out.push(value);
        }
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.text(&key)?;
            if out.contains_key(&key) {
                return Err(self.0.duplicate(&key));
            }
            out.insert(key, map.next_value_seed(StrictValue(self.0))?);
        }
        Ok(out.into())
    }
}
