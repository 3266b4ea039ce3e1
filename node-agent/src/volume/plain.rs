//! Homes as folders.
