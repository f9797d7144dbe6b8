//! What a settlement leaves of the accruals that it claims: fractions below the scale that is paid, or what an amount asked for
//! leaves of the last accrual. Carried forward, never rounded away.

use super::settle_balances::Payout;
use crate::domain::entries::{AccrualKey, EntryKey, EntryKind, NewEntry, OWN_SOURCE};
use crate::domain::error::{Error, Result};
use crate::domain::ids::new_id;
use crate::domain::money::{Amount, Money};
use crate::domain::time::Timestamp;
use crate::store::accruals::ClosedAccrual;
use crate::store::entries::EntryRow;
use crate::store::{Tx, accruals, entries};

/// Moves what was claimed beyond the payouts back into the open: one entry out of the claimed set, one into the open one.
pub(super) async fn carry_forward(tx: &Tx, payouts: &[Payout], now: Timestamp) -> Result<()> {
    let mut new_accruals = Vec::new();
    let mut new_entries = Vec::new();
    for payout in payouts {
        let carried = payout.carried()?;
        if carried.is_zero() {
            continue;
        }
        for (side, amount) in [("out", carried.negated()), ("in", carried)] {
            let outgoing = amount.is_negative();
            let key = AccrualKey {
                account_id: payout.account_id.clone(),
                currency: payout.currency(),
                available_day: payout.last_day,
                // No debt: opened again by a deletion, it must count from the same day on as what it was taken from.
                debt: false,
            };
            let accrual = ClosedAccrual {
                id: new_id(),
                key,
                amount,
                account_settlement_id: outgoing.then_some(payout.id),
            };
            new_entries.push((accrual.id, carry_forward_entry(payout, side, amount, now)));
            new_accruals.push(accrual);
        }
    }
    if new_accruals.is_empty() {
        return Ok(());
    }
    accruals::insert_closed(tx, &new_accruals, now).await?;
    let rows: Vec<EntryRow<'_>> = new_entries
        .iter()
        .map(|(accrual_id, entry)| EntryRow {
            id: new_id(),
            accrual_id: *accrual_id,
            entry,
            reverses_entry_id: None,
        })
        .collect();
    if entries::insert(tx, &rows, now).await? != rows.len() as u64 {
        return Err(Error::internal("a carried remainder was there already"));
    }
    Ok(())
}

fn carry_forward_entry(payout: &Payout, side: &str, amount: Amount, now: Timestamp) -> NewEntry {
    NewEntry {
        key: EntryKey {
            source: OWN_SOURCE.to_owned(),
            external_id: format!("carry-forward/{}/{side}", payout.id),
        },
        account_id: payout.account_id.clone(),
        money: Money::new(payout.currency(), amount),
        kind: EntryKind::CarryForward,
        occur_time: now,
        available_date: payout.last_day,
        description: format!("carried forward from account settlement {}", payout.id),
        reverses: None,
    }
}
