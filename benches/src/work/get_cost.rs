//! Processor time of the service for one `GetAccountSettlement`, against a bare tonic server that echoes messages of its sizes.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::proto::settlements_service_server::{SettlementsService, SettlementsServiceServer};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::settle::settle_everything;
use crate::report::{Race, Target, run_race};
use crate::seed::{self, Owed};
use crate::service::Service;
use crate::world::World;
use crate::{Options, Outcome};

const CALLERS: usize = 64;
const CALLERS_PER_CONNECTION: usize = 8;

struct GetCost {
    world: World,
    echo: Service,
    ids: Arc<Vec<String>>,
    calls: usize,
}

/// Reads payouts of a settlement, and the same number of times one that the echo made up.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let accounts = options.accounts(10_000, 500);
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, accounts).await?;
    let owed = Owed {
        accounts,
        entries_each: 1,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    settle_everything(&world.channel).await?;
    let rows = world
        .driver
        .fetch("SELECT id FROM account_settlements", Vec::new())
        .await?;
    let ids = rows
        .iter()
        .map(|row| row.uuid(0).map(|id| id.to_string()))
        .collect::<Outcome<Vec<String>>>()?;
    seed::tidy(&mut world.driver).await?;
    world.forget_statements().await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo");
    let mut race = GetCost {
        world,
        echo: Service::spawn(command)?,
        ids: Arc::new(ids),
        calls: options.entries(100_000, 4000),
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

/// Microseconds of processor time that a server takes for a call.
async fn cost(server: &Service, ids: &Arc<Vec<String>>, calls: usize) -> Outcome<f64> {
    let each = calls / CALLERS;
    let mut channels = Vec::new();
    for _ in 0..CALLERS / CALLERS_PER_CONNECTION {
        channels.push(server.channel().await?);
    }
    let before = server.processor_time()?;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let channel = channels[caller / CALLERS_PER_CONNECTION].clone();
        tasks.spawn(get_many(channel, ids.clone(), caller * each, each));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let used = server.processor_time()?.saturating_sub(before);
    Ok(used.as_secs_f64() / Duration::from_micros(1).as_secs_f64() / (each * CALLERS) as f64)
}

async fn get_many(channel: Channel, ids: Arc<Vec<String>>, first: usize, count: usize) -> Outcome<()> {
    let mut client = SettlementsServiceClient::new(channel);
    for number in first..first + count {
        let request = proto::GetAccountSettlementRequest {
            id: ids[number * 7919 % ids.len()].clone(),
            ..Default::default()
        };
        client.get_account_settlement(request).await?;
    }
    Ok(())
}

impl Race for GetCost {
    fn title(&self) -> String {
        format!("GetAccountSettlement: {} calls from {CALLERS} callers", self.calls)
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "echo", "µs of processor time a call")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtMost(2.5))
    }

    async fn reset(&mut self) -> Outcome<()> {
        Ok(())
    }

    async fn measured(&mut self) -> Outcome<f64> {
        cost(&self.world.service, &self.ids, self.calls).await
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        cost(&self.echo, &self.ids, self.calls).await
    }
}

/// Serves one answer to everybody, until it is killed.
pub(crate) async fn serve_echo() -> Outcome<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    tonic::transport::Server::builder()
        .add_service(SettlementsServiceServer::new(Echo))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(true)
}

struct Echo;

/// A message of the size of a real one.
fn made_up(id: String) -> proto::AccountSettlement {
    let time = Some(prost_types::Timestamp {
        seconds: 1_770_000_000,
        nanos: 123_456_000,
    });
    proto::AccountSettlement {
        settlement_id: id.clone(),
        id,
        account_id: seed::account_id(1),
        money: Some(proto::Money {
            currency_code: "EUR".to_owned(),
            amount: "1.00".to_owned(),
        }),
        status: proto::AccountSettlementStatus::New.into(),
        payment_method: Some(proto::PaymentMethod {
            id: "019be6a2-8e46-7b7c-8000-000000000000".to_owned(),
            account_id: seed::account_id(1),
            currency_code: "EUR".to_owned(),
            details: Some(proto::payment_method::Details::BankTransfer(proto::BankTransfer {
                account_holder_name: "A** B****".to_owned(),
                iban: "DE89**************3000".to_owned(),
                ..Default::default()
            })),
            type_id: "bank_transfer".to_owned(),
            ..Default::default()
        }),
        billing_details: Some(proto::BillingDetails {
            account_id: seed::account_id(1),
            tax_id: "****5678".to_owned(),
            party: Some(proto::billing_details::Party::Individual(proto::Individual {
                given_name: "Ada".to_owned(),
                family_name: "Byron".to_owned(),
            })),
            address: Some(proto::Address {
                region_code: "DE".to_owned(),
                postal_code: "10115".to_owned(),
                locality: "Berlin".to_owned(),
                address_lines: vec!["Invalidenstr. 1".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        etag: "1".to_owned(),
        create_time: time,
        update_time: time,
        ..Default::default()
    }
}

macro_rules! not_echoed {
    ($($method:ident($request:ident) -> $response:ident),* $(,)?) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _request: Request<proto::$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<proto::$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("")) })
        }
    )*};
}

#[tonic::async_trait]
impl SettlementsService for Echo {
    async fn get_account_settlement(
        &self,
        request: Request<proto::GetAccountSettlementRequest>,
    ) -> Result<Response<proto::GetAccountSettlementResponse>, Status> {
        Ok(Response::new(proto::GetAccountSettlementResponse {
            account_settlement: Some(made_up(request.into_inner().id)),
        }))
    }

    type BulkUpdateAccountSettlementStatusStream =
        tokio_stream::Empty<Result<proto::BulkUpdateAccountSettlementStatusResponse, Status>>;
    type BulkUpdateSettlementStatusStream =
        tokio_stream::Empty<Result<proto::BulkUpdateSettlementStatusResponse, Status>>;

    async fn bulk_update_account_settlement_status(
        &self,
        _request: Request<Streaming<proto::BulkUpdateAccountSettlementStatusRequest>>,
    ) -> Result<Response<Self::BulkUpdateAccountSettlementStatusStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn bulk_update_settlement_status(
        &self,
        _request: Request<proto::BulkUpdateSettlementStatusRequest>,
    ) -> Result<Response<Self::BulkUpdateSettlementStatusStream>, Status> {
        Err(Status::unimplemented(""))
    }

    not_echoed! {
        get_settlement(GetSettlementRequest) -> GetSettlementResponse,
        list_settlements(ListSettlementsRequest) -> ListSettlementsResponse,
        approve_settlement(ApproveSettlementRequest) -> ApproveSettlementResponse,
        delete_settlement(DeleteSettlementRequest) -> DeleteSettlementResponse,
        list_skipped_accounts(ListSkippedAccountsRequest) -> ListSkippedAccountsResponse,
        list_account_settlements(ListAccountSettlementsRequest) -> ListAccountSettlementsResponse,
        update_account_settlement_status(UpdateAccountSettlementStatusRequest) -> UpdateAccountSettlementStatusResponse,
        delete_account_settlement(DeleteAccountSettlementRequest) -> DeleteAccountSettlementResponse,
        list_status_changes(ListStatusChangesRequest) -> ListStatusChangesResponse,
    }
}
