//! One tensor of the header: `{"dtype": …, "shape": […], "data_offsets": [start, end]}`.

use std::fmt;

use modelstore_tensor::{DType, Shape};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{MAX_NAME_BYTES, dtype};
use crate::error::{Document, Error, Result, shown};
use crate::json::Context;

const DTYPE: &str = "dtype";
const SHAPE: &str = "shape";
const OFFSETS: &str = "data_offsets";

/// A checked entry without its name.
pub(super) struct Entry {
    pub(super) dtype: DType,
    pub(super) shape: Shape,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Refuses names that the database cannot store.
pub(crate) fn check_name(document: Document, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::EmptyName { document });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::NameTooLong {
            name: shown(name),
            length: name.len() as u64,
        });
    }
    if name.contains('\0') {
        return Err(Error::NulCharacter {
            document,
            text: shown(name),
        });
    }
    Ok(())
}

/// Refuses a repeated name: readers disagree on which one counts.
pub(crate) fn check_distinct<'a>(
    document: Document,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::DuplicateKey {
            document,
            key: shown(pair[0]),
        }),
        None => Ok(()),
    }
}

/// Returns the bytes of a tensor, or an error that names it.
pub(super) fn byte_len(tensor: &str, dtype: DType, shape: &Shape) -> Result<u64> {
    shape.byte_len(dtype).map_err(|source| match source {
        modelstore_tensor::Error::PartialBlock { shape, dtype } => Error::PartialByte {
            tensor: shown(tensor),
            shape,
            dtype,
        },
        source => Error::InvalidShape {
            tensor: shown(tensor),
            source,
        },
    })
}

impl Entry {
    /// Checks everything that does not depend on other tensors.
    fn new(tensor: &str, dtype: DType, dims: &[u64], (start, end): (u64, u64)) -> Result<Entry> {
        let shape = Shape::new(dims).map_err(|source| Error::InvalidShape {
            tensor: shown(tensor),
            source,
        })?;
        let expected = byte_len(tensor, dtype, &shape)?;
        let actual = end.checked_sub(start).ok_or_else(|| Error::OffsetOrder {
            tensor: shown(tensor),
            start,
            end,
        })?;
        if actual != expected {
            return Err(Error::WrongLength {
                tensor: shown(tensor),
                shape: shape.to_string(),
                dtype,
                expected,
                actual,
            });
        }
        Ok(Entry {
            dtype,
            shape,
            start,
            end,
        })
    }
}

/// Reads the entry of the tensor called `tensor`.
pub(super) struct EntrySeed<'a> {
    pub(super) context: &'a Context,
    pub(super) tensor: &'a str,
}

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Entry, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let EntrySeed { context, tensor } = self;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let repeated = match key.as_str() {
                DTYPE => dtype
                    .replace(map.next_value_seed(DTypeSeed { context, tensor })?)
                    .is_some(),
                SHAPE => {
                    let field = Numbers::new(context, tensor, SHAPE);
                    shape.replace(map.next_value_seed(field)?).is_some()
                }
                OFFSETS => {
                    let field = Numbers::new(context, tensor, OFFSETS);
                    offsets.replace(map.next_value_seed(field)?).is_some()
                }
                _ => {
                    return Err(context.fail(Error::UnknownField {
                        tensor: shown(tensor),
                        field: shown(&key),
                    }));
                }
            };
            if repeated {
                return Err(context.duplicate(&key));
            }
        }
        let missing = |field| {
            context.fail(Error::MissingField {
                tensor: shown(tensor),
                field,
            })
        };
        let dtype = dtype.ok_or_else(|| missing(DTYPE))?;
        let shape = shape.ok_or_else(|| missing(SHAPE))?;
        let offsets = offsets.ok_or_else(|| missing(OFFSETS))?;
        let &[start, end] = offsets.as_slice() else {
            return Err(context.fail(Error::OffsetCount {
                tensor: shown(tensor),
            }));
        };
        Entry::new(tensor, dtype, &shape, (start, end)).map_err(|e| context.fail(e))
    }
}

struct DTypeSeed<'a> {
    context: &'a Context,
    tensor: &'a str,
}

impl<'de> DeserializeSeed<'de> for DTypeSeed<'_> {
    type Value = DType;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<DType, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for DTypeSeed<'_> {
    type Value = DType;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a dtype")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<DType, E> {
        dtype::from_name(name).ok_or_else(|| {
            self.context.fail(Error::UnknownDtype {
                tensor: shown(self.tensor),
                dtype: shown(name),
            })
        })
    }
}

/// A list of whole numbers, or one of them.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    context: &'a Context,
    tensor: &'a str,
    field: &'static str,
}

impl<'a> Numbers<'a> {
    fn new(context: &'a Context, tensor: &'a str, field: &'static str) -> Numbers<'a> {
        Numbers {
            context,
            tensor,
            field,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Numbers<'_> {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Vec<u64>, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut out = Vec::new();
        while let Some(number) = seq.next_element_seed(Number(self))? {
            out.push(number);
            // Enough to refuse it later, without keeping a list as long as the header.
            if out.len() > Shape::MAX_RANK {
                let error = if self.field == OFFSETS {
                    Error::OffsetCount {
                        tensor: shown(self.tensor),
                    }
                } else {
                    Error::InvalidShape {
                        tensor: shown(self.tensor),
                        source: modelstore_tensor::Error::RankTooLarge(out.len()),
                    }
                };
                return Err(self.context.fail(error));
            }
        }
        Ok(out)
    }
}

struct Number<'a>(Numbers<'a>);

impl Number<'_> {
    fn refuse<T, E: serde::de::Error>(self, value: impl fmt::Display) -> Result<T, E> {
        Err(self.0.context.fail(Error::InvalidNumber {
            tensor: shown(self.0.tensor),
            field: self.0.field,
            value: value.to_string(),
        }))
    }
}

impl<'de> DeserializeSeed<'de> for Number<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<u64, D::Error> {
        d.deserialize_u64(self)
    }
}

impl Visitor<'_> for Number<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E>(self, v: u64) -> Result<u64, E> {
        Ok(v)
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<u64, E> {
        self.refuse(v)
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<u64, E> {
        // In scientific notation: 1e300 would take 301 digits.
        self.refuse(format_args!("{v:e}"))
    }
}
