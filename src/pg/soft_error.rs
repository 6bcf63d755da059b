//! Soft errors: input functions save them instead of raising, for `pg_input_is_valid` and COPY with ON_ERROR.
//! PostgreSQL has them since version 16; before, every error is raised.
#![allow(unsafe_code)]

use crate::error::{Failure, Result};
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

/// Where an input function saves an error. It is not an argument in SQL.
pub struct ErrorSink(#[cfg_attr(feature = "pg15", expect(dead_code))] pg_sys::FunctionCallInfo);

impl ErrorSink {
    /// Returns the value, or `None` after saving the error if the caller asked for that; else raises it.
    pub fn or_save<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.save(failure);
                None
            }
        }
    }

    #[cfg(feature = "pg15")]
    fn save(&self, failure: Failure) {
        failure.raise()
    }

    /// As `errsave` of `src/include/utils/elog.h`.
    #[cfg(not(feature = "pg15"))]
    fn save(&self, failure: Failure) {
        // SAFETY: pgrx passes PostgreSQL's call information, which is valid until the function returns. Its context is
        // null or a node, and a node with this tag is an ErrorSaveContext.
        let context = unsafe {
            let node = (*self.0).context;
            if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_ErrorSaveContext {
                failure.raise();
            }
            &mut *node.cast::<pg_sys::ErrorSaveContext>()
        };
        if !failure.is_about_input() {
            failure.raise();
        }
        context.error_occurred = true;
        if context.details_wanted {
            context.error_data = error_data(failure);
        }
    }
}

/// Converts the error to PostgreSQL's struct, in the memory of the caller.
#[cfg(not(feature = "pg15"))]
fn error_data(failure: Failure) -> *mut pg_sys::ErrorData {
    let (code, message, detail, hint) = failure.into_parts();
    let copy = |text: String| {
        let text = std::ffi::CString::new(text).unwrap_or_default();
        // SAFETY: copies up to the terminating zero into the current memory context, or raises.
        unsafe { pg_sys::pstrdup(text.as_ptr()) }
    };
    // SAFETY: palloc0 returns zeroed memory of that size, aligned for any type, or raises; all zeros is a valid
    // ErrorData. The strings written to it live in the same memory context, or as long as the library.
    unsafe {
        let data = pg_sys::palloc0(size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
        (*data).elevel = pgrx::PgLogLevel::ERROR as i32;
        (*data).filename = c"soft_error.rs".as_ptr();
        (*data).funcname = c"input".as_ptr();
        (*data).sqlerrcode = code as i32;
        (*data).message = copy(message);
        (*data).detail = detail.map_or(std::ptr::null_mut(), copy);
        (*data).hint = hint.map_or(std::ptr::null_mut(), copy);
        (*data).assoc_context = pg_sys::CurrentMemoryContext;
        data
    }
}

// SAFETY: takes what pgrx passes to any call, and consumes no argument.
unsafe impl<'fcx> ArgAbi<'fcx> for ErrorSink {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> ErrorSink {
        // SAFETY: the caller's promise is that of the same function.
        ErrorSink(unsafe { pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg) })
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: it does not appear in SQL.
unsafe impl SqlTranslatable for ErrorSink {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(ErrorSink);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> = Err(ReturnsError::Datum);
}
