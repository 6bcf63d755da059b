//! A file on the server as a source, for roles that may read server files.

use crate::error::{Code, Failure, Result};
use crate::io::length_changed;
use pgrx::pg_sys;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open server file.
pub struct ServerFile {
    file: File,
    path: PathBuf,
    len: u64,
}

/// How a server file is accessed; determines the required role.
#[derive(Clone, Copy)]
pub enum Access {
    /// pg_read_server_files
    Read,
    /// pg_write_server_files
    Write,
}

/// Raises 42501 unless the current user may access server files this way; the rule of COPY.
pub fn require_privilege(access: Access) -> Result<()> {
    let (role, name, verb, instead) = match access {
        Access::Read => (
            pg_sys::ROLE_PG_READ_SERVER_FILES,
            "pg_read_server_files",
            "read",
            "SELECT modelstore.begin_upload();",
        ),
        Access::Write => (
            pg_sys::ROLE_PG_WRITE_SERVER_FILES,
            "pg_write_server_files",
            "write",
            "COPY (SELECT modelstore.export_safetensors(model_id)) TO STDOUT (FORMAT binary);",
        ),
    };
    if has_role(role) {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied to {verb} a server file"),
    )
    .detail(format!(
        "Only roles with privileges of the \"{name}\" role may {verb} files on the server."
    ))
    .hint(instead))
}

#[allow(unsafe_code)]
fn has_role(role: u32) -> bool {
    // SAFETY: catalog lookup on the main thread.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) }
}

/// Requires an absolute path, as COPY does: a relative one would depend on the server's working directory.
pub fn require_absolute(path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INVALID_NAME,
        format!(
            "relative path not allowed for a server file: \"{}\"",
            path.display()
        ),
    )
    .detail("The path is one of the server's, from the root."))
}

impl ServerFile {
    /// Opens a regular file for reading.
    pub fn open(path: &Path) -> Result<ServerFile> {
        require_privilege(Access::Read)?;
        require_absolute(path)?;
        let failed = |e| io_failure("open", path, &e);
        // Opening a pipe would wait for its other end, and a cancel would not interrupt it.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Failure::new(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a regular file", path.display()),
            ));
        }
        Ok(ServerFile {
            file,
            path: path.to_owned(),
            len: metadata.len(),
        })
    }
}

impl ServerFile {
    /// Returns whether the file that is open, wherever links have led, is below a folder without links in its path. Asks
    /// the kernel about the open file: a path could mean another file by now.
    pub fn is_below(&self, folder: &Path) -> Result<bool> {
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let real = match Path::new(&link).read_link() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => self.path.canonicalize(),
            real => real,
        };
        let real = real.map_err(|e| io_failure("open", &self.path, &e))?;
        Ok(real.starts_with(folder))
    }

    fn length_changed(&self) -> Failure {
        length_changed(&format!("file \"{}\"", self.path.display()))
    }
}

impl modelstore_chunk::Source<Failure> for ServerFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        // A reused buffer keeps its content and is overwritten as a whole, so it need not be zeroed.
        out.resize(len, 0);
        self.file
            .read_exact_at(out, offset)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => self.length_changed(),
                _ => io_failure("read", &self.path, &e),
            })
    }

    fn check_len(&mut self) -> Result<()> {
        match self.file.metadata() {
            Ok(metadata) if metadata.len() == self.len => Ok(()),
            Ok(_) => Err(self.length_changed()),
            Err(e) => Err(io_failure("read", &self.path, &e)),
        }
    }
}

/// Reports an operating system error with the SQLSTATE that COPY uses. Names the server's user: clients often assume
/// that their own privileges count.
pub fn io_failure(verb: &str, path: &Path, error: &Error) -> Failure {
    use std::io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::NotFound => Code::ERRCODE_UNDEFINED_FILE,
        ErrorKind::AlreadyExists => Code::ERRCODE_DUPLICATE_FILE,
        ErrorKind::PermissionDenied => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        ErrorKind::StorageFull => Code::ERRCODE_DISK_FULL,
        _ => Code::ERRCODE_IO_ERROR,
    };
    let failure = Failure::new(
        code,
        format!("could not {verb} file \"{}\": {error}", path.display()),
    );
    if !matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied
    ) {
        return failure;
    }
    let user = server_user();
    let (detail, hint) = if verb == "open" || verb == "read" {
        (
            format!(
                "The server process reads the file: it must be on the server's machine, and its user {user} must be able to read it and to enter its folders."
            ),
            "SELECT modelstore.begin_upload();",
        )
    } else {
        (
            format!(
                "The server process writes the file: the folder must be on the server's machine, and its user {user} must be able to write there."
            ),
            "COPY (SELECT modelstore.export_safetensors(model_id)) TO STDOUT (FORMAT binary);",
        )
    };
    failure.detail(detail).hint(hint)
}

/// Returns the operating system user of the server, quoted; its number if it has no name.
#[allow(unsafe_code)]
fn server_user() -> String {
    // SAFETY: main thread. The entry is read before another lookup could overwrite it, and its name is nul-terminated.
    unsafe {
        let id = libc::geteuid();
        let entry = libc::getpwuid(id);
        if entry.is_null() || (*entry).pw_name.is_null() {
            return id.to_string();
        }
        let name = std::ffi::CStr::from_ptr((*entry).pw_name);
        format!("\"{}\"", name.to_string_lossy())
    }
}
