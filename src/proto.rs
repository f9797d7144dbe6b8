//! The generated messages, servers and clients of package `affiliate.billing.v1`, and the descriptor set for reflection.
//!
//! Messages that hold personal data get a `Debug` here that shows none of it.

#![allow(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code: its documentation is the proto comments"
)]

use std::fmt;

tonic::include_proto!("affiliate.billing.v1");

/// Encoded `FileDescriptorSet` of the package with comments, as served by reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! redacted_debug {
    ($($message:ident),* $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($message), "(redacted)"))
            }
        }
    )*};
}

redacted_debug!(
    Address,
    BankTransfer,
    BillingDetails,
    Company,
    CustomPayment,
    Individual,
    PaymentMethodFieldChange,
    Paypal,
    Tipalti,
);
