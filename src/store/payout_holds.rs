//! Table `payout_holds`.

use std::collections::HashSet;

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Set,
};
use uuid::Uuid;

use super::entity::payout_holds::{ActiveModel, Column, Entity, Model};
use super::{Backend, Session, Tx, from_db, time};
use crate::domain::error::Result;
use crate::domain::ids::{AccountId, new_id};
use crate::domain::payout_holds::PayoutHold;
use crate::domain::time::Timestamp;

/// The hold of an account, locked until the transaction ends.
pub(crate) async fn find_active(tx: &Tx, account_id: &AccountId) -> Result<Option<PayoutHold>> {
    let mut query = Entity::find()
        .filter(Column::AccountId.eq(account_id.as_str()))
        .filter(Column::ReleaseTime.is_null());
    if tx.backend == Backend::Postgres {
        query = query.lock_exclusive();
    }
    query.one(&tx.connection).await.map_err(from_db)?.map(hold).transpose()
}

/// Which of these accounts are on hold.
pub(crate) async fn held_among(tx: &Tx, account_ids: &[String]) -> Result<HashSet<AccountId>> {
    let query = Entity::find()
        .filter(Column::AccountId.is_in(account_ids))
        .filter(Column::ReleaseTime.is_null());
    let rows = query.all(&tx.connection).await.map_err(from_db)?;
    Ok(rows
        .into_iter()
        .map(|row| AccountId::from_store(row.account_id))
        .collect())
}

/// Puts an account on hold.
pub(crate) async fn insert(tx: &Tx, account_id: &AccountId, reason: &str, actor: &str) -> Result<PayoutHold> {
    let row = ActiveModel {
        id: Set(new_id()),
        account_id: Set(account_id.as_str().to_owned()),
        reason: Set(reason.to_owned()),
        actor: Set(actor.to_owned()),
        create_time: Set(Timestamp::now().as_micros()),
        release_time: Set(None),
        release_actor: Set(None),
    };
    hold(row.insert(&tx.connection).await.map_err(from_db)?)
}

/// Marks a hold released; it stays as history.
pub(crate) async fn release(tx: &Tx, active: PayoutHold, actor: &str) -> Result<PayoutHold> {
    let row = ActiveModel {
        id: Set(active.id),
        release_time: Set(Some(Timestamp::now().as_micros())),
        release_actor: Set(Some(actor.to_owned())),
        ..Default::default()
    };
    hold(row.update(&tx.connection).await.map_err(from_db)?)
}

/// Holds before a key, newest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    account_id: Option<&AccountId>,
    show_released: bool,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<PayoutHold>> {
    let mut query = Entity::find().order_by_desc(Column::Id).limit(limit);
    if let Some(account_id) = account_id {
        query = query.filter(Column::AccountId.eq(account_id.as_str()));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    if !show_released {
        query = query.filter(Column::ReleaseTime.is_null());
    }
    let rows = query.all(&session.connection).await.map_err(from_db)?;
    rows.into_iter().map(hold).collect()
}

fn hold(row: Model) -> Result<PayoutHold> {
    Ok(PayoutHold {
        id: row.id,
        account_id: AccountId::from_store(row.account_id),
        reason: row.reason,
        actor: row.actor,
        create_time: time(row.create_time)?,
        release_time: row.release_time.map(time).transpose()?,
        release_actor: row.release_actor,
    })
}
