//! Marks payouts as paid, as an import of the bank's report would.

use crate::client::Billing;
use crate::failure::Failure;
use crate::money::required;
use crate::request_id;
use crate::streams::{ChunkFeed, check_turn, count};
use affiliate_billing::proto::{
    AccountSettlement, AccountSettlementStatus, BulkUpdateAccountSettlementStatusRequest,
    BulkUpdateAccountSettlementStatusResponse, Settlement, StatusSkipReason, StatusUpdateItem,
};
use std::collections::BTreeMap;

const CHUNK_SIZE: usize = 100;

/// Marks every payout of a settlement paid, with a payment reference. Answers the payouts, deleted ones among them.
///
/// All payouts are named in every run, whatever their status: a chunk with the same request id has to have the same
/// content, and is then answered as the first time. That is what makes it safe to start again after being killed. A payout
/// that was set back since stays set back; sent without request id it would be marked paid once more.
pub(crate) async fn mark_paid(billing: &Billing, settlement: &Settlement) -> Result<Vec<AccountSettlement>, Failure> {
    let payouts = billing.list_account_settlements(Some(&settlement.id)).await?;
    let mut items = Vec::new();
    for payout in &payouts {
        items.push(paid_item(payout)?);
    }

    let requests = items
        .chunks(CHUNK_SIZE)
        .enumerate()
        .map(|(index, items)| chunk(&settlement.id, index, items));
    let (mut feed, stream) = ChunkFeed::start(requests).await;
    let mut answers = billing
        .settlements
        .clone()
        .bulk_update_account_settlement_status(stream)
        .await
        .map_err(Failure::call("open the stream of status updates"))?
        .into_inner();

    let mut tally = Tally::default();
    while let Some(answer) = answers.message().await.map_err(Failure::call("mark payouts paid"))? {
        feed.send_next().await;
        tally.add(&answer)?;
    }
    tally.check(payouts.len())?;
    println!(
        "payouts: {} marked paid, now or in an earlier run{}",
        tally.updated,
        tally.skipped_in_words()
    );
    Ok(payouts)
}

fn paid_item(payout: &AccountSettlement) -> Result<StatusUpdateItem, Failure> {
    let money = required(payout.money.as_ref(), "money")?;
    Ok(StatusUpdateItem {
        id: payout.id.clone(),
        // Made up here. A real one comes from the bank, and is how the payout is found in its report.
        payment_reference: format!("2026-10/{}/{}", payout.account_id, money.currency_code),
    })
}

fn chunk(settlement_id: &str, index: usize, items: &[StatusUpdateItem]) -> BulkUpdateAccountSettlementStatusRequest {
    let chunk_id = index.to_string();
    BulkUpdateAccountSettlementStatusRequest {
        request_id: request_id::derive(&["mark paid", settlement_id, &chunk_id]),
        chunk_id,
        target_status: AccountSettlementStatus::Paid.into(),
        // What somebody else has moved on in the meantime is left alone and reported.
        expected_status: AccountSettlementStatus::New.into(),
        items: items.to_vec(),
        ..BulkUpdateAccountSettlementStatusRequest::default()
    }
}

/// What became of the payouts so far.
#[derive(Default)]
struct Tally {
    chunks: usize,
    updated: usize,
    skipped: BTreeMap<StatusSkipReason, usize>,
}

impl Tally {
    fn add(&mut self, answer: &BulkUpdateAccountSettlementStatusResponse) -> Result<(), Failure> {
        check_turn(&answer.chunk_id, self.chunks)?;
        self.chunks += 1;
        self.updated += count(answer.updated_count)?;
        for skipped in &answer.skipped {
            *self.skipped.entry(skipped.reason()).or_default() += 1;
        }
        Ok(())
    }

    /// Every payout is answered once: updated or skipped.
    fn check(&self, sent: usize) -> Result<(), Failure> {
        let answered = self.updated + self.skipped.values().sum::<usize>();
        if answered == sent {
            return Ok(());
        }
        Err(Failure::Unexpected(format!(
            "{sent} payouts were sent and {answered} answered"
        )))
    }

    fn skipped_in_words(&self) -> String {
        let mut text = String::new();
        for (reason, count) in &self.skipped {
            let name = reason.as_str_name();
            let name = name.strip_prefix("STATUS_SKIP_REASON_").unwrap_or(name);
            text.push_str(&format!(", {count} skipped ({name})"));
        }
        text
    }
}
