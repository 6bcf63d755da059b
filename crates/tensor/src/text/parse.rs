//! Parses the text form: one pass, no recursion, memory proportional to the text.

use super::cursor::{Cursor, shorten};
use crate::convert::with_element;
use crate::element::{Element, TokenError};
use crate::{DType, Error, Result, Shape, Tensor};
use faster_hex::hex_decode;

const A_VALUE: &str = "an element or an opening bracket";
const A_SEPARATOR: &str = "a comma or a closing bracket";
const A_HEX_PAYLOAD: &str = "\\x and two hexadecimal digits for each byte";

/// Elements parsed between two checks: some milliseconds.
const CHECK_ELEMENTS: usize = 1 << 14;

/// Bytes of hexadecimal digits parsed between two checks.
const CHECK_BYTES: usize = 1 << 20;

/// Parses a tensor.
pub fn parse(text: &str) -> Result<Tensor> {
    parse_checked(text, &mut || ())
}

/// Parses a tensor, calling `check` regularly, which may unwind.
pub fn parse_checked(text: &str, check: &mut dyn FnMut()) -> Result<Tensor> {
    parse_as(text, DType::F32, check)
}

/// As [`parse_checked`], for a text that names no dtype as this one.
pub fn parse_as(text: &str, default: DType, check: &mut dyn FnMut()) -> Result<Tensor> {
    let mut cursor = Cursor { text, at: 0 };
    if cursor.peek().is_none() {
        return Err(Error::EmptyText);
    }
    let (dtype, stated) = prefix(&mut cursor, default)?;
    let (shape, data) = if cursor.peek() == Some(b'\\') {
        hexadecimal(&mut cursor, dtype, stated, check)?
    } else {
        with_element!(dtype, E => elements::<E>(&mut cursor, stated, check)?, _ => {
            return Err(cursor.unexpected(A_HEX_PAYLOAD));
        })
    };
    if cursor.peek().is_some() {
        let (found, position) = cursor.token();
        return Err(Error::TrailingText { found, position });
    }
    Tensor::new(dtype, shape, data)
}

/// Everything before the colon: dtype and optional shape.
fn prefix(cursor: &mut Cursor<'_>, default: DType) -> Result<(DType, Option<Shape>)> {
    let starts_with_word = cursor.peek().is_some_and(|b| b.is_ascii_alphabetic());
    if !starts_with_word || !cursor.text.contains(':') {
        return Ok((default, None));
    }
    let name = cursor.word();
    let dtype = DType::from_name(name)?;
    let mut stated = None;
    if cursor.take(b'(') {
        stated = Some(dimensions(cursor)?);
    }
    if !cursor.take(b':') {
        return Err(cursor.unexpected("a colon after the dtype"));
    }
    Ok((dtype, stated))
}

fn dimensions(cursor: &mut Cursor<'_>) -> Result<Shape> {
    let mut dims = Vec::new();
    if cursor.take(b')') {
        return Shape::new(&dims);
    }
    loop {
        if dims.len() == Shape::MAX_RANK {
            return Err(Error::RankTooLarge(Shape::MAX_RANK + 1));
        }
        if !cursor.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(cursor.unexpected("a dimension"));
        }
        let position = cursor.position();
        let word = cursor.number();
        dims.push(word.parse().map_err(|_| Error::DimensionOutOfRange {
            token: shorten(word),
            position,
        })?);
        if cursor.take(b')') {
            return Shape::new(&dims);
        }
        if !cursor.take(b',') {
            return Err(cursor.unexpected("a comma or a closing parenthesis"));
        }
    }
}

fn hexadecimal(
    cursor: &mut Cursor<'_>,
    dtype: DType,
    stated: Option<Shape>,
    check: &mut dyn FnMut(),
) -> Result<(Shape, Vec<u8>)> {
    let shape = stated.ok_or(Error::ShapeRequired { dtype })?;
    let expected = shape.byte_len(dtype)?;
    let Some(digits) = cursor.rest().strip_prefix("\\x") else {
        return Err(cursor.unexpected(A_HEX_PAYLOAD));
    };
    cursor.at += 2;
    let bytes = digits.as_bytes();
    let mut count = 0;
    for piece in bytes.chunks(CHECK_BYTES) {
        let digits = piece.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        count += digits;
        check();
        if digits < piece.len() {
            break;
        }
    }
    if count % 2 != 0 {
        cursor.at += count;
        return Err(cursor.unexpected(A_HEX_PAYLOAD));
    }
    // The text contains the digits, so it bounds the memory.
    let actual = count as u64 / 2;
    if actual != expected {
        return Err(Error::WrongLength {
            shape: shape.to_string(),
            dtype,
            expected,
            actual,
        });
    }
    let mut data = vec![0; count / 2];
    for (from, to) in bytes[..count]
        .chunks(2 * CHECK_BYTES)
        .zip(data.chunks_mut(CHECK_BYTES))
    {
        // All are digits, as counted above.
        hex_decode(from, to).map_err(|_| cursor.unexpected(A_HEX_PAYLOAD))?;
        check();
    }
    cursor.at += count;
    Ok((shape, data))
}

/// The brackets parsed so far.
#[derive(Default)]
struct Nesting {
    /// Open brackets.
    depth: usize,
    /// Items of each open bracket.
    counts: [u64; Shape::MAX_RANK],
    /// Number of items of closed brackets of each depth; they must all agree.
    lengths: [Option<u64>; Shape::MAX_RANK],
    /// Depth of elements, once one was parsed.
    rank: Option<usize>,
}

fn elements<E: Element>(
    cursor: &mut Cursor<'_>,
    stated: Option<Shape>,
    check: &mut dyn FnMut(),
) -> Result<(Shape, Vec<u8>)> {
    let mut data = Vec::new();
    let mut until_check = CHECK_ELEMENTS;
    let mut nesting = Nesting::default();
    loop {
        until_check -= 1;
        if until_check == 0 {
            until_check = CHECK_ELEMENTS;
            check();
        }
        // A value is expected here.
        match cursor.peek() {
            Some(b'[') => {
                nesting.open(cursor)?;
                if cursor.peek() != Some(b']') {
                    continue;
                }
                nesting.element(cursor)?;
                nesting.close(cursor)?;
            }
            Some(b',' | b']' | b'\\') | None => return Err(cursor.unexpected(A_VALUE)),
            Some(_) => {
                nesting.element(cursor)?;
                let token = cursor.element();
                let value = E::parse(token).map_err(|e| invalid::<E>(e, token, cursor))?;
                cursor.at += token.len();
                value.store(&mut data);
                nesting.count();
            }
        }
        // A comma or the ends of brackets must follow.
        loop {
            if nesting.depth == 0 {
                return Ok((nesting.shape(stated)?, data));
            }
            match cursor.peek() {
                Some(b',') => {
                    cursor.at += 1;
                    break;
                }
                Some(b']') => nesting.close(cursor)?,
                _ => return Err(cursor.unexpected(A_SEPARATOR)),
            }
        }
    }
}

impl Nesting {
    fn open(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if self.depth == Shape::MAX_RANK {
            return Err(Error::TextTooDeep {
                position: cursor.position(),
            });
        }
        if let Some(expected) = self.rank.filter(|&rank| self.depth >= rank) {
            return Err(self.uneven(cursor, expected));
        }
        self.counts[self.depth] = 0;
        self.depth += 1;
        cursor.at += 1;
        Ok(())
    }

    /// Requires that elements, or the positions of missing ones in empty brackets, all have the same depth.
    #[inline]
    fn element(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        match *self.rank.get_or_insert(self.depth) {
            rank if rank == self.depth => Ok(()),
            expected => Err(self.uneven(cursor, expected)),
        }
    }

    fn close(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        self.depth -= 1;
        let actual = self.counts[self.depth];
        let expected = *self.lengths[self.depth].get_or_insert(actual);
        if actual != expected {
            return Err(Error::RaggedBrackets {
                position: cursor.position(),
                expected,
                actual,
            });
        }
        cursor.at += 1;
        self.count();
        Ok(())
    }

    /// Counts one more item of the enclosing bracket.
    #[inline]
    fn count(&mut self) {
        if let Some(outer) = self.depth.checked_sub(1) {
            self.counts[outer] += 1;
        }
    }

    fn uneven(&self, cursor: &mut Cursor<'_>, expected: usize) -> Error {
        let (found, position) = cursor.token();
        // A superfluous bracket has not been counted.
        let actual = self.depth + usize::from(found == "[");
        Error::UnevenNesting {
            found,
            position,
            expected,
            actual,
        }
    }

    /// Returns the shape of the brackets; without elements, `[]` matches any stated one.
    fn shape(&self, stated: Option<Shape>) -> Result<Shape> {
        let lengths = self.lengths[..self.rank.unwrap_or(0)].iter();
        let dims: Vec<u64> = lengths.map(|n| n.unwrap_or(0)).collect();
        let shape = Shape::new(&dims)?;
        match stated {
            None => Ok(shape),
            Some(stated) if stated == shape => Ok(shape),
            Some(stated) if dims == [0] && stated.elements() == 0 => Ok(stated),
            Some(stated) => Err(Error::StatedShape {
                stated: stated.to_string(),
                actual: shape.to_string(),
            }),
        }
    }
}

#[cold]
fn invalid<E: Element>(error: TokenError, token: &str, cursor: &Cursor<'_>) -> Error {
    let (token, dtype, position) = (shorten(token), E::DTYPE, cursor.position());
    match error {
        TokenError::Invalid => Error::InvalidElement {
            token,
            dtype,
            position,
        },
        TokenError::OutOfRange => Error::ElementOutOfRange {
            token,
            dtype,
            position,
        },
    }
}
