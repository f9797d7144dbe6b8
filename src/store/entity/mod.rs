//! sea-orm entities, one file a table that is read and written row by row. Tables that are worked on in sets have their
//! statements in the module of their resource.

pub(crate) mod billing_details;
pub(crate) mod billing_details_versions;
pub(crate) mod payment_method_types;
pub(crate) mod payment_method_versions;
pub(crate) mod payment_methods;
pub(crate) mod payout_holds;
