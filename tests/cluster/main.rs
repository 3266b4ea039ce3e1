//! Real coordinators and node agents as processes, real mutual TLS, real sled, a fake engine.

mod agents;
mod auditing;
mod browsers;
mod clocks;
mod doctoring;
mod durability;
mod engine;
mod faults;
mod identity;
mod joining;
mod limits;
mod members;
mod nodes;
mod opening;
mod people;
mod played;
mod reads;
mod recovery;
mod refusals;
mod returning;
mod secrets;
mod sessions;
mod silence;
mod templates;
mod updating;
mod watching;
