//! The SQL of a folder as one block for pgrx, which allows only one block to run after all others.

use proc_macro::{Literal, TokenStream, TokenTree};
use std::fs;
use std::path::{Path, PathBuf};

/// `extension_sql_folder!("sql/extension/comments", name = "comments", finalize)` is pgrx' `extension_sql!` with all
/// `.sql` files of a folder of the crate, ordered by name.
#[proc_macro]
pub fn extension_sql_folder(input: TokenStream) -> TokenStream {
    let mut input = input.into_iter();
    let folder = match input.next() {
        Some(TokenTree::Literal(folder)) => folder.to_string().trim_matches('"').to_owned(),
        _ => return error("expected the path of a folder"),
    };
    let options: TokenStream = input.collect();
    match read(&folder) {
        Ok((files, sql)) => {
            // The compiler reads the files, too, so that a change in one rebuilds the crate.
            let files: String = files
                .iter()
                .map(|file| format!("const _: &[u8] = include_bytes!({file:?});"))
                .collect();
            let sql = Literal::string(&sql);
            parsed(&format!(
                "{files} pgrx::extension_sql! {{ {sql} {options} }}"
            ))
        }
        Err(e) => error(&format!("{folder}: {e}")),
    }
}

fn read(folder: &str) -> std::io::Result<(Vec<PathBuf>, String)> {
    let root = std::env::var("CARGO_MANIFEST_DIR").map_err(std::io::Error::other)?;
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(&root).join(folder))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let sql = files
        .iter()
        .map(fs::read_to_string)
        .collect::<std::io::Result<String>>()?;
    Ok((files, sql))
}

fn error(message: &str) -> TokenStream {
    parsed(&format!("compile_error!({message:?});"))
}

fn parsed(source: &str) -> TokenStream {
    source
        .parse()
        .unwrap_or_else(|e| panic!("generated code does not parse: {e}"))
}
