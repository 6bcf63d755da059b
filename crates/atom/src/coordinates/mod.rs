//! The coordinates of an atom: three are computed from its bytes, so that similar contents are close together.
//!
//! A coordinate is 0 to 2^28 - 1. The three depend only on the modality and the bytes. They are stored, so their
//! definition never changes. All arithmetic is on integers; only [`Modality::Tensor`] and the standard deviation of
//! bytes need f64, and only its `+ - * /` and `sqrt`, which IEEE 754 rounds in one way, in a fixed order. The state is
//! a few running sums, so a content is read once, in pieces of any size.
//!
//! | modality | x | y | z |
//! | --- | --- | --- | --- |
//! | text | prefix | mean first byte of the characters: 0–64 on the first quarter of the axis, 64–128 on the half in the middle, 128–256 on the last quarter | length |
//! | code | prefix | indentation, 2 columns a step of 2^24, at most 15 steps; within the step the share of punctuation, up to one half | length |
//! | structured | prefix after brackets, quotes, commas, colons and semicolons | share of digits and punctuation | length |
//! | audio | root mean square: log2(1 + rms) · 2^24 | changes of sign, a share of the pairs of neighbours: log2(1 + share · 2^16) · 2^24 | peak: log2(1 + peak) · 2^24 |
//! | image | mean of the bytes at 0, 3, 6, …: red | at 1, 4, 7, …: green | at 2, 5, 8, …: blue |
//! | video, other | mean byte | standard deviation of the bytes, 127.5 is the end | mean difference of neighbouring bytes, 128 is the end |
//! | tensor | mean m: (1 + m / (1/64 + abs m)) · 2^27 | standard deviation s: s / (1/16 + s) · 2^28 | largest magnitude a: a / (1 + a) · 2^28 |
//!
//! * Prefix: the first four bytes after leading white space, a digit of 7 bits each, the first one on top. Digits
//!   follow the order of Unicode's code points, with capital letters of ASCII as small ones; control characters and
//!   missing bytes are 0. So four letters of ASCII count, two of Greek or Cyrillic, one of Chinese.
//! * Mean first byte: a character of ASCII is its code; any other is the first byte of its UTF-8, 194 to 244, which tells
//!   the script and lets one dash among letters weigh as little as it should. The other bytes, 128 to 191, are left out.
//! * Length: log2(1 + bytes) · 2^23. It ends at 4 GiB.
//! * Indentation: columns of the spaces and tabs (4 columns) before the first byte that is not white space, in its line.
//! * Punctuation: the 32 characters that ASCII calls so. Shares are of all bytes.
//! * log2 is a straight line between powers of two: a doubling is always the same distance.
//! * Audio is signed samples of 16 bits, tensors are words of f32, both little endian. Incomplete ones at the end are left
//!   out, and so are words that are infinite or NaN.
//! * Means of bytes end at 255, shares at 1.
//!
//! Results are rounded down. Contents without bytes, samples or finite words are at 0, 0, 0.

mod audio;
mod bytes;
mod image;
mod prefix;
mod scale;
mod tensor;
mod words;
mod written;

use crate::Modality;

/// Computes the coordinates of a content that arrives in pieces. Small, and cheap to clone.
#[derive(Clone, Debug)]
pub struct Coordinates(State);

/// The running sums of each family.
#[derive(Clone, Debug)]
enum State {
    Text(written::Text),
    Code(written::Code),
    Structured(written::Structured),
    Audio(audio::Audio),
    Image(image::Image),
    Tensor(tensor::Tensor),
    Bytes(bytes::Bytes),
}

impl Coordinates {
    /// Starts with an empty content of that modality.
    pub fn new(modality: Modality) -> Coordinates {
        Coordinates(match modality {
            Modality::Text => State::Text(Default::default()),
            Modality::Code => State::Code(Default::default()),
            Modality::Structured => State::Structured(Default::default()),
            Modality::Audio => State::Audio(Default::default()),
            Modality::Image => State::Image(Default::default()),
            Modality::Tensor => State::Tensor(Default::default()),
            Modality::Video | Modality::Other => State::Bytes(Default::default()),
        })
    }

    /// Adds the next bytes. How a content is split makes no difference.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Text(state) => state.update(bytes),
            State::Code(state) => state.update(bytes),
            State::Structured(state) => state.update(bytes),
            State::Audio(state) => state.update(bytes),
            State::Image(state) => state.update(bytes),
            State::Tensor(state) => state.update(bytes),
            State::Bytes(state) => state.update(bytes),
        }
    }

    /// Returns x, y and z of the bytes so far, each 0 to 2^28 - 1.
    pub fn finish(self) -> [u32; 3] {
        match &self.0 {
            State::Text(state) => state.finish(),
            State::Code(state) => state.finish(),
            State::Structured(state) => state.finish(),
            State::Audio(state) => state.finish(),
            State::Image(state) => state.finish(),
            State::Tensor(state) => state.finish(),
            State::Bytes(state) => state.finish(),
        }
    }
}

/// Returns x, y and z of a whole content, each 0 to 2^28 - 1.
pub fn coordinates(modality: Modality, content: &[u8]) -> [u32; 3] {
    let mut coordinates = Coordinates::new(modality);
    coordinates.update(content);
    coordinates.finish()
}

impl crate::tree::Features for Coordinates {
    type Output = [u32; 3];

    fn update(&mut self, bytes: &[u8]) {
        Coordinates::update(self, bytes);
    }

    fn finish(self) -> [u32; 3] {
        Coordinates::finish(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_small() {
        assert!(size_of::<Coordinates>() <= 208);
    }
}
