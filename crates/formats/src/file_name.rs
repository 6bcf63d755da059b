//! Names of the files of a model, which is a folder.

/// The longest name of a file or a folder in most file systems.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// The longest name of a file with its folders. A PostgreSQL index key contains it and a model's ID.
pub const MAX_FILE_PATH_BYTES: usize = 1024;

/// Returns whether a file name stays in a directory that it is joined to, and has at most 255 bytes.
pub fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && name != "."
        && !name.contains("..")
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

/// Returns whether a name is a relative path that stays in a folder that it is joined to: names of folders and of the
/// file, with `/` between them, none of them empty, `.` or `..`, no backslash and no control character.
pub fn is_file_path(name: &str) -> bool {
    name.len() <= MAX_FILE_PATH_BYTES
        && !name.contains(|c: char| c == '\\' || c.is_control())
        && name
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.len() <= MAX_FILE_NAME_BYTES)
}

/// Returns the folder of a file with its last `/`; empty for a file that is not in one.
pub fn folder_of(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..=slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        let component = "x".repeat(255);
        let deep = vec!["abc"; 256].join("/");
        let names = [
            "config.json",
            "1_Pooling/config.json",
            "a/b/c",
            "a..b",
            "...",
            ".gitattributes",
            "with space",
            "c:x",
            "ünï",
            &component,
            &deep,
        ];
        for name in names {
            assert!(is_file_path(name), "{name}");
        }
        let (long, too_deep) = ("x".repeat(256), format!("{deep}/x/x"));
        let names = [
            "", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "../a", "a\\b", "a\nb",
            "a\u{7f}", "a\u{85}", &long, &too_deep,
        ];
        for name in names {
            assert!(!is_file_path(name), "{name}");
        }
    }

    #[test]
    fn a_folder_ends_with_its_slash() {
        assert_eq!(folder_of("a"), "");
        assert_eq!(folder_of("a/b"), "a/");
        assert_eq!(folder_of("a/b/c"), "a/b/");
    }
}
