//! Resumable uploads: a file arrives in parts of any size, over any driver, across sessions.
//!
//! Chunks are stored as they are complete. What waits are the bytes of a header or of a piece that is not complete, and a
//! file of another format. All state is in tables: `uploads` has the hashes of what is stored and where the next piece
//! ends, `upload_parts` the pieces and the bytes that wait.

mod add_file_sql;
mod append;
pub mod copy;
pub mod finish;
mod parsed;
mod pieces;
mod rewound;
mod row;
mod upload_sql;
mod waiting;
