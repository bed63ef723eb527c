//! As ../src/import, as far as it reads foreign text by the standard library alone.

#[path = "../../src/import/files.rs"]
pub mod files;
#[path = "../../src/import/nginx/parse.rs"]
pub mod parse;
#[path = "../../src/import/paths.rs"]
pub mod paths;
