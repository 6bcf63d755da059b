//! Builds the crate anew when a file is added to a folder of SQL that is read as a whole.

fn main() {
    println!("cargo::rerun-if-changed=sql/extension/comments");
}
