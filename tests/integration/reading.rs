//! Reads of single account settlements that are done together: none is touched by another.

use affiliate_billing::proto;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::harness::scenarios;
use crate::support::rows::reason_of;
use crate::support::tables::Tables;

scenarios![
    reads_that_come_together_each_get_their_own_answer,
    a_row_that_can_not_be_read_takes_no_other_with_it,
];

async fn get(channel: Channel, id: String) -> Result<proto::AccountSettlement, Status> {
    let request = proto::GetAccountSettlementRequest {
        id,
        ..Default::default()
    };
    let answer = SettlementsServiceClient::new(channel)
        .get_account_settlement(request)
        .await?;
    Ok(answer.into_inner().account_settlement.unwrap())
}

/// Reads all at once; the answers in the order of the ids.
async fn get_at_once(app: &App, ids: &[String]) -> Vec<Result<proto::AccountSettlement, Status>> {
    let mut reads = JoinSet::new();
    for (number, id) in ids.iter().cloned().enumerate() {
        let channel = app.channel.clone();
        reads.spawn(async move { (number, get(channel, id).await) });
    }
    let mut answers = reads.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn reads_that_come_together_each_get_their_own_answer(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let unknown = "019be6a2-8e46-7b7c-8000-000000000000".to_owned();
    // Each row is asked for by many at once, beside one that is not there and one that is no id.
    let mut ids = Vec::new();
    for number in 0..120 {
        ids.push(match number % 5 {
            3 => unknown.clone(),
            4 => "no id".to_owned(),
            row => rows[row].id.clone(),
        });
    }
    for (number, answer) in get_at_once(&app, &ids).await.into_iter().enumerate() {
        match number % 5 {
            3 => {
                let status = answer.unwrap_err();
                assert_eq!(status.code(), Code::NotFound);
                assert_eq!(reason_of(&status), "ACCOUNT_SETTLEMENT_NOT_FOUND");
            }
            4 => assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument),
            row => assert_eq!(answer.unwrap(), rows[row]),
        }
    }
}

async fn a_row_that_can_not_be_read_takes_no_other_with_it(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    let tables = Tables::open(&app.database_url).await;
    // A sealed value of another row does not open.
    tables
        .execute(
            "UPDATE billing_details_versions SET sealed = (SELECT v.sealed FROM billing_details_versions v \
             WHERE v.account_id = 'aff-1') WHERE account_id = 'aff-2'",
        )
        .await;
    tables.close().await;
    let ids: Vec<String> = (0..60).map(|number| rows[number % 2].id.clone()).collect();
    for (number, answer) in get_at_once(&app, &ids).await.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(answer.unwrap(), rows[0]);
        } else {
            assert_eq!(answer.unwrap_err().code(), Code::Internal);
        }
    }
}
