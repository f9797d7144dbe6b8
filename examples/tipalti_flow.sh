#!/usr/bin/env bash
# Pays one affiliate through Tipalti with grpcurl: from billing details to CLEARED, telling what it does.
#
#   examples/tipalti_flow.sh [ADDRESS]
#
# ADDRESS is the service's, localhost:50051 by default; it must reach a Tipalti, such as the fake one that ships with the
# project: README.md, "Paying through Tipalti", shows how to start both. $GRPCURL is the tool, grpcurl by default;
# $FOLLOW_SECONDS is how long the payment may take. Every run uses an account of its own. Exits 1 when something is not as
# it should be.
set -euo pipefail

address=${1:-localhost:50051}
grpcurl=${GRPCURL:-grpcurl}
follow_seconds=${FOLLOW_SECONDS:-120}
package=affiliate.billing.v1

say() {
  printf '\n== %s\n' "$1"
}

fail() {
  printf 'failed: %s\n' "$1" >&2
  exit 1
}

new_uuid() {
  uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid
}

# call SERVICE/METHOD JSON
call() {
  "$grpcurl" -plaintext -connect-timeout 10 -max-time 60 -d "$2" "$address" "$package.$1"
}

# field NAME: the first text field of that name in the JSON on stdin; nothing where there is none.
field() {
  grep -o "\"$1\": *\"[^\"]*\"" | sed -n '1s/.*: *"\(.*\)"/\1/p' || true
}

command -v "$grpcurl" >/dev/null || fail "$grpcurl is missing: set GRPCURL to it, or put it on the path"
account=tipalti-$(new_uuid | cut -c 1-8)

say "billing details of the account $account"
call BillingDetailsService/CreateBillingDetails "{\"billing_details\": {\"account_id\": \"$account\",
  \"individual\": {\"given_name\": \"Ada\", \"family_name\": \"Byron\"}, \"tax_id\": \"12345678\",
  \"address\": {\"region_code\": \"DE\", \"postal_code\": \"10115\", \"locality\": \"Berlin\",
    \"address_lines\": [\"Invalidenstr. 1\"]}}}"

say "its payment method: a payee at Tipalti, who gets EUR"
call PaymentMethodsService/CreatePaymentMethod "{\"payment_method\": {\"account_id\": \"$account\",
  \"currency_code\": \"EUR\", \"tipalti\": {\"payee_id\": \"payee-$account\"}}}"

say "what it earned: 12.345 EUR"
call BalancesService/PostEntries "{\"entries\": [{\"source\": \"flow\", \"external_id\": \"$account-1\",
  \"account_id\": \"$account\", \"kind\": \"ENTRY_KIND_COMMISSION\", \"occur_time\": \"2026-01-31T12:00:00Z\",
  \"money\": {\"currency_code\": \"EUR\", \"amount\": \"12.345\"}}]}"

say "settle it: one payout of 12.34 EUR, in NEW"
settled=$(call BalancesService/SettleBalances "{\"request_id\": \"$(new_uuid)\",
  \"filter\": {\"account_ids\": [\"$account\"]}, \"note\": \"paid through Tipalti\"}")
printf '%s\n' "$settled"
settlement=$(field id <<<"$settled")
[[ -n $settlement ]] || fail "there is no settlement"
payout=$(call SettlementsService/ListAccountSettlements "{\"settlement_id\": \"$settlement\"}" | field id)
[[ -n $payout ]] || fail "the settlement has no payout"

say "pay it with Tipalti: the payout goes out in a batch, with its id as ref code"
request_id=$(new_uuid)
submit="{\"settlement_id\": \"$settlement\", \"request_id\": \"$request_id\"}"
submitted=$(call TipaltiService/SubmitSettlement "$submit") || echo "the call ended with an error"
printf '%s\n' "$submitted"
case $(field outcome <<<"$submitted") in
  SUBMIT_OUTCOME_ACCEPTED) ;;
  SUBMIT_OUTCOME_UNKNOWN) echo "nobody knows whether Tipalti has it: it is looked up before anything else" ;;
  *) fail "Tipalti does not take the payout" ;;
esac

say "again with the same request id: the same answer, and nothing is sent twice"
[[ $(call TipaltiService/SubmitSettlement "$submit") == "$submitted" ]] || fail "the answer is another one"
echo "it is the same"

say "its money can't be let go any more: deleting it is refused"
if refused=$(call SettlementsService/DeleteAccountSettlement "{\"id\": \"$payout\"}" 2>&1); then
  fail "a payout that may be paid was deleted"
fi
[[ $refused == *ACCOUNT_SETTLEMENT_NOT_DELETABLE* ]] || fail "$refused"
printf '%s\n' "$refused" | sed -n '1,3p'

say "ask Tipalti now what became of it; without that the webhook and the refresh tell"
call TipaltiService/SyncSettlement "{\"settlement_id\": \"$settlement\"}"

say "follow it until Tipalti says its last word"
seen=
ends=$((SECONDS + follow_seconds))
while true; do
  row=$(call SettlementsService/GetAccountSettlement "{\"id\": \"$payout\"}")
  raw_status=$(field rawStatus <<<"$row")
  if [[ $raw_status != "$seen" ]]; then
    printf '%s at Tipalti: %s here\n' "$raw_status" "$(field status <<<"$row")"
    seen=$raw_status
  fi
  [[ $raw_status != CLEARED ]] || break
  ((SECONDS < ends)) || fail "it is still $raw_status after $follow_seconds s: does the fake run with --step-ms?"
  sleep 0.2
done
grep -qi 'final": *true' <<<"$row" || fail "CLEARED is not final"
[[ $(field status <<<"$row") == ACCOUNT_SETTLEMENT_STATUS_PAID ]] || fail "CLEARED is not PAID"

say "its history"
call SettlementsService/ListStatusChanges "{\"account_settlement_id\": \"$payout\"}"

say "the webhook events about it, newest first"
events=$(call TipaltiService/ListTipaltiEvents "{\"account_settlement_id\": \"$payout\"}")
printf '%s\n' "$events"
grep -q paymentCompleted <<<"$events" || echo "none that tells its end: it came by the refresh alone"

say "contradictions between Tipalti and what was done here: none"
call TipaltiService/ListPayoutAlarms "{\"account_id\": \"$account\"}"

printf '\npaid: %s was paid 12.34 EUR, and Tipalti has cleared it\n' "$account"
