//! A folder on the server: the files below it as sources.

use crate::error::{Code, Failure, Result};
use crate::io::length_changed;
use crate::io::server_file::{Access, ServerFile, io_failure, require_absolute, require_privilege};
use crate::names;
use modelstore_chunk::Source;
use std::path::{Path, PathBuf};

/// Files of a folder. Real ones have fewer than a thousand.
pub const MAX_FILES: usize = 10_000;

/// Folders in one another.
const MAX_DEPTH: usize = 16;

/// Folders that tools keep next to a model's files: git's objects, which have the large files once more, and notes of a
/// download.
const SKIPPED: [&str; 2] = [".git", ".cache"];

/// A regular file below a folder. It is open only while it is read: there can be more than a process may open.
pub struct FolderFile {
    /// Its path below the folder.
    pub name: String,
    path: PathBuf,
    /// The folder that it must not lead out of.
    root: PathBuf,
    len: u64,
}

/// Returns the files of a folder and of the folders in it, by name.
pub fn files(folder: &Path) -> Result<Vec<FolderFile>> {
    require_privilege(Access::Read)?;
    require_absolute(folder)?;
    let root = folder
        .canonicalize()
        .map_err(|e| io_failure("open", folder, &e))?;
    let mut walk = Walk {
        root: &root,
        found: Vec::new(),
    };
    walk.folder(&root, "", 0)?;
    let mut files = walk.found;
    if files.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_FILE,
            format!("folder \"{}\" has no files", folder.display()),
        ));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

struct Walk<'a> {
    root: &'a Path,
    found: Vec<FolderFile>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_many(
                self.root,
                &format!("folders below folder \"{prefix}\""),
            ));
        }
        let failed = |e| io_failure("open", folder, &e);
        for entry in folder.read_dir().map_err(failed)? {
            pgrx::check_for_interrupts!();
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let kind = entry
                .file_type()
                .map_err(|e| io_failure("open", &path, &e))?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
                    format!("name of file \"{}\" is not UTF-8", path.display()),
                )
            })?;
            let within = format!("{prefix}{name}");
            if kind.is_dir() {
                if !SKIPPED.contains(&name) {
                    self.folder(&path, &format!("{within}/"), depth + 1)?;
                }
                continue;
            }
            names::check_file(&within)?;
            // A link to a file of the same folder is as good as a copy. Refuses whatever is not a regular file.
            let len = open_below(&path, self.root)?.len();
            if self.found.len() == MAX_FILES {
                return Err(too_many(self.root, "files"));
            }
            self.found.push(FolderFile {
                name: within,
                path,
                root: self.root.to_owned(),
                len,
            });
        }
        Ok(())
    }
}

/// Opens a file and checks that it is below the folder, each time: somebody may put a link in its place in between.
fn open_below(path: &Path, root: &Path) -> Result<ServerFile> {
    let file = ServerFile::open(path)?;
    if file.is_below(root)? {
        return Ok(file);
    }
    Err(Failure::new(
        Code::ERRCODE_WRONG_OBJECT_TYPE,
        format!("symbolic link \"{}\" leads out of the folder", path.display()),
    )
    .detail("The files of a model are below its folder. cp -rL makes a copy with files in place of links."))
}

fn too_many(folder: &Path, what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("folder \"{}\" has too many {what}", folder.display()),
    )
    .detail(format!(
        "At most {MAX_FILES} files, in at most {MAX_DEPTH} folders in one another, are imported."
    ))
}

impl FolderFile {
    fn open(&self) -> Result<ServerFile> {
        let file = open_below(&self.path, &self.root)?;
        match file.len() == self.len {
            true => Ok(file),
            false => Err(length_changed(&format!("file \"{}\"", self.path.display()))),
        }
    }
}

impl Source<Failure> for FolderFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.open()?.read_at(offset, len, out)
    }

    fn check_len(&mut self) -> Result<()> {
        self.open().map(drop)
    }
}
