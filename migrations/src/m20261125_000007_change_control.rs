//! Change control: the history of payment methods, since when each is where it pays to, and the approval of settlements.

use crate::dialect::SchemaMigration;

// payment_method_changes.sealed: the fields that changed, with their values masked; there are no others.
// payment_method_changes.rpc: the call that made the change.
// payment_methods.destination_time: since when it pays to where it pays, as the default of its currency or not; of the version
// destination_time_version_id alone. A version of the service before this one makes and changes methods without it: then, and for
// methods from before, update_time stands for it.
// settlements: one that needs approval awaits it until approve_time is set.
// settlement_counters.approved: false in all shards of a settlement that awaits approval. They are all made with it, and every
// change of a status moves one of them: so the database itself refuses that a row leaves NEW, also from a version of the
// service that does not know approval.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261125_000007_change_control",
    schema: r"
CREATE TABLE payment_method_changes (
    id {uuid} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL,
    payment_method_id {uuid} NOT NULL,
    kind {text} NOT NULL CHECK (kind IN ('CREATED', 'UPDATED', 'DELETED')),
    currency_code {text} NOT NULL,
    type_id {text} NOT NULL,
    actor {text} NOT NULL,
    rpc {text} NOT NULL,
    request_id {text} NOT NULL,
    key_id {text} NOT NULL,
    sealed {bytes} NOT NULL,
    change_time {bigint} NOT NULL
) {strict};
CREATE INDEX payment_method_changes_by_account ON payment_method_changes (account_id, id);
CREATE INDEX payment_method_changes_by_method ON payment_method_changes (payment_method_id, id);
CREATE INDEX payment_method_changes_by_key ON payment_method_changes (key_id, id);

ALTER TABLE payment_methods ADD COLUMN destination_time {bigint};
ALTER TABLE payment_methods ADD COLUMN destination_time_version_id {uuid};

ALTER TABLE skipped_accounts ADD COLUMN cooling_off_until {bigint};

ALTER TABLE settlements ADD COLUMN approval_required {bool} NOT NULL DEFAULT {false};
ALTER TABLE settlements ADD COLUMN approve_time {bigint} CHECK (approve_time IS NULL OR approval_required);
ALTER TABLE settlements ADD COLUMN approver {text} CHECK ((approver IS NULL) = (approve_time IS NULL) AND approver <> actor);
CREATE INDEX settlements_awaiting_approval ON settlements (id)
    WHERE approval_required AND approve_time IS NULL AND delete_time IS NULL;
ALTER TABLE settlement_counters ADD COLUMN approved {bool} NOT NULL DEFAULT {true}
    CHECK (approved OR (in_progress_count = 0 AND paid_count = 0 AND error_count = 0))
",
};
