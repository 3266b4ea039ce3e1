//! What version 0.1 sent over the admin, node and inside APIs, read by today's code.

mod agents;
mod file;
mod messages;
mod schema;
