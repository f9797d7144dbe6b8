//! Affiliate billing: keeps what affiliates are owed, settles it, and follows each payout until it is paid.
//!
//! Layers, with arrows one way: [`grpc`] → [`billing`] → [`store`] and [`payout`]; all use [`domain`], which uses none of them. [`authentication`]
//! tells [`grpc`] who calls.
//! `ARCHITECTURE.md` is the map.

pub mod authentication;
pub mod billing;
pub mod config;
pub mod domain;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod payout;
pub mod proto;
pub mod refresh;
mod reload;
pub mod server;
pub mod store;
pub mod webhook;
