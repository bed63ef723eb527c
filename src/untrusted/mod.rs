//! What is done with text that others wrote, before anything else of ours sees it or a terminal shows it: files read within bounds,
//! YAML cut into documents and read within a budget, control characters escaped.
//!
//! Of the standard library and the YAML parser alone, so that every room may use it and the fuzz targets build in seconds.

pub mod escape;
pub mod files;
pub mod yaml;
