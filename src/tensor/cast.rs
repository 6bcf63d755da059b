//! Casts between `tensor` and SQL's arrays, bytes and JSON.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::array::{
    self, BigintArray, BigintArrayOut, DoubleArray, DoubleArrayOut, IntegerArray, IntegerArrayOut,
    RealArray, RealArrayOut, SmallintArray, SmallintArrayOut,
};
use crate::pg::jsonb::{Jsonb, JsonbOut, Token};
use crate::pg::varlena::Building;
use crate::tensor::datum::{TensorIn, TensorOut};
use crate::tensor::interrupts;
use crate::tensor::io::enforce;
use modelstore_tensor::typmod::Typmod;
use modelstore_tensor::{DType, Shape, Tensor, TensorView, convert, layout, text};
use pgrx::prelude::*;
use std::fmt::Write;

/// Defines the two casts of an array type. The dimensions are kept; elements keep their bits unless a type modifier
/// names another dtype, to which they are converted as by `astype`.
macro_rules! array_casts {
    ($( $from:ident($arg:ident), $to:ident($result:ident), $dtype:ident, $oid:ident; )*) => {
        $(
            #[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
            fn $from(elements: $arg<'_>, typmod: i32, _explicit: bool) -> TensorOut {
                or_raise(from_array(elements.0.bytes(), DType::$dtype, typmod))
            }

            #[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
            fn $to(tensor: TensorIn<'_>) -> $result {
                $result(or_raise(to_array(&tensor, DType::$dtype, pg_sys::$oid)))
            }
        )*
    };
}

array_casts! {
    tensor_from_real(RealArray), tensor_to_real(RealArrayOut), F32, FLOAT4OID;
    tensor_from_double(DoubleArray), tensor_to_double(DoubleArrayOut), F64, FLOAT8OID;
    tensor_from_smallint(SmallintArray), tensor_to_smallint(SmallintArrayOut), I16, INT2OID;
    tensor_from_integer(IntegerArray), tensor_to_integer(IntegerArrayOut), I32, INT4OID;
    tensor_from_bigint(BigintArray), tensor_to_bigint(BigintArrayOut), I64, INT8OID;
}

fn from_array(array: &[u8], dtype: DType, typmod: i32) -> Result<TensorOut> {
    let (shape, data) = array::read(array, dtype.element_bytes().unwrap_or(1))?;
    let view = TensorView::new(dtype, shape, data)?;
    let to = Typmod::unpack(typmod)?.dtype.unwrap_or(dtype);
    enforce(typmod, to, view.shape())?;
    if to == dtype {
        return TensorOut::from_view(&view);
    }
    TensorOut::from_tensor(&convert::cast_checked(&view, to, &mut interrupts::check)?)
}

fn to_array(tensor: &TensorIn<'_>, dtype: DType, element_type: pg_sys::Oid) -> Result<Building> {
    let view = tensor.view()?;
    if view.dtype() == dtype {
        return array::build(view.shape(), element_type, view.data());
    }
    let cast = to_dtype(tensor, dtype)?;
    array::build(cast.shape(), element_type, cast.data())
}

/// Converts the tensor to another dtype.
pub fn to_dtype(tensor: &TensorIn<'_>, dtype: DType) -> Result<Tensor> {
    Ok(convert::cast_checked(
        &tensor.view()?,
        dtype,
        &mut interrupts::check,
    )?)
}

/// The whole value with its header, as `tensor_send` returns it.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_to_bytea(tensor: TensorIn<'_>) -> Vec<u8> {
    tensor.0.bytes().to_vec()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_from_bytea(bytes: &[u8]) -> TensorOut {
    or_raise((|| {
        layout::read(bytes)?;
        TensorOut::from_bytes(bytes)
    })())
}

/// `{"dtype": "f32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}`. What JSON numbers cannot express (NaN, infinities,
/// opaque bytes) is a string, so the cast back is lossless.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_to_jsonb(tensor: TensorIn<'_>) -> JsonbOut {
    or_raise((|| {
        let view = tensor.view()?;
        let mut out = interrupts::Text::default();
        let (dtype, dims) = (view.dtype(), view.shape().dims());
        write!(out, r#"{{"dtype":"{dtype}","shape":{dims:?},"data":"#)
            .and_then(|()| text::format_json(&view, &mut out))
            .and_then(|()| out.write_str("}"))
            .map_err(|_| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "could not print tensor"))?;
        JsonbOut::from_text(out.0)
    })())
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_from_jsonb(json: Jsonb<'_>) -> TensorOut {
    or_raise((|| {
        let mut reading = Reading::default();
        json.walk(&mut |token| reading.take(token))?;
        let text = reading.into_text()?;
        TensorOut::from_tensor(&text::parse_checked(&text, &mut interrupts::check)?)
    })())
}

/// State of the conversion of a jsonb value to the text form.
#[derive(Default)]
struct Reading {
    /// Number of open lists and objects.
    depth: usize,
    is_object: bool,
    /// The member of the object whose value comes next.
    member: Member,
    dtype: Option<DType>,
    shape: Option<Vec<u64>>,
    /// The elements as nested lists.
    data: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Member {
    DType,
    Shape,
    Data,
    #[default]
    Other,
}

impl Reading {
    fn take(&mut self, token: Token<'_>) -> Result<()> {
        match (self.depth, token) {
            (0, Token::BeginArray) => self.list(token)?,
            (0, Token::BeginObject) => self.is_object = true,
            (0, token) => {
                return Err(syntax(&format!(
                    "{} is not a list or an object",
                    token.kind()
                )));
            }
            (1, Token::Key(name)) if self.is_object => {
                self.member = match name {
                    "dtype" => Member::DType,
                    "shape" => Member::Shape,
                    "data" => Member::Data,
                    _ => Member::Other,
                };
            }
            (1, Token::EndObject) if self.is_object => {}
            (_, token) if self.is_object => match self.member {
                Member::DType => self.dtype(token)?,
                Member::Shape => self.dimension(token)?,
                Member::Data => self.list(token)?,
                Member::Other => {}
            },
            (_, token) => self.list(token)?,
        }
        match token {
            Token::BeginArray | Token::BeginObject => self.depth += 1,
            Token::EndArray | Token::EndObject => self.depth -= 1,
            _ => {}
        }
        Ok(())
    }

    fn dtype(&mut self, token: Token<'_>) -> Result<()> {
        let Token::String(name) = token else {
            return Err(syntax("member \"dtype\" is not a string"));
        };
        self.dtype = Some(DType::from_name(name)?);
        Ok(())
    }

    fn dimension(&mut self, token: Token<'_>) -> Result<()> {
        let wrong = || syntax("member \"shape\" is not a list of dimensions");
        match (self.depth, token) {
            (1, Token::BeginArray) => self.shape = Some(Vec::new()),
            (2, Token::EndArray) => {}
            (2, Token::Number(number)) => {
                let dim = number.parse().map_err(|_| wrong())?;
                self.shape.get_or_insert_default().push(dim);
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// Appends nested lists as tensor text. Strings are only allowed for values that JSON numbers cannot express.
    fn list(&mut self, token: Token<'_>) -> Result<()> {
        let data = self.data.get_or_insert_default();
        if token == Token::EndArray {
            data.push(']');
            return Ok(());
        }
        if !data.is_empty() && !data.ends_with('[') {
            data.push(',');
        }
        match token {
            Token::BeginArray => data.push('['),
            Token::Number(number) => data.push_str(number),
            Token::Bool(bool) => data.push_str(if bool { "true" } else { "false" }),
            Token::String(word) if is_word(word) => data.push_str(word),
            Token::String(word) => {
                let shown: String = word.chars().take(32).collect();
                return Err(syntax(&format!(
                    "\"{}\" is not a number",
                    shown.escape_default()
                )));
            }
            other => return Err(syntax(&format!("{} is not a number", other.kind()))),
        }
        Ok(())
    }

    fn into_text(self) -> Result<String> {
        let missing = |name: &str| syntax(&format!("member \"{name}\" is missing"));
        let mut text = self.data.ok_or_else(|| missing("data"))?;
        if self.is_object {
            let mut prefix = self
                .dtype
                .ok_or_else(|| missing("dtype"))?
                .name()
                .to_owned();
            let shape = self.shape.ok_or_else(|| missing("shape"))?;
            // A scalar has no dimensions to write.
            if !shape.is_empty() {
                prefix.push_str(&Shape::new(&shape)?.to_string());
            }
            prefix.push(':');
            text.insert_str(0, &prefix);
        }
        Ok(text)
    }
}

fn syntax(what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
        format!("cannot cast jsonb to tensor: {what}"),
    )
    .detail(
        "Expected nested lists of numbers, or an object with \"dtype\", \"shape\" and \"data\".",
    )
}

/// Returns whether a string is a value that JSON numbers cannot express: -0, NaN with or without its bits, infinities,
/// hexadecimal data.
fn is_word(word: &str) -> bool {
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(word, "-0" | "NaN" | "Infinity" | "-Infinity")
        || word
            .strip_prefix("nan(0x")
            .and_then(|rest| rest.strip_suffix(')'))
            .is_some_and(hex)
        || word.strip_prefix("\\x").is_some_and(hex)
}

pgrx::extension_sql_file!(
    "../../sql/extension/20_tensor_casts.sql",
    name = "tensor_casts",
    requires = [
        tensor_enforce_typmod,
        tensor_from_real,
        tensor_from_double,
        tensor_from_smallint,
        tensor_from_integer,
        tensor_from_bigint,
        tensor_from_numeric,
        tensor_from_jsonb,
        tensor_from_bytea,
        tensor_to_real,
        tensor_to_double,
        tensor_to_smallint,
        tensor_to_integer,
        tensor_to_bigint,
        tensor_to_jsonb,
        tensor_to_bytea
    ]
);
