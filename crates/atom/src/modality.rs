//! The kind of data of an atom: determines how data is split and what its coordinates mean.

use crate::{Error, Result};

/// The modalities, in the order of their numbers. These are stored and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Modality {
    /// Natural language.
    Text = 0,
    /// Sound.
    Audio = 1,
    /// Pictures.
    Image = 2,
    /// Moving pictures.
    Video = 3,
    /// Weights and other arrays of numbers.
    Tensor = 4,
    /// Source code.
    Code = 5,
    /// JSON, CSV and the like.
    Structured = 6,
    /// Everything else.
    Other = 7,
}

impl Modality {
    /// All modalities, each at the index of its number.
    pub const ALL: [Modality; 8] = [
        Modality::Text,
        Modality::Audio,
        Modality::Image,
        Modality::Video,
        Modality::Tensor,
        Modality::Code,
        Modality::Structured,
        Modality::Other,
    ];

    /// Returns its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Text => "text",
            Modality::Audio => "audio",
            Modality::Image => "image",
            Modality::Video => "video",
            Modality::Tensor => "tensor",
            Modality::Code => "code",
            Modality::Structured => "structured",
            Modality::Other => "other",
        }
    }

    /// Returns whether its data is text, which is split after lines.
    pub fn has_lines(self) -> bool {
        matches!(self, Modality::Text | Modality::Code | Modality::Structured)
    }

    /// Returns the modality of that name, in lower case.
    pub fn from_name(name: &str) -> Result<Modality> {
        Modality::ALL
            .into_iter()
            .find(|modality| modality.name() == name)
            .ok_or_else(|| Error::ModalityName(name.into()))
    }

    /// Returns the modality of that number.
    pub fn from_number(number: i64) -> Result<Modality> {
        usize::try_from(number)
            .ok()
            .and_then(|number| Modality::ALL.get(number).copied())
            .ok_or(Error::ModalityNumber(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for (number, modality) in Modality::ALL.into_iter().enumerate() {
            assert_eq!(modality as usize, number);
            assert_eq!(Modality::from_number(number as i64), Ok(modality));
            assert_eq!(Modality::from_name(modality.name()), Ok(modality));
        }
        for wrong in [-1, 8, 256, i64::MIN, i64::MAX] {
            assert_eq!(
                Modality::from_number(wrong),
                Err(Error::ModalityNumber(wrong))
            );
        }
        assert!(Modality::from_name("Text").is_err());
    }
}
