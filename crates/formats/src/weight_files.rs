//! Names of safetensors files in one folder: which are parts of the same weights, and which hold them once more.
//!
//! Hubs keep several forms of the same weights next to each other. `model.fp16.safetensors` is a variant of
//! `model.safetensors`, in transformers and in diffusers; both may be in several files, as
//! `model.fp16-00001-of-00002.safetensors` or `model-00001-of-00002.fp16.safetensors`. `consolidated.safetensors` holds
//! the weights under the names of the original code, next to files of transformers.

use crate::file_name::folder_of;

const EXTENSION: &str = ".safetensors";

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFile<'a> {
    folder: &'a str,
    base: &'a str,
    /// Empty for the form without one.
    variant: &'a str,
}

impl<'a> WeightFile<'a> {
    /// Takes a name apart: the folder, and the parts before and after the first dot, without the number of the file.
    pub fn of(name: &'a str) -> WeightFile<'a> {
        let folder = folder_of(name);
        let stem = &name[folder.len()..];
        let stem = stem.strip_suffix(EXTENSION).unwrap_or(stem);
        let (base, variant) = stem.split_once('.').unwrap_or((stem, ""));
        WeightFile {
            folder,
            base: without_number(base),
            variant: without_number(variant),
        }
    }

    /// Returns whether two files are named as forms of the same weights. A number is no variant but a part.
    pub fn is_other_form_of(&self, other: &WeightFile<'_>) -> bool {
        let is_part = |variant: &str| !variant.is_empty() && !variant.contains(char::is_alphabetic);
        self.folder == other.folder
            && (self.is_consolidated() != other.is_consolidated()
                || self.base == other.base
                    && self.variant != other.variant
                    && !is_part(self.variant)
                    && !is_part(other.variant))
    }

    /// Returns whether the file holds the weights of the files next to it, whatever their names are.
    pub fn repeats(&self, other: &WeightFile<'_>) -> bool {
        self.folder == other.folder && self.is_consolidated() && !other.is_consolidated()
    }

    /// Returns what to sort forms by: the one that is the weights of the folder comes first.
    pub fn preference(&self) -> (bool, &'a str) {
        (self.is_consolidated(), self.variant)
    }

    fn is_consolidated(&self) -> bool {
        self.base == "consolidated"
    }
}

/// Cuts off the number of a file among several, `-00001-of-00002`.
fn without_number(part: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let cut = part
        .rsplit_once("-of-")
        .filter(|(_, count)| number(count))
        .and_then(|(rest, _)| rest.rsplit_once('-'))
        .filter(|(_, index)| number(index));
    cut.map_or(part, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_same_weights() {
        let forms = |a: &str, b: &str| WeightFile::of(a).is_other_form_of(&WeightFile::of(b));
        for (a, b, expected) in [
            ("model.safetensors", "model.fp16.safetensors", true),
            ("unet/d.safetensors", "unet/d.non_ema.safetensors", true),
            ("m.fp16.safetensors", "m.non_ema.safetensors", true),
            (
                "model-00001-of-00002.safetensors",
                "model.fp16-00002-of-00002.safetensors",
                true,
            ),
            (
                "model-00001-of-00002.fp16.safetensors",
                "model.safetensors",
                true,
            ),
            (
                "consolidated.safetensors",
                "model-00001-of-00003.safetensors",
                true,
            ),
            ("consolidated.safetensors", "anything.safetensors", true),
            (
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                false,
            ),
            (
                "model-00001-of-00002.fp16.safetensors",
                "model.fp16.safetensors",
                false,
            ),
            ("unet/model.safetensors", "model.fp16.safetensors", false),
            ("model.safetensors", "adapter_model.safetensors", false),
            (
                "consolidated.00.safetensors",
                "consolidated.01.safetensors",
                false,
            ),
            ("consolidated.safetensors", "sub/model.safetensors", false),
            ("model.1.safetensors", "model.safetensors", false),
            ("model.safetensors", "model.safetensors", false),
        ] {
            assert_eq!(forms(a, b), expected, "{a} {b}");
            assert_eq!(forms(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_main_form_comes_first() {
        let mut names = [
            "consolidated.safetensors",
            "model.fp16.safetensors",
            "model.safetensors",
        ];
        names.sort_by_key(|name| WeightFile::of(name).preference());
        assert_eq!(
            names,
            [
                "model.safetensors",
                "model.fp16.safetensors",
                "consolidated.safetensors"
            ]
        );
        let repeats = |a: &str, b: &str| WeightFile::of(a).repeats(&WeightFile::of(b));
        assert!(repeats("consolidated.safetensors", "model.safetensors"));
        assert!(!repeats("model.safetensors", "consolidated.safetensors"));
        assert!(!repeats("model.fp16.safetensors", "model.safetensors"));
    }
}
