//! Plays a history on the service and on the model, and compares after each step.

use std::collections::BTreeMap;
use std::fmt::Debug;

use affiliate_billing::proto;
use affiliate_billing::proto::{Entry, EntryKind};
use tonic::{Response, Status};

use super::history::{ACCOUNTS, Draft, Filter, Item, Kind, Step};
use super::ledger::{
    Balance, CODES, CUT_OFFS, METHODS, Model, Posted, Run, SENT_DATES, Selection, Skipped, TYPES, WITHOUT_DETAILS,
};
use crate::support::app::App;
use crate::support::fixtures::{bank_method, entry, money, request_id, settle_accounts, tipalti_method};
use crate::support::ledger::{of_accounts, outcome, reason, settle_filter, skip_reason, validating};

type Outcome<T = ()> = Result<T, String>;

/// A history under way, on accounts of its own.
pub(crate) struct Player<'a> {
    app: &'a App,
    prefix: &'a str,
    model: Model,
    row_ids: Vec<String>,
    settlement_ids: Vec<String>,
    /// All that the service answered.
    answers: Vec<String>,
}

const MICROS_A_UNIT: i128 = 1_000_000;

/// Millionths as an amount.
fn text(micros: i128) -> String {
    let (units, rest) = (micros.abs() / MICROS_A_UNIT, micros.abs() % MICROS_A_UNIT);
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{units}.{rest:06}")
}

/// An amount at a scale of at most six, in millionths.
fn micros(money: &Option<proto::Money>) -> i128 {
    let amount = money.as_ref().map_or("0", |money| money.amount.as_str());
    let (units, rest) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{units}{rest:0<6}").parse().unwrap()
}

fn currency(code: &str) -> Option<usize> {
    CODES.iter().position(|known| *known == code)
}

fn currency_of(money: &Option<proto::Money>) -> usize {
    currency(&money.as_ref().unwrap().currency_code).unwrap()
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}:\nthe service: {found:#?}\nthe model: {expected:#?}"))
}

impl<'a> Player<'a> {
    /// Plays a whole history on new accounts; all answers, or what is not as the model says.
    pub(crate) async fn play(app: &'a App, prefix: &'a str, steps: &[Step]) -> Outcome<Vec<String>> {
        let mut player = Self {
            app,
            prefix,
            model: Model::new(),
            row_ids: Vec::new(),
            settlement_ids: Vec::new(),
            answers: Vec::new(),
        };
        player.set_up().await;
        for (number, step) in steps.iter().enumerate() {
            let told = |failure: String| format!("step {number}, {step:?}: {failure}");
            player.take(step).await.map_err(told)?;
            player.check_balances(number % CUT_OFFS.len()).await.map_err(told)?;
        }
        for cut_off in 0..CUT_OFFS.len() {
            player.check_balances(cut_off).await?;
        }
        for settlement in 0..player.settlement_ids.len() {
            player.check_settlement(settlement).await?;
        }
        player.check_conservation().await?;
        let report = app.billing.verify().await.unwrap();
        same("invariants", &report.is_sound(), &true).map_err(|failure| format!("{failure}\n{report}"))?;
        Ok(player.answers)
    }

    fn id(&self, account: usize) -> String {
        format!("{}a{account}", self.prefix)
    }

    fn ids(&self) -> Vec<String> {
        (0..ACCOUNTS).map(|account| self.id(account)).collect()
    }

    fn account(&self, id: &str) -> usize {
        self.ids().iter().position(|known| known == id).unwrap()
    }

    async fn set_up(&mut self) {
        self.app.enable_type("paypal", true).await;
        for (account, methods) in METHODS.iter().enumerate() {
            let id = self.id(account);
            if account != WITHOUT_DETAILS {
                self.app.with_billing_details(&id).await;
            }
            for (method, code) in methods.iter().zip(CODES) {
                let method = match method.map(|method| TYPES[method]) {
                    None => continue,
                    Some("paypal") => paypal_method(&id, code),
                    Some("tipalti") => tipalti_method(&id, code),
                    Some(_) => bank_method(&id, code),
                };
                self.app.with_method(method).await;
            }
        }
    }

    /// Notes an answer, and gives its message.
    fn noted<T: Debug>(&mut self, answer: Result<Response<T>, Status>) -> Result<T, Status> {
        let answer = answer.map(Response::into_inner);
        self.answers.push(match &answer {
            Ok(message) => format!("{message:?}"),
            Err(status) => format!("{:?} {} {}", status.code(), reason(status), status.message()),
        });
        answer
    }

    async fn take(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Post(drafts) => self.post(drafts).await,
            Step::SettleAccounts { items, cut_off } => self.settle_accounts(items, *cut_off).await,
            Step::SettleFilter { filter, cut_off } => self.settle_filter(filter, *cut_off).await,
            Step::SetStatus {
                row,
                status,
                with_reason,
            } => self.set_status(*row, *status, *with_reason).await,
            Step::DeleteRow(row) => self.delete_row(*row).await,
            Step::DeleteSettlement(settlement) => self.delete_settlement(*settlement).await,
            Step::SetHold { account, on_hold } => self.set_hold(*account, *on_hold).await,
            Step::GiveDetails(account) => self.give_details(*account).await,
            Step::EnablePaypal(enabled) => {
                self.model.paypal_enabled = *enabled;
                self.app.enable_type("paypal", *enabled).await;
                Ok(())
            }
        }
    }

    fn external_id(&self, number: usize) -> String {
        format!("{}e{number}", self.prefix)
    }

    fn message(&self, posted: &Posted, number: usize) -> Entry {
        let kind = match posted.kind {
            None => EntryKind::Clawback,
            Some(Kind::Commission) => EntryKind::Commission,
            Some(Kind::Bonus) => EntryKind::Bonus,
            Some(Kind::AdjustmentUp | Kind::AdjustmentDown) => EntryKind::Adjustment,
        };
        let account_id = self.id(posted.account);
        Entry {
            kind: kind.into(),
            available_date: SENT_DATES[posted.date].to_owned(),
            reverses_external_id: posted.of.map(|of| self.external_id(of)).unwrap_or_default(),
            ..entry(
                &self.external_id(number),
                &account_id,
                &text(posted.micros),
                CODES[posted.currency],
            )
        }
    }

    async fn post(&mut self, drafts: &[Draft]) -> Outcome {
        let mut entries = Vec::new();
        let mut expected = Vec::new();
        for draft in drafts {
            let (posted, repeats) = self.model.drafted(draft);
            entries.push(self.message(&posted, repeats.unwrap_or(self.model.posted.len())));
            expected.push(self.model.post(posted, repeats).to_owned());
        }
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let answer = self.app.balances().post_entries(request).await;
        let answer = self.noted(answer).map_err(|status| status.to_string())?;
        same("outcomes", &answer.results.iter().map(outcome).collect(), &expected)
    }

    async fn settle_accounts(&mut self, items: &[Item], cut_off: usize) -> Outcome {
        let items: Vec<(usize, Option<(usize, i128)>)> = items
            .iter()
            .map(|item| {
                let micros = |(currency, permille)| (currency, self.model.part(item.account, currency, permille));
                (item.account, item.part.map(micros))
            })
            .collect();
        let ids = self.ids();
        let named = items
            .iter()
            .map(|(account, part)| {
                let amount = part.and_then(|(currency, micros)| money(&text(micros), CODES[currency]));
                (ids[*account].as_str(), amount)
            })
            .collect();
        self.settle(settle_accounts(named), &Selection::Accounts(&items), cut_off)
            .await
    }

    async fn settle_filter(&mut self, filter: &Filter, cut_off: usize) -> Outcome {
        let mut ids = self.ids();
        if let Some(without) = filter.without {
            ids.remove(without);
        }
        let message = proto::BalanceFilter {
            account_ids: ids,
            currency_code: filter
                .currency
                .map(|currency| CODES[currency].to_owned())
                .unwrap_or_default(),
            payment_method_type_id: filter.type_id.map(|id| TYPES[id].to_owned()).unwrap_or_default(),
            minimum: filter
                .minimum
                .and_then(|(currency, micros)| money(&text(micros), CODES[currency])),
            payable_only: filter.payable_only,
        };
        let listed = self.balances(&message, cut_off).await?;
        same("filtered balances", &listed, &self.model.shown(filter, cut_off))?;
        self.settle(settle_filter(message), &Selection::Filter(filter), cut_off)
            .await
    }

    async fn settle(
        &mut self,
        mut request: proto::SettleBalancesRequest,
        selection: &Selection<'_>,
        cut_off: usize,
    ) -> Outcome {
        request.available_through = CUT_OFFS[cut_off].to_owned();
        let tried = self.run(validating(&request)).await?;
        self.check_run("a validation", &tried, &self.model.plan(selection, cut_off))?;
        let done = self.run(request.clone()).await?;
        let run = self.model.settle(selection, cut_off);
        self.check_run("a run", &done, &run)?;
        same("a run again", &self.run(request).await?, &done)?;
        let id = done.settlement.map(|settlement| settlement.id).unwrap_or_default();
        let rows = self.app.rows_of(&id).await;
        self.answers.push(format!("{rows:?}"));
        let payouts: Vec<(usize, usize, i128)> = rows
            .iter()
            .map(|row| {
                (
                    self.account(&row.account_id),
                    currency_of(&row.money),
                    micros(&row.money),
                )
            })
            .collect();
        same("rows", &payouts, &run.payouts)?;
        self.row_ids.extend(rows.into_iter().map(|row| row.id));
        self.settlement_ids.push(id);
        self.check_settlement(self.settlement_ids.len() - 1).await
    }

    async fn run(&mut self, request: proto::SettleBalancesRequest) -> Outcome<proto::SettleBalancesResponse> {
        let answer = self.app.balances().settle_balances(request).await;
        self.noted(answer).map_err(|status| status.to_string())
    }

    fn check_run(&self, what: &str, found: &proto::SettleBalancesResponse, expected: &Run) -> Outcome {
        let skipped: Vec<Skipped> = found
            .skipped
            .iter()
            .map(|skipped| Skipped {
                account: self.account(&skipped.account_id),
                currency: currency(&skipped.currency_code),
                reason: skip_reason(skipped.reason()),
                micros: skipped.money.is_some().then(|| micros(&skipped.money)),
            })
            .collect();
        same(&format!("skipped by {what}"), &skipped, &expected.skipped)?;
        let mut totals = BTreeMap::new();
        for (_, currency, micros) in &expected.payouts {
            *totals.entry(*currency).or_default() += micros;
        }
        same(
            &format!("totals of {what}"),
            &totals_of(found.settlement.as_ref().unwrap()),
            &totals,
        )
    }

    async fn set_status(&mut self, row: usize, status: usize, with_reason: bool) -> Outcome {
        if self.row_ids.is_empty() {
            return Ok(());
        }
        let row = row % self.row_ids.len();
        let request = proto::UpdateAccountSettlementStatusRequest {
            id: self.row_ids[row].clone(),
            status: i32::try_from(status).unwrap() + 1,
            reason: if with_reason {
                "returned".to_owned()
            } else {
                String::new()
            },
            ..Default::default()
        };
        let answer = self.app.settlements().update_account_settlement_status(request).await;
        let done = self.noted(answer).is_ok();
        same(
            "whether the status is set",
            &done,
            &self.model.set_status(row, status, with_reason),
        )?;
        self.check_settlement(self.model.rows[row].settlement).await
    }

    async fn delete_row(&mut self, row: usize) -> Outcome {
        if self.row_ids.is_empty() {
            return Ok(());
        }
        let row = row % self.row_ids.len();
        let request = proto::DeleteAccountSettlementRequest {
            id: self.row_ids[row].clone(),
            request_id: request_id(),
            ..Default::default()
        };
        let answer = self.app.settlements().delete_account_settlement(request).await;
        let done = self.noted(answer).is_ok();
        same("whether a row is deleted", &done, &self.model.delete_row(row))?;
        self.check_settlement(self.model.rows[row].settlement).await
    }

    async fn delete_settlement(&mut self, settlement: usize) -> Outcome {
        if self.settlement_ids.is_empty() {
            return Ok(());
        }
        let settlement = settlement % self.settlement_ids.len();
        let request = proto::DeleteSettlementRequest {
            id: self.settlement_ids[settlement].clone(),
            ..Default::default()
        };
        let answer = self.app.settlements().delete_settlement(request).await;
        let done = self.noted(answer).is_ok();
        same(
            "whether a settlement is deleted",
            &done,
            &self.model.delete_settlement(settlement),
        )?;
        self.check_settlement(settlement).await
    }

    async fn set_hold(&mut self, account: usize, on_hold: bool) -> Outcome {
        let id = self.id(account);
        let outcome = if on_hold {
            self.app.hold(&id, "check").await
        } else {
            self.app.release(&id).await
        };
        let was_on_hold = std::mem::replace(&mut self.model.on_hold[account], on_hold);
        same("whether a hold is changed", &outcome.is_ok(), &(on_hold || was_on_hold))
    }

    async fn give_details(&mut self, account: usize) -> Outcome {
        if !std::mem::replace(&mut self.model.details[account], true) {
            self.app.with_billing_details(&self.id(account)).await;
        }
        Ok(())
    }

    async fn balances(&mut self, filter: &proto::BalanceFilter, cut_off: usize) -> Outcome<Vec<Balance>> {
        let listed = self.app.list_open(filter, CUT_OFFS[cut_off], 1000).await;
        self.answers.push(format!("{listed:?}"));
        let balance = |balance: &proto::OpenBalance| Balance {
            account: self.account(&balance.account_id),
            currency: currency_of(&balance.open),
            open: micros(&balance.open),
            pending: micros(&balance.pending),
            entries: balance.entry_count,
            payable: if balance.payable {
                Ok(micros(&balance.payable_money))
            } else {
                Err(skip_reason(balance.not_payable_reason()))
            },
        };
        Ok(listed.iter().map(balance).collect())
    }

    async fn check_balances(&mut self, cut_off: usize) -> Outcome {
        let ids = self.ids();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = self.balances(&of_accounts(&ids), cut_off).await?;
        let everything = Filter {
            without: None,
            currency: None,
            minimum: None,
            type_id: None,
            payable_only: false,
        };
        let expected = self.model.shown(&everything, cut_off);
        same(&format!("balances through {:?}", CUT_OFFS[cut_off]), &found, &expected)
    }

    /// A settlement's rows, statuses, counters and totals.
    async fn check_settlement(&mut self, settlement: usize) -> Outcome {
        let id = self.settlement_ids[settlement].clone();
        let found = self.app.settlement(&id).await;
        same(
            "totals of a settlement",
            &totals_of(&found),
            &self.model.totals(settlement),
        )?;
        same(
            "deletion of a settlement",
            &found.delete_time.is_some(),
            &self.model.settlements[settlement],
        )?;
        let live: Vec<(&String, i32)> = self
            .model
            .rows
            .iter()
            .zip(&self.row_ids)
            .filter(|(row, _)| row.settlement == settlement && !row.deleted)
            .map(|(row, id)| (id, i32::try_from(row.status).unwrap() + 1))
            .collect();
        let rows = self.app.rows_of(&id).await;
        let shown: Vec<(&String, i32)> = rows.iter().map(|row| (&row.id, row.status)).collect();
        same("statuses of a settlement's rows", &shown, &live)?;
        let counts = found.status_counts.unwrap_or_default();
        let of_status = |status| {
            live.iter()
                .filter(|(_, of_row)| *of_row == status)
                .count()
                .try_into()
                .unwrap()
        };
        let expected = (of_status(1), of_status(2), of_status(3), 0_i64);
        same(
            "counters",
            &(counts.new, counts.in_progress, counts.paid, counts.error),
            &expected,
        )
    }

    /// All entries of an account come to what is open, what is pending, and what live rows pay.
    async fn check_conservation(&mut self) -> Outcome {
        for account in 0..ACCOUNTS {
            let id = self.id(account);
            let mut sums = [0; CODES.len()];
            for entry in self.app.entries_of(&id).await {
                sums[currency_of(&entry.money)] += micros(&entry.money);
            }
            for balance in self.balances(&of_accounts(&[&id]), 0).await? {
                sums[balance.currency] -= balance.open + balance.pending;
            }
            let live = self
                .model
                .rows
                .iter()
                .filter(|row| row.account == account && !row.deleted);
            for row in live {
                sums[row.currency] -= row.micros;
            }
            same(
                &format!("money lost or made on account {account}"),
                &sums,
                &[0; CODES.len()],
            )?;
        }
        Ok(())
    }
}

fn paypal_method(account_id: &str, currency_code: &str) -> proto::PaymentMethod {
    let email = format!("{account_id}@example.com");
    proto::PaymentMethod {
        details: Some(proto::payment_method::Details::Paypal(proto::Paypal { email })),
        ..bank_method(account_id, currency_code)
    }
}

fn totals_of(settlement: &proto::Settlement) -> BTreeMap<usize, i128> {
    let totals = settlement.totals.iter().map(|money| {
        let money = Some(money.clone());
        (currency_of(&money), micros(&money))
    });
    totals.collect()
}
