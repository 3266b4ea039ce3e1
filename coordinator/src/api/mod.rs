//! What people's tools and nodes may ask, one file per service.

pub mod template;
