//! The model's own tests: laws over random commands, tables of decisions, whole lives of a
//! workspace on a node that exists in memory only.

mod allowed;
mod applying;
mod differing;
mod labels;
mod life;
mod listening;
mod make;
mod naive;
mod naive_replicas;
mod nodes;
mod people;
mod placing;
mod random;
mod recovering;
mod replicas;
mod requests;
mod resizing;
mod secrets;
mod sessions;
mod taking_over;
mod templated;
mod templates;
mod updating;
mod viewing;
