//! The real `warren` against a coordinator that does what each test tells it to, over real TLS.

mod agents;
mod attach;
mod audit;
mod backup;
mod browsers;
mod building;
mod create;
mod errors;
mod exec;
mod golden;
mod init;
mod open;
mod resize;
mod screen;
mod secrets;
mod sessions;
mod stale;
mod support;
mod watch;
