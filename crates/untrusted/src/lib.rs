//! What is done with text that others wrote, before anything else of ours sees it: files read within bounds, YAML cut into documents
//! and read within a budget. How such text is shown is `tidegate_core::escape`'s.
//!
//! Of the standard library and the YAML parser alone, so that every package may use it.

pub mod files;
pub mod yaml;
