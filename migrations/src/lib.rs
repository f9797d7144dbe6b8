//! The schema of the affiliate billing service, one file a migration. See this crate's README for the rule that changes
//! follow (expand, then contract).

mod dialect;
mod m20261101_000001_payees;
mod m20261101_000002_ledger;
mod m20261101_000003_settlements;
mod m20261101_000004_request_ids;
mod m20261125_000005_payouts;
mod m20261125_000006_keys;
mod m20261125_000007_change_control;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261101_000001_payees::MIGRATION),
            Box::new(m20261101_000002_ledger::MIGRATION),
            Box::new(m20261101_000003_settlements::MIGRATION),
            Box::new(m20261101_000004_request_ids::MIGRATION),
            Box::new(m20261125_000005_payouts::MIGRATION),
            Box::new(m20261125_000006_keys::MIGRATION),
            Box::new(m20261125_000007_change_control::MIGRATION),
        ]
    }
}
