//! Table `payment_methods`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "payment_methods")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) account_id: String,
    pub(crate) currency_code: String,
    pub(crate) type_id: String,
    pub(crate) is_default: bool,
    pub(crate) version_id: Uuid,
    pub(crate) payee_id: Option<Uuid>,
    pub(crate) payee_version_id: Option<Uuid>,
    pub(crate) destination_hash: Option<Vec<u8>>,
    pub(crate) destination_time: Option<i64>,
    pub(crate) destination_hash_version_id: Option<Uuid>,
    pub(crate) destination_time_version_id: Option<Uuid>,
    pub(crate) revision: i64,
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
