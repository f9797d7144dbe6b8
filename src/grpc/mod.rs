//! The only place that knows tonic: one file a service, `convert` for the messages, `status` for the errors.

mod authentication_layer;
mod balances;
mod billing_details;
mod call_log;
mod caller;
pub(crate) mod codec;
pub mod connections;
pub(crate) mod convert;
mod deadline;
mod error_details_layer;
mod payment_methods;
mod settlements;
pub(crate) mod status;
mod streams;
mod tipalti;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(crate) use self::authentication_layer::AuthenticationLayer;
use self::balances::BalancesServer;
use self::billing_details::BillingDetailsServer;
pub(crate) use self::call_log::CallLogLayer;
pub(crate) use self::codec::CountingCodec;
pub use self::codec::MAX_ITEMS;
pub(crate) use self::error_details_layer::ErrorDetailsLayer;
use self::payment_methods::PaymentMethodsServer;
use self::settlements::SettlementsServer;
use self::tipalti::TipaltiServer;
use crate::billing::Billing;
use crate::proto;

/// Largest message taken and given, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Names of the services, as health and reflection know them.
pub const SERVICE_NAMES: [&str; 5] = [
    proto::billing_details_service_server::SERVICE_NAME,
    proto::payment_methods_service_server::SERVICE_NAME,
    proto::balances_service_server::SERVICE_NAME,
    proto::settlements_service_server::SERVICE_NAME,
    proto::tipalti_service_server::SERVICE_NAME,
];

/// All services over one [`Billing`].
pub(crate) fn routes(billing: &Billing, shutdown: &CancellationToken) -> Routes {
    macro_rules! limited {
        ($server:expr) => {
            $server
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(usize::MAX)
        };
    }
    Routes::new(limited!(
        proto::billing_details_service_server::BillingDetailsServiceServer::new(BillingDetailsServer {
            billing: billing.clone(),
            shutdown: shutdown.clone(),
        })
    ))
    .add_service(limited!(
        proto::payment_methods_service_server::PaymentMethodsServiceServer::new(PaymentMethodsServer {
            billing: billing.clone(),
            shutdown: shutdown.clone(),
        })
    ))
    .add_service(limited!(proto::balances_service_server::BalancesServiceServer::new(
        BalancesServer {
            billing: billing.clone(),
            shutdown: shutdown.clone(),
        }
    )))
    .add_service(limited!(
        proto::settlements_service_server::SettlementsServiceServer::new(SettlementsServer {
            billing: billing.clone(),
            shutdown: shutdown.clone(),
        })
    ))
    .add_service(limited!(proto::tipalti_service_server::TipaltiServiceServer::new(
        TipaltiServer {
            billing: billing.clone(),
            shutdown: shutdown.clone(),
        }
    )))
}
