//! Yesterday's encodings still decode.
