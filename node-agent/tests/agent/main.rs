//! The node agent against a fake coordinator over real TLS, with the fake engine.

mod authority;
mod coordinator;
mod engine;
mod joining;
mod leaving;
mod lifecycle;
mod removal;
mod resizing;
mod secrets;
mod trouble;
mod tunnel;
mod world;
