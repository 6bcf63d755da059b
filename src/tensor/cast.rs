//! Casts between `tensor` and the arrays, bytes and JSON of SQL.

use crate::error::{Code, Failure, Result, or_raise};
use crate::jsonb::Jsonb;
use crate::tensor::array::{
    self, BigintArray, BigintArrayOut, DoubleArray, DoubleArrayOut, IntegerArray, IntegerArrayOut,
    RealArray, RealArrayOut,
};
use crate::tensor::datum::{TensorIn, TensorOut};
use crate::varlena::Building;
use modelstore_tensor::{DType, Shape, TensorView, convert, layout, text};
use pgrx::prelude::*;
use serde_json::{Value, json};

/// The two functions of an array type: the array's dimensions are the tensor's, its elements keep their bits.
macro_rules! array_casts {
    ($( $from:ident($arg:ident), $to:ident($result:ident), $dtype:ident, $oid:ident; )*) => {
        $(
            #[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
            fn $from(elements: $arg<'_>) -> TensorOut {
                or_raise(from_array(elements.0.bytes(), DType::$dtype))
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
    tensor_from_integer(IntegerArray), tensor_to_integer(IntegerArrayOut), I32, INT4OID;
    tensor_from_bigint(BigintArray), tensor_to_bigint(BigintArrayOut), I64, INT8OID;
}

fn from_array(array: &[u8], dtype: DType) -> Result<TensorOut> {
    let (shape, data) = array::read(array, dtype.element_bytes().unwrap_or(1))?;
    TensorOut::from_view(&TensorView::new(dtype, shape, data)?)
}

fn to_array(tensor: &TensorIn<'_>, dtype: DType, element_type: pg_sys::Oid) -> Result<Building> {
    let view = tensor.view()?;
    if view.dtype() == dtype {
        return array::build(view.shape(), element_type, view.data());
    }
    let cast = convert::cast(&view, dtype)?;
    array::build(cast.shape(), element_type, cast.data())
}

/// The whole value, header included: what `tensor_send` gives. `tobytes` gives the elements alone.
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

/// `{"dtype": "f32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}`; what JSON numbers cannot say (NaN, infinities,
/// opaque bytes) is a string, so the way back is lossless.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_to_jsonb(tensor: TensorIn<'_>) -> pgrx::JsonB {
    or_raise((|| {
        let view = tensor.view()?;
        let mut printed = String::new();
        text::format(&view, &mut printed)
            .map_err(|_| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "could not print tensor"))?;
        let data = printed
            .split_once(':')
            .map_or(printed.as_str(), |(_, data)| data);
        let data: Value = serde_json::from_str(&quote_words(data)).map_err(|e| {
            Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                format!("could not convert tensor to json: {e}"),
            )
        })?;
        Ok(pgrx::JsonB(
            json!({ "dtype": view.dtype().name(), "shape": view.shape().dims(), "data": data }),
        ))
    })())
}

/// An object as `tensor_to_jsonb` makes it, or nested lists of numbers, which are read as f32.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_from_jsonb(json: Jsonb<'_>) -> TensorOut {
    or_raise((|| {
        let mut out = String::new();
        match &json.value()? {
            Value::Object(object) => {
                let member = |name: &str| {
                    object
                        .get(name)
                        .ok_or_else(|| syntax(&format!("member \"{name}\" is missing")))
                };
                let dtype = member("dtype")?
                    .as_str()
                    .ok_or_else(|| syntax("member \"dtype\" is not a string"))?;
                let shape = member("shape")?
                    .as_array()
                    .and_then(|dims| dims.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>())
                    .ok_or_else(|| syntax("member \"shape\" is not a list of dimensions"))?;
                out.push_str(DType::from_name(dtype)?.name());
                // A scalar has no dimensions to name.
                if !shape.is_empty() {
                    out.push_str(&Shape::new(&shape)?.to_string());
                }
                out.push(':');
                write_text(member("data")?, &mut out)?;
            }
            list @ Value::Array(_) => write_text(list, &mut out)?,
            other => {
                return Err(syntax(&format!(
                    "{} is not a list or an object",
                    kind(other)
                )));
            }
        }
        TensorOut::from_tensor(&text::parse(&out)?)
    })())
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

/// Nested lists as tensor text. A string is one of the words that JSON has no number for, and nothing else.
fn write_text(value: &Value, out: &mut String) -> Result<()> {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(item, out)?;
            }
            out.push(']');
        }
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::String(word) if is_word(word) => out.push_str(word),
        Value::String(word) => {
            let shown: String = word.chars().take(32).collect();
            return Err(syntax(&format!(
                "\"{}\" is not a number",
                shown.escape_default()
            )));
        }
        other => return Err(syntax(&format!("{} is not a number", kind(other)))),
    }
    Ok(())
}

/// Words that [`quote_words`] quotes: -0, NaN with or without its bits, infinities, hex data.
fn is_word(word: &str) -> bool {
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(word, "-0" | "NaN" | "Infinity" | "-Infinity")
        || word
            .strip_prefix("nan(0x")
            .and_then(|rest| rest.strip_suffix(')'))
            .is_some_and(hex)
        || word.strip_prefix("\\x").is_some_and(hex)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Quotes the words of the text form that are no JSON, and -0, whose sign jsonb would drop.
fn quote_words(data: &str) -> String {
    let mut out = String::with_capacity(data.len());
    for token in data.split_inclusive([',', '[', ']']) {
        let (word, end) =
            token.split_at(token.len() - usize::from(token.ends_with([',', '[', ']'])));
        if is_word(word) {
            out.push('"');
            out.push_str(&word.replace('\\', "\\\\"));
            out.push('"');
        } else {
            out.push_str(word);
        }
        out.push_str(end);
    }
    out
}

pgrx::extension_sql_file!(
    "../../sql/extension/20_tensor_casts.sql",
    name = "tensor_casts",
    requires = [
        tensor_enforce_typmod,
        tensor_from_real,
        tensor_from_double,
        tensor_from_integer,
        tensor_from_bigint,
        tensor_from_jsonb,
        tensor_from_bytea,
        tensor_to_real,
        tensor_to_double,
        tensor_to_integer,
        tensor_to_bigint,
        tensor_to_jsonb,
        tensor_to_bytea
    ]
);
