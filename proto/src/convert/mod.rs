//! Conversions between wire and vocabulary, one file per message.
