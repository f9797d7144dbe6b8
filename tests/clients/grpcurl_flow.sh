#!/usr/bin/env bash
# The billing flow with grpcurl, by reflection alone: no proto files.
#
#   grpcurl_flow.sh ADDRESS
#
# $GRPCURL is the tool, $PYTHON reads its JSON. Every run uses an account of its own. Prints one `ok - ...` line a check;
# exits 1 at the first that fails. grpcurl 1.8 speaks reflection v1alpha only, so with it that is checked too.
set -euo pipefail

address=${1:?usage: grpcurl_flow.sh ADDRESS}
grpcurl=${GRPCURL:-grpcurl}
python=${PYTHON:-python3}
package=affiliate.billing.v1
passed=0

fail() {
  echo "not ok - $1"
  exit 1
}

# is SEEN EXPECTED NAME
is() {
  [[ $1 == "$2" ]] || fail "$3: '$1' instead of '$2'"
  passed=$((passed + 1))
  echo "ok - $3"
}

# has TEXT PART NAME
has() {
  [[ $1 == *"$2"* ]] || fail "$3: no '$2' in: $1"
  passed=$((passed + 1))
  echo "ok - $3"
}

# call SERVICE/METHOD JSON
call() {
  "$grpcurl" -plaintext -connect-timeout 10 -max-time 30 -d "$2" "$address" "$package.$1"
}

# refused SERVICE/METHOD JSON CODE REASON NAME: grpcurl exits with 64 + the code, and prints the details.
refused() {
  local output code=0
  output=$(call "$1" "$2" 2>&1) || code=$?
  is "$code" "$((64 + $3))" "$5: refused with code $3"
  has "$output" "$4" "$5: because of $4"
}

# field EXPRESSION: of the JSON document on stdin, `doc`; several documents (a stream) are merged. Keys in snake case, whichever
# way the tool writes them.
field() {
  "$python" -c '
import json, re, sys
text, doc = sys.stdin.read().strip(), {}
while text:
    found, end = json.JSONDecoder(object_pairs_hook=lambda pairs: {
        re.sub("([A-Z])", lambda found: "_" + found.group(1).lower(), key): value for key, value in pairs
    }).raw_decode(text)
    doc |= found
    text = text[end:].strip()
print(eval(sys.argv[1]))' "$1"
}

account=grpcurl-$("$python" -c 'import uuid; print(uuid.uuid4().hex[:12])')
request_id=$("$python" -c 'import uuid; print(uuid.uuid4())')

services=$("$grpcurl" -plaintext -connect-timeout 10 "$address" list)
for service in BalancesService BillingDetailsService PaymentMethodsService SettlementsService; do
  has "$services" "$package.$service" "reflection lists $service"
done
description=$("$grpcurl" -plaintext -connect-timeout 10 "$address" describe "$package.BalancesService")
has "$description" "rpc SettleBalances" "reflection describes a service"
has "$description" "// Settles balances" "with the comments of its source"

answer=$(call BillingDetailsService/CreateBillingDetails "{\"billing_details\": {\"account_id\": \"$account\",
  \"individual\": {\"given_name\": \"Fenna\", \"family_name\": \"Brandelow\"}, \"tax_id\": \"12/345/67890\",
  \"address\": {\"region_code\": \"DE\", \"postal_code\": \"10999\", \"locality\": \"Berlin\", \"address_lines\": [\"Lindenhain 2\"]}}}")
is "$(field 'doc["billing_details"]["account_id"]' <<<"$answer")" "$account" "billing details are created"

answer=$(call PaymentMethodsService/CreatePaymentMethod "{\"payment_method\": {\"account_id\": \"$account\", \"currency_code\": \"EUR\",
  \"paypal\": {\"email\": \"$account@example.com\"}}}")
is "$(field 'doc["payment_method"]["type_id"]' <<<"$answer")" paypal "a payment method is created"

answer=$(call BalancesService/PostEntries "{\"entries\": [
  {\"source\": \"grpcurl\", \"external_id\": \"$account-1\", \"account_id\": \"$account\", \"kind\": \"ENTRY_KIND_COMMISSION\",
   \"money\": {\"currency_code\": \"EUR\", \"amount\": \"12.345\"}, \"occur_time\": \"2026-01-31T12:00:00Z\"},
  {\"source\": \"grpcurl\", \"external_id\": \"$account-2\", \"account_id\": \"$account\", \"kind\": \"ENTRY_KIND_BONUS\",
   \"money\": {\"currency_code\": \"EUR\", \"amount\": \"3\"}, \"occur_time\": \"2026-01-31T12:00:00Z\"}]}")
is "$(field '[result["outcome"] for result in doc["results"]]' <<<"$answer")" \
  "['ENTRY_OUTCOME_POSTED', 'ENTRY_OUTCOME_POSTED']" "entries are posted"

filter="\"filter\": {\"account_ids\": [\"$account\"]}"
answer=$(call BalancesService/ListOpenBalances "{$filter}")
is "$(field 'doc["open_balances"][0]["open"]["amount"]' <<<"$answer")" 15.345 "what is open is exact"

settle="{\"request_id\": \"$request_id\", $filter, \"note\": \"grpcurl $account\"}"
first=$(call BalancesService/SettleBalances "$settle")
is "$(field 'doc["settlement"]["totals"]' <<<"$first")" "[{'currency_code': 'EUR', 'amount': '15.34'}]" "it is settled, rounded down"
is "$(call BalancesService/SettleBalances "$settle")" "$first" "and once only: the same request id answers the same"
settlement=$(field 'doc["settlement"]["id"]' <<<"$first")

answer=$(call SettlementsService/ListAccountSettlements "{\"settlement_id\": \"$settlement\"}")
row=$(field 'doc["account_settlements"][0]["id"]' <<<"$answer")
answer=$(call SettlementsService/GetAccountSettlement "{\"id\": \"$row\", \"view\": \"VIEW_FULL\"}")
is "$(field 'doc["account_settlement"]["payment_method"]["paypal"]["email"]' <<<"$answer")" "$account@example.com" "VIEW_FULL shows where it goes"

answer=$(call SettlementsService/UpdateAccountSettlementStatus \
  "{\"id\": \"$row\", \"status\": \"ACCOUNT_SETTLEMENT_STATUS_PAID\", \"payment_reference\": \"ref-1\"}")
is "$(field 'doc["account_settlement"]["status"]' <<<"$answer")" ACCOUNT_SETTLEMENT_STATUS_PAID "it is marked paid"

refused SettlementsService/UpdateAccountSettlementStatus "{\"id\": \"$row\", \"status\": \"ACCOUNT_SETTLEMENT_STATUS_ERROR\"}" \
  3 INVALID_REQUEST "ERROR by hand"
refused SettlementsService/DeleteSettlement "{\"id\": \"$settlement\"}" \
  9 ACCOUNT_SETTLEMENT_NOT_DELETABLE "deleting what is paid"
refused BillingDetailsService/GetBillingDetails "{\"account_id\": \"$account-unknown\"}" \
  5 BILLING_DETAILS_NOT_FOUND "an unknown account"

answer=$(call SettlementsService/BulkUpdateSettlementStatus "{\"settlement_id\": \"$settlement\", \"reason\": \"returned by the bank\",
  \"expected_status\": \"ACCOUNT_SETTLEMENT_STATUS_PAID\", \"target_status\": \"ACCOUNT_SETTLEMENT_STATUS_NEW\"}")
is "$(field 'doc["updated_ids"]' <<<"$answer")" "['$row']" "all paid rows are set back"
call SettlementsService/DeleteSettlement "{\"id\": \"$settlement\"}" >/dev/null
answer=$(call BalancesService/ListOpenBalances "{$filter}")
is "$(field 'doc["open_balances"][0]["open"]["amount"]' <<<"$answer")" 15.345 "deleted, its money is open again"

echo "$passed passed, 0 failed"
