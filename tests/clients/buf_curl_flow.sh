#!/usr/bin/env bash
# A few calls with `buf curl`, by reflection (v1) alone: another HTTP/2 stack and another decoder of error details.
#
#   buf_curl_flow.sh ADDRESS
#
# $BUF is the tool, $PYTHON reads its JSON and (with googleapis-common-protos, which grpcio-status brings) the error details
# that it leaves encoded. Every run uses an account of its own. Prints one `ok - ...` line a check; exits 1 at the first
# that fails.
set -euo pipefail

address=${1:?usage: buf_curl_flow.sh ADDRESS}
buf=${BUF:-buf}
python=${PYTHON:-python3}
package=affiliate.billing.v1
passed=0

# buf keeps a cache; ours goes with the script.
BUF_CACHE_DIR=$(mktemp -d)
export BUF_CACHE_DIR
trap 'rm -rf "$BUF_CACHE_DIR"' EXIT

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

# curl ARGUMENTS...
curl() {
  "$buf" --timeout 30s curl --http2-prior-knowledge --protocol grpc --reflect-protocol grpc-v1 "$@"
}

# call SERVICE/METHOD JSON...: several documents make a stream.
call() {
  local method=$1
  shift
  printf '%s\n' "$@" | curl -d @- "http://$address/$package.$method"
}

# field EXPRESSION: of the JSON documents on stdin, `docs`; `doc` is the first.
field() {
  "$python" -c '
import json, sys
text, docs = sys.stdin.read().strip(), []
while text:
    found, end = json.JSONDecoder().raw_decode(text)
    docs.append(found)
    text = text[end:].strip()
doc = docs[0]
print(eval(sys.argv[1]))' "$1"
}

# violations: the paths of the fields in the BadRequest of an error.
violations() {
  "$python" -c '
import base64, json, sys
from google.rpc.error_details_pb2 import BadRequest
for detail in json.load(sys.stdin)["details"]:
    if detail["type"] == BadRequest.DESCRIPTOR.full_name:
        value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
        print(sorted(violation.field for violation in BadRequest.FromString(value).field_violations))'
}

# entry NUMBER AMOUNT
entry() {
  printf '{"source": "buf", "external_id": "%s-%s", "account_id": "%s", "kind": "ENTRY_KIND_COMMISSION",
    "money": {"currency_code": "JPY", "amount": "%s"}, "occur_time": "2026-01-31T12:00:00Z"}' "$account" "$1" "$account" "$2"
}

account=buf-$("$python" -c 'import uuid; print(uuid.uuid4().hex[:12])')

listed=$(curl --list-services "http://$address")
for service in BalancesService BillingDetailsService PaymentMethodsService SettlementsService; do
  [[ $listed == *"$package.$service"* ]] || fail "reflection v1 does not list $service: $listed"
done
is listed listed "reflection v1 lists the services"

answer=$(call BillingDetailsService/CreateBillingDetails "{\"billing_details\": {\"account_id\": \"$account\",
  \"individual\": {\"given_name\": \"Sorin\", \"family_name\": \"Hoshimine\"}, \"tax_id\": \"123456789012\",
  \"address\": {\"region_code\": \"JP\", \"postal_code\": \"150-0099\", \"locality\": \"Shibuya-ku\", \"address_lines\": [\"Sakuradai 3\"]}}}")
is "$(field 'doc["billingDetails"]["accountId"]' <<<"$answer")" "$account" "billing details are created"
answer=$(call PaymentMethodsService/CreatePaymentMethod "{\"payment_method\": {\"account_id\": \"$account\", \"currency_code\": \"JPY\",
  \"bank_transfer\": {\"account_holder_name\": \"Sorin Hoshimine\", \"bic\": \"ZZQBJPJT\", \"account_number\": \"1234567\"}}}")
is "$(field 'doc["paymentMethod"]["bankTransfer"]["accountNumber"][-4:]' <<<"$answer")" 4567 "a payment method is created, and answered masked"

answer=$(call BalancesService/StreamEntries \
  "{\"chunk_id\": \"a\", \"entries\": [$(entry 1 800.4), $(entry 2 0.5)]}" \
  "{\"chunk_id\": \"b\", \"entries\": [$(entry 1 800.4), $(entry 3 10)]}")
is "$(field '[(d["chunkId"], d.get("postedCount", 0), d.get("alreadyPostedCount", 0)) for d in docs]' <<<"$answer")" \
  "[('a', 2, 0), ('b', 1, 1)]" "a stream of entries is answered chunk by chunk"

request_id=$("$python" -c 'import uuid; print(uuid.uuid4())')
answer=$(call BalancesService/SettleBalances "{\"request_id\": \"$request_id\", \"accounts\": {\"items\": [{\"account_id\": \"$account\"}]},
  \"expected_totals\": [{\"currency_code\": \"JPY\", \"amount\": \"810\"}]}")
is "$(field 'doc["settlement"]["totals"]' <<<"$answer")" "[{'currencyCode': 'JPY', 'amount': '810'}]" "yen are settled without decimals"

code=0
answer=$(call BalancesService/SettleBalances '{"request_id": "no-uuid", "all_accounts": true, "available_through": "31.10.2026"}' 2>&1) || code=$?
is "$code" "$((3 * 8))" "a malformed request is refused with code 3"
is "$(field 'doc["code"]' <<<"$answer")" invalid_argument "as invalid_argument"
is "$(violations <<<"$answer")" "['available_through', 'request_id']" "with the paths of its fields"

echo "$passed passed, 0 failed"
