//! Four eyes: a settlement awaits approval by somebody else than who made it, and until then its rows stay in `NEW`, whoever
//! asks and by whichever call.

use std::collections::BTreeSet;

use affiliate_billing::billing::ChangeControl;
use affiliate_billing::payout::tipalti::KIND;
use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::proto::{
    AccountSettlementStatus as RowStatus, ApprovalState, SettleSkipReason, StatusSkipReason,
};
use fake_tipalti::webhooks::Delivery;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::app::App;
use crate::support::fixtures::{bank_method, billing_details, entry, request_id, settle_accounts};
use crate::support::guard::{Files, Known, authorized, plain_channel};
use crate::support::harness::scenarios;
use crate::support::program::{Serving, failure};
use crate::support::rows::{assert_refused, chunk, drained, update};
use crate::support::tables::Tables;
use crate::support::tipalti::World;

scenarios![
    a_settlement_awaits_approval_by_somebody_else,
    an_approval_is_repeated_without_effect_and_given_once,
    what_awaits_approval_can_be_deleted,
    settlements_of_before_need_no_approval_and_switching_it_off_frees_none,
    settlements_are_listed_by_their_approval,
    nothing_is_sent_to_tipalti_of_what_awaits_approval,
    approvals_deletions_and_statuses_race,
    the_database_itself_refuses_that_a_row_leaves_new;
    sqlite_only: settings_are_no_part_of_a_request,
        a_validation_says_that_approval_will_be_needed;
    units: the_program_asks_for_what_it_is_set_to;
];

const REQUIRED: ChangeControl = ChangeControl {
    cool_off_hours: 0,
    require_approval: true,
};

/// A server that asks for approval, and who calls it.
struct Office {
    channel: Channel,
    settler: Known,
    approver: Known,
    second: Known,
    payer: Known,
    _files: Files,
}

type Interceptor = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>;
type Settlements = SettlementsServiceClient<InterceptedService<Channel, Interceptor>>;

impl Office {
    async fn open(app: &App) -> Self {
        let files = Files::new();
        // Who settles may approve too, but not what it settled.
        let settler = Known::new("settler", &["settler", "approver"]);
        let approver = Known::new("approver", &["approver"]);
        let second = Known::new("second", &["approver"]);
        let payer = Known::new("payer", &["payer"]);
        files.write_identities(&[&settler, &approver, &second, &payer]);
        let channel = plain_channel(app.guarded_with(files.by_tokens(), REQUIRED).await).await;
        Self {
            channel,
            settler,
            approver,
            second,
            payer,
            _files: files,
        }
    }

    fn settlements(&self, known: &Known) -> Settlements {
        let interceptor: Interceptor = Box::new(authorized(&known.authorization()));
        SettlementsServiceClient::with_interceptor(self.channel.clone(), interceptor)
    }

    /// Settles accounts as the settler; the settlement and its rows.
    async fn settle(&self, app: &App, account_ids: &[&str]) -> (proto::Settlement, Vec<String>) {
        let entries = account_ids
            .iter()
            .map(|account_id| entry(&request_id(), account_id, "10", "EUR"));
        app.post(entries.collect()).await;
        let request = settle_accounts(account_ids.iter().map(|id| (*id, None)).collect());
        let mut balances =
            BalancesServiceClient::with_interceptor(self.channel.clone(), authorized(&self.settler.authorization()));
        let answer = balances.settle_balances(request).await.unwrap().into_inner();
        let settlement = answer.settlement.unwrap();
        let rows = app.rows_of(&settlement.id).await.into_iter().map(|row| row.id);
        (settlement, rows.collect())
    }

    async fn approve(
        &self,
        known: &Known,
        id: &str,
        etag: &str,
        request_id: &str,
    ) -> Result<proto::Settlement, Status> {
        let request = proto::ApproveSettlementRequest {
            id: id.to_owned(),
            etag: etag.to_owned(),
            request_id: request_id.to_owned(),
        };
        let answer = self.settlements(known).approve_settlement(request).await?;
        Ok(answer.into_inner().settlement.unwrap())
    }
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.unwrap();
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

async fn accounts(app: &App, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    for id in &ids {
        app.payable_account(id, &["EUR"]).await;
    }
    ids
}

async fn whole(app: &App, settlement_id: &str, target: RowStatus) -> Vec<proto::BulkUpdateSettlementStatusResponse> {
    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: settlement_id.to_owned(),
        expected_status: RowStatus::New.into(),
        target_status: target.into(),
        ..Default::default()
    };
    let answers = app.settlements().bulk_update_settlement_status(request).await.unwrap();
    let (answers, end) = drained(answers.into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    answers
}

async fn a_settlement_awaits_approval_by_somebody_else(app: App) {
    let ids = accounts(&app, "aff", 2).await;
    let office = Office::open(&app).await;
    let (settlement, rows) = office.settle(&app, &[&ids[0], &ids[1]]).await;
    assert_eq!(settlement.approval_state(), ApprovalState::Pending);
    assert_eq!((settlement.approver.as_str(), settlement.approve_time), ("", None));
    assert_eq!(app.settlement(&settlement.id).await, settlement);

    // By every call that sets statuses, whoever makes it.
    for target in [RowStatus::InProgress, RowStatus::Paid] {
        let refused = app.update(update(&rows[0], target)).await;
        let status = assert_refused(refused, Code::FailedPrecondition, "SETTLEMENT_NOT_APPROVED");
        assert!(status.message().contains("ApproveSettlement"), "{status}");
        let answer = app.bulk_one(chunk(&[&rows[0], &rows[1]], target)).await;
        assert_eq!(answer.updated_count, 0);
        let skipped: Vec<(&str, StatusSkipReason, RowStatus)> = answer
            .skipped
            .iter()
            .map(|skipped| (skipped.id.as_str(), skipped.reason(), skipped.current_status()))
            .collect();
        let awaits = StatusSkipReason::AwaitingApproval;
        assert_eq!(
            skipped,
            [
                (rows[0].as_str(), awaits, RowStatus::New),
                (rows[1].as_str(), awaits, RowStatus::New)
            ]
        );
        let answers = whole(&app, &settlement.id, target).await;
        let skipped: Vec<StatusSkipReason> = answers
            .iter()
            .flat_map(|answer| answer.skipped.iter().map(|skipped| skipped.reason()))
            .collect();
        assert_eq!(skipped, [awaits, awaits]);
    }
    // To stay where it is it needs none.
    app.set(&rows[0], RowStatus::New).await;
    assert_eq!(app.counts(&settlement.id).await, [2, 0, 0]);
    assert_eq!(app.history(&rows[0]).await.len(), 1);

    let refused = office.approve(&office.settler, &settlement.id, "", "").await;
    assert_refused(refused, Code::FailedPrecondition, "APPROVER_IS_CREATOR");
    let refused = office.approve(&office.payer, &settlement.id, "", "").await;
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    let refused = office.approve(&office.approver, &settlement.id, "stale", "").await;
    assert_refused(refused, Code::Aborted, "ETAG_MISMATCH");
    let unknown = "00000000-0000-4000-8000-000000000000";
    let refused = office.approve(&office.approver, unknown, "", "").await;
    assert_refused(refused, Code::NotFound, "SETTLEMENT_NOT_FOUND");
    let refused = office.approve(&office.approver, "x", "", "").await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(
        app.settlement(&settlement.id).await,
        settlement,
        "what was refused changed nothing"
    );

    // The approver can look at what it approves.
    let request = proto::ListAccountSettlementsRequest {
        settlement_id: settlement.id.clone(),
        ..Default::default()
    };
    let shown = office
        .settlements(&office.approver)
        .list_account_settlements(request)
        .await
        .unwrap();
    assert_eq!(shown.into_inner().account_settlements.len(), 2);
    let approved = office
        .approve(&office.approver, &settlement.id, &settlement.etag, "")
        .await
        .unwrap();
    assert_eq!(approved.approval_state(), ApprovalState::Approved);
    assert_eq!(
        (approved.approver.as_str(), approved.actor.as_str()),
        ("approver", "settler")
    );
    assert!(micros(approved.approve_time) > micros(approved.create_time));
    assert_ne!(approved.etag, settlement.etag);
    assert_eq!(app.settlement(&settlement.id).await, approved);

    // From then on as ever, in both directions.
    app.set(&rows[0], RowStatus::Paid).await;
    app.set(&rows[0], RowStatus::New).await;
    let answers = whole(&app, &settlement.id, RowStatus::InProgress).await;
    assert_eq!(answers.iter().map(|answer| answer.updated_count).sum::<i32>(), 2);
    assert_eq!(app.counts(&settlement.id).await, [0, 2, 0]);
}

async fn an_approval_is_repeated_without_effect_and_given_once(app: App) {
    let ids = accounts(&app, "aff", 1).await;
    let office = Office::open(&app).await;
    let (settlement, _) = office.settle(&app, &[&ids[0]]).await;
    let id = request_id();
    let first = office
        .approve(&office.approver, &settlement.id, &settlement.etag, &id)
        .await
        .unwrap();
    // By the request id, by the same one without, with the etag of before too; and never by another.
    for (etag, request_id) in [
        (settlement.etag.as_str(), id.as_str()),
        ("", ""),
        (&settlement.etag, ""),
        (&first.etag, ""),
    ] {
        let again = office
            .approve(&office.approver, &settlement.id, etag, request_id)
            .await
            .unwrap();
        assert_eq!(again, first);
    }
    let refused = office.approve(&office.approver, &settlement.id, "other", &id).await;
    assert_refused(refused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    let refused = office.approve(&office.second, &settlement.id, "", "").await;
    assert_refused(refused, Code::FailedPrecondition, "ALREADY_APPROVED");
    let refused = office.approve(&office.settler, &settlement.id, "", "").await;
    assert_refused(refused, Code::FailedPrecondition, "ALREADY_APPROVED");
    assert_eq!(app.settlement(&settlement.id).await, first);
}

async fn what_awaits_approval_can_be_deleted(app: App) {
    let ids = accounts(&app, "aff", 2).await;
    let office = Office::open(&app).await;
    let (settlement, rows) = office.settle(&app, &[&ids[0], &ids[1]]).await;
    app.delete_row(&rows[0]).await.unwrap();
    // What was looked at is not what would be approved.
    let refused = office
        .approve(&office.approver, &settlement.id, &settlement.etag, "")
        .await;
    assert_refused(refused, Code::Aborted, "ETAG_MISMATCH");
    let deleted = app.delete_settlement(&settlement.id).await.unwrap();
    assert_eq!(deleted.approval_state(), ApprovalState::Pending);
    let refused = office.approve(&office.approver, &settlement.id, "", "").await;
    assert_refused(refused, Code::FailedPrecondition, "SETTLEMENT_DELETED");
    let skipped = app.bulk_one(chunk(&[&rows[1]], RowStatus::Paid)).await.skipped;
    assert_eq!(skipped[0].reason(), StatusSkipReason::Deleted);

    // Its money is open, and is settled again; with one row deleted the rest is approved.
    let (settlement, rows) = office.settle(&app, &[&ids[0], &ids[1]]).await;
    app.delete_row(&rows[0]).await.unwrap();
    let etag = app.settlement(&settlement.id).await.etag;
    office
        .approve(&office.approver, &settlement.id, &etag, "")
        .await
        .unwrap();
    app.set(&rows[1], RowStatus::Paid).await;
    assert_eq!(app.counts(&settlement.id).await, [0, 0, 1]);
}

async fn settlements_of_before_need_no_approval_and_switching_it_off_frees_none(app: App) {
    let before = app.settled(&["aff-0"]).await.remove(0);
    let office = Office::open(&app).await;
    let old = app.settlement(&before.settlement_id).await;
    assert_eq!(old.approval_state(), ApprovalState::NotRequired);
    let refused = office.approve(&office.approver, &old.id, "", "").await;
    assert_refused(refused, Code::FailedPrecondition, "APPROVAL_NOT_REQUIRED");
    app.set(&before.id, RowStatus::Paid).await;

    app.payable_account("aff-1", &["EUR"]).await;
    let (settlement, rows) = office.settle(&app, &["aff-1"]).await;
    // `app` is a server with the setting off.
    let refused = app.update(update(&rows[0], RowStatus::Paid)).await;
    assert_refused(refused, Code::FailedPrecondition, "SETTLEMENT_NOT_APPROVED");
    assert_eq!(
        app.settled_again(&["aff-0"]).await.len(),
        1,
        "what it settles itself needs none"
    );
    let request = proto::ApproveSettlementRequest {
        id: settlement.id,
        ..Default::default()
    };
    app.settlements().approve_settlement(request).await.unwrap();
    app.set(&rows[0], RowStatus::Paid).await;
}

async fn settlements_are_listed_by_their_approval(app: App) {
    let free = app.settled(&["aff-0"]).await.remove(0).settlement_id;
    let ids = accounts(&app, "aff-new", 3).await;
    let office = Office::open(&app).await;
    let mut made = Vec::new();
    for id in &ids {
        made.push(office.settle(&app, &[id]).await.0.id);
    }
    office.approve(&office.approver, &made[1], "", "").await.unwrap();
    let listed = async |state: ApprovalState, page_size: i32| {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListSettlementsRequest {
                approval_state: state.into(),
                page_size,
                page_token,
                ..Default::default()
            };
            let answer = app.settlements().list_settlements(request).await.unwrap().into_inner();
            found.extend(answer.settlements.into_iter().map(|settlement| settlement.id));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    };
    assert_eq!(listed(ApprovalState::NotRequired, 1).await, [free.as_str()]);
    assert_eq!(listed(ApprovalState::Pending, 1).await, [made[2].as_str(), &made[0]]);
    assert_eq!(listed(ApprovalState::Approved, 1).await, [made[1].as_str()]);
    assert_eq!(listed(ApprovalState::Unspecified, 3).await.len(), 4);
    let request = proto::ListSettlementsRequest {
        approval_state: 9,
        ..Default::default()
    };
    let refused = app.settlements().list_settlements(request).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
}

async fn nothing_is_sent_to_tipalti_of_what_awaits_approval(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    for account_id in ["aff-1", "aff-2"] {
        app.tipalti_account(account_id).await;
    }
    let office = Office::open(&app).await;
    let (settlement, rows) = office.settle(&app, &["aff-1", "aff-2"]).await;
    let (payouts, end) = world.replica.try_submit(&settlement.id, &request_id()).await;
    assert!(payouts.is_empty());
    assert_refused(
        Err::<(), _>(end.unwrap()),
        Code::FailedPrecondition,
        "SETTLEMENT_NOT_APPROVED",
    );
    let answer = app.bulk_one(chunk(&[&rows[0]], RowStatus::Paid)).await;
    assert_eq!(answer.skipped[0].reason(), StatusSkipReason::ProviderManaged);

    // Somebody paid it at Tipalti, round this service: that is told, and believed once it is approved.
    let data = serde_json::json!({"refCode": rows[0], "paymentStatus": "PAID"});
    world
        .fake
        .send_event("paymentCompleted", data, None, Delivery::default())
        .await;
    assert_eq!(app.counts(&settlement.id).await, [2, 0, 0]);
    let alarms = world.replica.alarms().await;
    let told: Vec<(&str, &str)> = alarms
        .iter()
        .map(|alarm| (alarm.account_settlement_id.as_str(), alarm.raw_status.as_str()))
        .collect();
    assert_eq!(told, [(rows[0].as_str(), "PAID")]);
    let request = proto::ListPayoutHoldsRequest::default();
    let holds = app
        .balances()
        .list_payout_holds(request)
        .await
        .unwrap()
        .into_inner()
        .payout_holds;
    assert_eq!(holds[0].account_id, app.row(&rows[0]).await.account_id);
    assert_eq!(
        world
            .replica
            .events(proto::TipaltiEventOutcome::UnknownRefCode)
            .await
            .len(),
        1
    );

    let applied = async || world.replica.billing.apply_waiting_events(&KIND).await.unwrap();
    assert_eq!(applied().await, 0, "it is not looked at in vain");
    office.approve(&office.approver, &settlement.id, "", "").await.unwrap();
    assert_eq!(applied().await, 1);
    assert_eq!(app.row(&rows[0]).await.status(), RowStatus::Paid);
    let sent = world.replica.submit(&settlement.id).await;
    let sent: Vec<&str> = sent.iter().map(|payout| payout.id.as_str()).collect();
    assert_eq!(sent, [rows[1].as_str()], "what was paid is not paid again");
    world.end().await;
}

async fn approvals_deletions_and_statuses_race(app: App) {
    let ids = accounts(&app, "aff", 12).await;
    let office = Office::open(&app).await;
    let named: Vec<&str> = ids.iter().map(String::as_str).collect();
    for _ in 0..4 {
        let (settlement, rows) = office.settle(&app, &named).await;
        let all: Vec<&str> = rows.iter().map(String::as_str).collect();
        let mover = async |offset: usize| {
            let mut moved = Vec::new();
            for number in 0..6 {
                let half = &all[offset..offset + 6];
                if number % 2 == 0 {
                    moved.extend(app.bulk_one(chunk(half, RowStatus::InProgress)).await.updated_ids);
                } else if app.update(update(half[0], RowStatus::InProgress)).await.is_ok() {
                    moved.push(half[0].to_owned());
                }
            }
            moved
        };
        let approve = async |known: &Known| office.approve(known, &settlement.id, "", "").await;
        let (first, second, one, other, deleted) = tokio::join!(
            approve(&office.approver),
            approve(&office.second),
            mover(0),
            mover(5),
            app.delete_row(all[11]),
        );
        deleted.unwrap();
        // Who came before the approval moved nothing; now nothing stands in the way.
        let late = app.bulk_one(chunk(&all[..11], RowStatus::InProgress)).await.updated_ids;
        let moved: BTreeSet<String> = [one, other, late].into_iter().flatten().collect();
        assert_eq!(moved, rows[..11].iter().cloned().collect());
        let winner = match (first, second) {
            (Ok(settlement), Err(status)) | (Err(status), Ok(settlement)) => {
                assert_refused(Err::<(), _>(status), Code::FailedPrecondition, "ALREADY_APPROVED");
                settlement
            }
            (first, second) => panic!("{first:?} {second:?}"),
        };
        let shown = app.settlement(&settlement.id).await;
        assert_eq!(
            (shown.approver, shown.approve_time),
            (winner.approver, winner.approve_time)
        );
        for row in &all {
            for change in app.history(row).await.iter().skip(1) {
                assert!(
                    micros(change.change_time) >= micros(winner.approve_time),
                    "it left NEW before it was approved"
                );
            }
        }
        app.verify().await;
    }
}

async fn the_database_itself_refuses_that_a_row_leaves_new(app: App) {
    let ids = accounts(&app, "aff", 1).await;
    let office = Office::open(&app).await;
    let (settlement, _) = office.settle(&app, &[&ids[0]]).await;
    let tables = Tables::open(&app.database_url).await;
    let shards = "SELECT CAST(count(*) AS text) FROM settlement_counters WHERE NOT approved";
    assert_eq!(tables.texts(shards).await, ["8"]);
    // As a version of the service that knows no approval would, whichever shard it takes.
    for shard in 0..8 {
        for counter in ["in_progress_count", "paid_count", "error_count"] {
            let moved = format!(
                "INSERT INTO settlement_counters (settlement_id, currency_code, shard, new_count, in_progress_count, paid_count, \
                     error_count, changes, amount_units, amount_micros) \
                 SELECT id, 'EUR', {shard}, 0, 0, 0, 0, 1, 0, 0 FROM settlements WHERE TRUE \
                 ON CONFLICT (settlement_id, currency_code, shard) DO UPDATE SET {counter} = settlement_counters.{counter} + 1"
            );
            assert!(!tables.takes(&moved).await, "{moved}");
        }
    }
    // And that nobody approves what he made, or what needs no approval.
    let approved = "UPDATE settlements SET approve_time = 1, approver =";
    assert!(!tables.takes(&format!("{approved} actor")).await);
    assert!(!tables.takes("UPDATE settlements SET approve_time = 1").await);
    assert!(
        !tables
            .takes(&format!("{approved} 'somebody', approval_required = FALSE"))
            .await
    );
    tables.close().await;
    office.approve(&office.approver, &settlement.id, "", "").await.unwrap();
}

async fn a_validation_says_that_approval_will_be_needed(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let controlled = app.controlled(REQUIRED).await;
    let request = || proto::SettleBalancesRequest {
        validate_only: true,
        ..settle_accounts(vec![("aff-1", None)])
    };
    let shown = controlled.settle_request(request()).await.settlement.unwrap();
    assert_eq!(shown.approval_state(), ApprovalState::Pending);
    let shown = app.settle_request(request()).await.settlement.unwrap();
    assert_eq!(shown.approval_state(), ApprovalState::NotRequired);
}

async fn settings_are_no_part_of_a_request(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let request = settle_accounts(vec![("aff-1", None)]);
    let first = app.controlled(REQUIRED).await.settle_request(request.clone()).await;
    assert_eq!(
        first.settlement.as_ref().unwrap().approval_state(),
        ApprovalState::Pending
    );
    // The same request, also where it is answered by a replica with other settings.
    assert_eq!(app.settle_request(request).await, first);
}

fn the_program_asks_for_what_it_is_set_to() {
    let folder = tempfile::tempdir().unwrap();
    let approval = ("BILLING_REQUIRE_APPROVAL", "1");
    let hours = "BILLING_PAYMENT_METHOD_COOL_OFF_HOURS";
    let said = failure("serve", folder.path(), &[approval, (hours, "2161")]);
    for told in [
        "BILLING_REQUIRE_APPROVAL needs callers that are authenticated",
        "BILLING_TOKENS_FILE",
        "BILLING_PAYMENT_METHOD_COOL_OFF_HOURS must be",
    ] {
        assert!(said.contains(told), "{told} is not in {said}");
    }
    let files = Files::new();
    let settler = Known::new("settler", &["settler", "poster", "accounts"]);
    files.write_identities(&[&settler]);
    let identities = files.path("identities.toml").display().to_string();
    let settings = [approval, (hours, "1"), ("BILLING_TOKENS_FILE", identities.as_str())];
    let serving = Serving::start(folder.path(), &settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let channel = serving.channel().await;
        let interceptor = || authorized(&settler.authorization());
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(billing_details("aff-1")),
            ..Default::default()
        };
        let mut details = BillingDetailsServiceClient::with_interceptor(channel.clone(), interceptor());
        details.create_billing_details(request).await.unwrap();
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(bank_method("aff-1", "EUR")),
            ..Default::default()
        };
        let mut methods = PaymentMethodsServiceClient::with_interceptor(channel.clone(), interceptor());
        methods.create_payment_method(request).await.unwrap();
        let mut balances = BalancesServiceClient::with_interceptor(channel, interceptor());
        let request = proto::PostEntriesRequest {
            entries: vec![entry("order-1", "aff-1", "5", "EUR")],
            ..Default::default()
        };
        balances.post_entries(request).await.unwrap();
        let request = settle_accounts(vec![("aff-1", None)]);
        balances.settle_balances(request).await.unwrap().into_inner()
    });
    assert_eq!(answer.settlement.unwrap().approval_state(), ApprovalState::Pending);
    assert_eq!(answer.skipped[0].reason(), SettleSkipReason::PaymentMethodCoolingOff);
    assert!(serving.end("-TERM").success());
}
