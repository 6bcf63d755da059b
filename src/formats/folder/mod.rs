//! A model is a folder: its files of any format in and out, byte for byte.

pub mod add;
mod card;
mod config;
pub mod consistency;
mod delete;
mod export;
mod folder_sql;
pub mod import;
pub mod other_form;
mod server_folder;
mod server_folder_sql;
