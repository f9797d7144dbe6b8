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

mod approvals;
mod billing_details;
mod bulk;
mod cancel;
mod cool_off;
mod delete;
mod entries;
mod errors;
mod flow;
mod hostile;
mod imports;
mod key_rotation;
mod leaks;
mod model;
mod open_balances;
mod payment_method_changes;
mod payment_methods;
mod posting;
mod process;
mod races;
mod reading;
mod request_ids;
mod sealed_values;
mod security;
mod server;
mod settle;
mod shared_destinations;
mod status;
mod tipalti;
mod tipalti_faults;
mod tipalti_kill;
mod tipalti_payees;
mod tipalti_replicas;
mod tipalti_webhook;

use std::process::ExitCode;

use support::{app, harness};

mod support {
    //! What the tests stand on: the application under test, its databases, and the harness that brings them together.

    pub(crate) mod app;
    pub(crate) mod database;
    pub(crate) mod fixtures;
    pub(crate) mod guard;
    pub(crate) mod harness;
    pub(crate) mod ledger;
    pub(crate) mod observed;
    pub(crate) mod postgres;
    pub(crate) mod program;
    pub(crate) mod rows;
    pub(crate) mod tables;
    pub(crate) mod tipalti;
    pub(crate) mod wire;
}

fn main() -> ExitCode {
    harness::main(
        |url| Box::pin(app::migrate(url)),
        vec![
            approvals::scenarios(),
            billing_details::scenarios(),
            bulk::scenarios(),
            cancel::scenarios(),
            cool_off::scenarios(),
            delete::scenarios(),
            entries::scenarios(),
            errors::scenarios(),
            flow::scenarios(),
            hostile::scenarios(),
            imports::scenarios(),
            key_rotation::scenarios(),
            leaks::scenarios(),
            model::scenarios(),
            open_balances::scenarios(),
            payment_method_changes::scenarios(),
            payment_methods::scenarios(),
            posting::scenarios(),
            process::scenarios(),
            races::scenarios(),
            reading::scenarios(),
            request_ids::scenarios(),
            security::scenarios(),
            sealed_values::scenarios(),
            server::scenarios(),
            settle::scenarios(),
            shared_destinations::scenarios(),
            status::scenarios(),
            tipalti::scenarios(),
            tipalti_faults::scenarios(),
            tipalti_kill::scenarios(),
            tipalti_payees::scenarios(),
            tipalti_replicas::scenarios(),
            tipalti_webhook::scenarios(),
        ],
    )
}
