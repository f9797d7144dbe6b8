//! The behaviours of the service, each tested over its API, on SQLite and on PostgreSQL.
//!
//! A behaviour is a module here, named below and in `main`; `support/harness.rs` tells how it registers its scenarios.

#![allow(
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod bulk;
mod cancel;
mod delete;
mod flow;
mod payment_methods;
mod races;
mod status;

use std::process::ExitCode;

use support::{app, harness};

mod support {
    //! What the tests stand on: the application under test, its databases, and the harness that brings them together.

    pub(crate) mod app;
    pub(crate) mod database;
    pub(crate) mod fixtures;
    pub(crate) mod harness;
    pub(crate) mod observed;
    pub(crate) mod postgres;
    pub(crate) mod rows;
}

fn main() -> ExitCode {
    harness::main(
        |url| Box::pin(app::migrate(url)),
        vec![
            bulk::scenarios(),
            cancel::scenarios(),
            delete::scenarios(),
            flow::scenarios(),
            payment_methods::scenarios(),
            races::scenarios(),
            status::scenarios(),
        ],
    )
}
