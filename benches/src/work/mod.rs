//! The benchmarks, one file each.

pub(crate) mod bulk_status;
pub(crate) mod get_cost;
pub(crate) mod import;
pub(crate) mod list_pages;
pub(crate) mod memory;
pub(crate) mod one_account;
pub(crate) mod post_during_settle;
pub(crate) mod post_single;
pub(crate) mod settle;
pub(crate) mod settle_growth;
pub(crate) mod stream_entries;
