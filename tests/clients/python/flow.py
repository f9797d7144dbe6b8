"""The billing flow from another language, against a running server.

    flow.py PROTO_DIR ADDRESS

The client is generated from PROTO_DIR into a temporary folder, as any other team would do it. Every run uses accounts of its
own, so it can be repeated on the same server. Prints one `ok - ...` line a check; exits 1 at the first that fails.

Needs grpcio, grpcio-tools, grpcio-status, grpcio-reflection and grpcio-health-checking.
"""

import importlib
import sys
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PACKAGE = "affiliate.billing.v1"
SERVICES = ["BalancesService", "BillingDetailsService", "PaymentMethodsService", "SettlementsService"]
DEADLINE_SECONDS = 30
CONNECT_SECONDS = 10


def generate(proto_dir, folder):
    """Generates messages and stubs, and makes them importable."""
    files = sorted(str(path) for path in Path(proto_dir).rglob("*.proto"))
    if not files:
        raise SystemExit(f"no .proto files in {proto_dir}")
    well_known = str(Path(protoc.__file__).parent / "_proto")
    arguments = ["protoc", f"-I{proto_dir}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(arguments + files) != 0:
        raise SystemExit("the protos can't be compiled")
    sys.path.insert(0, folder)


class Api:
    """The generated modules: `messages` finds a message or enum value by its name, in whichever file it is."""

    def __init__(self, channel):
        names = ["balances", "billing_details", "error_reason", "money", "payment_methods", "settlements", "view"]
        self._modules = [importlib.import_module(f"affiliate.billing.v1.{name}_pb2") for name in names]
        stubs = {name: importlib.import_module(f"affiliate.billing.v1.{name}_pb2_grpc") for name in names}
        self.details = stubs["billing_details"].BillingDetailsServiceStub(channel)
        self.methods = stubs["payment_methods"].PaymentMethodsServiceStub(channel)
        self.balances = stubs["balances"].BalancesServiceStub(channel)
        self.settlements = stubs["settlements"].SettlementsServiceStub(channel)

    def __getattr__(self, name):
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"no message or enum value {name} in {PACKAGE}")


class Checks:
    """Counts what was checked."""

    def __init__(self):
        self.passed = 0

    def ok(self, condition, name, seen=""):
        if not condition:
            raise AssertionError(f"{name}" + (f", but got: {seen}" if seen != "" else ""))
        self.passed += 1
        print(f"ok - {name}")

    def equal(self, seen, expected, name):
        self.ok(seen == expected, name, f"{seen!r} instead of {expected!r}")

    def refused(self, call, code, reason, name):
        """The call has to fail with this code, and say this reason; answers the other details by their type."""
        try:
            call()
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            self.ok(status is not None, f"{name}: the error carries details", error.details())
            info = detail(status, error_details_pb2.ErrorInfo)
            self.ok(info is not None, f"{name}: the details have an ErrorInfo")
            self.equal((error.code(), info.reason, info.domain), (code, reason, "affiliate-billing"), f"{name}: refused as {code.name}, {reason}")
            return status
        raise AssertionError(f"{name}: was not refused")


def detail(status, kind):
    """The first detail of a kind in a status, or None."""
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    return None


def violations(status):
    """The field paths of a BadRequest."""
    bad_request = detail(status, error_details_pb2.BadRequest)
    return sorted(violation.field for violation in bad_request.field_violations) if bad_request else []


def new_id():
    return str(uuid.uuid4())


class Flow:
    """One affiliate from its registration to its payout and back."""

    def __init__(self, api, checks):
        self.api = api
        self.checks = checks
        self.run = uuid.uuid4().hex[:12]
        self.bank = f"py-{self.run}-bank"
        self.tipalti = f"py-{self.run}-tipalti"
        self.nobody = f"py-{self.run}-nobody"

    def call(self, method, request):
        return method(request, timeout=DEADLINE_SECONDS)

    # -- billing details -------------------------------------------------------------------------------------------------

    def details_of(self, account_id, **fields):
        return self.api.BillingDetails(
            account_id=account_id,
            company=self.api.Company(legal_name="Quellrieder Reisen GmbH", registration_number="REG-1"),
            address=self.api.Address(region_code="DE", postal_code="10999", locality="Berlin", address_lines=["Lindenhain 1"]),
            **fields,
        )

    def billing_details(self):
        api, checks = self.api, self.checks
        request = api.CreateBillingDetailsRequest(billing_details=self.details_of(self.bank, vat_id="DE136695976"), request_id=new_id())
        created = self.call(api.details.CreateBillingDetails, request).billing_details
        checks.equal(created.vat_id, "DE136695976", "billing details are created")
        again = self.call(api.details.CreateBillingDetails, request).billing_details
        checks.equal(again, created, "the same request id answers the same")
        read = self.call(api.details.GetBillingDetails, api.GetBillingDetailsRequest(account_id=self.bank)).billing_details
        checks.equal(read, created, "they are read as they were created")

        update = api.UpdateBillingDetailsRequest(billing_details=api.BillingDetails(account_id=self.bank, email="billing@example.com", etag=read.etag))
        update.update_mask.paths.append("email")
        changed = self.call(api.details.UpdateBillingDetails, update).billing_details
        checks.equal((changed.email, changed.company), ("billing@example.com", created.company), "an update changes the fields of its mask alone")
        checks.ok(changed.etag != created.etag, "an update changes the etag")
        checks.refused(lambda: self.call(api.details.UpdateBillingDetails, update), grpc.StatusCode.ABORTED, "ETAG_MISMATCH", "an update with the old etag")

        taken = api.CreateBillingDetailsRequest(billing_details=self.details_of(self.bank, tax_id="12/345/67890"))
        checks.refused(
            lambda: self.call(api.details.CreateBillingDetails, taken), grpc.StatusCode.ALREADY_EXISTS, "BILLING_DETAILS_ALREADY_EXIST", "a second create"
        )
        request.billing_details.email = "other@example.com"
        checks.refused(
            lambda: self.call(api.details.CreateBillingDetails, request), grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED", "a used request id with other content"
        )
        unknown = api.GetBillingDetailsRequest(account_id=self.nobody)
        checks.refused(lambda: self.call(api.details.GetBillingDetails, unknown), grpc.StatusCode.NOT_FOUND, "BILLING_DETAILS_NOT_FOUND", "an unknown account")

        bad = api.CreateBillingDetailsRequest(billing_details=self.details_of(self.nobody, vat_id="DE136695977"))
        bad.billing_details.address.region_code = "XX"
        bad.billing_details.address.ClearField("locality")
        status = checks.refused(lambda: self.call(api.details.CreateBillingDetails, bad), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "malformed details")
        fields = violations(status)
        for field in ["billing_details.address.region_code", "billing_details.address.locality"]:
            checks.ok(field in fields, f"all violations are told at once, among them {field}", fields)

        self.call(api.details.CreateBillingDetails, api.CreateBillingDetailsRequest(billing_details=self.details_of(self.tipalti, tax_id="12/345/67890")))

    # -- payment methods -------------------------------------------------------------------------------------------------

    def payment_methods(self):
        api, checks = self.api, self.checks
        bank = api.PaymentMethod(
            account_id=self.bank, currency_code="EUR", bank_transfer=api.BankTransfer(account_holder_name="Quellrieder Reisen GmbH", iban="de89 3704 0044 0532 0130 00")
        )
        created = self.call(api.methods.CreatePaymentMethod, api.CreatePaymentMethodRequest(payment_method=bank)).payment_method
        checks.equal((created.type_id, created.default), ("bank_transfer", True), "the first method in a currency becomes its default")
        checks.ok("3704" not in created.bank_transfer.iban and created.bank_transfer.iban.endswith("3000"), "the IBAN is masked", created.bank_transfer.iban)
        full = self.call(api.methods.GetPaymentMethod, api.GetPaymentMethodRequest(id=created.id, view=api.VIEW_FULL)).payment_method
        checks.equal(full.bank_transfer.iban, "DE89370400440532013000", "VIEW_FULL shows the IBAN, normalised")

        checks.refused(
            lambda: self.call(api.methods.CreatePaymentMethod, api.CreatePaymentMethodRequest(payment_method=bank)),
            grpc.StatusCode.ALREADY_EXISTS,
            "PAYMENT_METHOD_ALREADY_EXISTS",
            "a second method of the same type and currency",
        )
        bank.bank_transfer.iban = "DE89370400440532013001"
        status = checks.refused(
            lambda: self.call(api.methods.CreatePaymentMethod, api.CreatePaymentMethodRequest(payment_method=bank)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "an IBAN with a wrong check digit",
        )
        checks.equal(violations(status), ["payment_method.bank_transfer.iban"], "the violation names the field")
        told = status.SerializeToString().decode("utf-8", "replace")
        checks.ok("370400440532" not in told, "an error never repeats a bank detail")

        payee = api.PaymentMethod(account_id=self.tipalti, currency_code="EUR", tipalti=api.Tipalti(payee_id=f"payee-{self.run}"))
        self.call(api.methods.CreatePaymentMethod, api.CreatePaymentMethodRequest(payment_method=payee))
        listed = self.call(api.methods.ListPaymentMethods, api.ListPaymentMethodsRequest(account_id=self.bank)).payment_methods
        checks.equal([method.id for method in listed], [created.id], "methods are listed by account")

    # -- entries and open balances ---------------------------------------------------------------------------------------

    def entry(self, number, account_id, amount, **fields):
        fields.setdefault("kind", self.api.ENTRY_KIND_COMMISSION)
        entry = self.api.Entry(
            source="python", external_id=f"{self.run}-{number}", account_id=account_id, money=self.api.Money(currency_code="EUR", amount=amount), **fields
        )
        entry.occur_time.FromJsonString("2026-01-05T10:00:00Z")
        return entry

    def entries(self):
        api, checks = self.api, self.checks
        entries = [
            self.entry(1, self.bank, "100.005"),
            self.entry(2, self.bank, "20.5"),
            self.entry(3, self.bank, "-0.5", kind=api.ENTRY_KIND_CLAWBACK, reverses_external_id=f"{self.run}-2"),
            self.entry(4, self.bank, "7", available_date="2099-01-01"),
            self.entry(5, self.tipalti, "30"),
            self.entry(6, self.nobody, "5"),
        ]
        request = api.PostEntriesRequest(entries=entries)
        posted = self.call(api.balances.PostEntries, request).results
        checks.equal([result.outcome for result in posted], [api.ENTRY_OUTCOME_POSTED] * 6, "entries are posted")
        again = self.call(api.balances.PostEntries, request).results
        checks.equal([result.outcome for result in again], [api.ENTRY_OUTCOME_ALREADY_POSTED] * 6, "posted again, they were there already")

        other = api.PostEntriesRequest(entries=[self.entry(1, self.bank, "100.01"), self.entry(7, self.bank, "0.001")])
        results = self.call(api.balances.PostEntries, other).results
        checks.equal(
            [(result.outcome, result.reason) for result in results],
            [(api.ENTRY_OUTCOME_REJECTED, "EXTERNAL_ID_CONFLICT"), (api.ENTRY_OUTCOME_POSTED, "")],
            "other content under a known id is rejected, and the rest posted",
        )
        chunks = [
            api.StreamEntriesRequest(chunk_id="a", entries=entries[:4]),
            api.StreamEntriesRequest(chunk_id="b", entries=[*entries[4:], self.entry(8, self.bank, "1,5")]),
        ]
        answers = list(self.call(api.balances.StreamEntries, iter(chunks)))
        checks.equal(
            [(answer.chunk_id, answer.posted_count, answer.already_posted_count) for answer in answers], [("a", 0, 4), ("b", 0, 2)], "a stream is answered chunk by chunk"
        )
        checks.equal(
            [(rejected.index, rejected.reason, rejected.field) for rejected in answers[1].rejected], [(2, "INVALID_ENTRY", "money.amount")], "it says which entry is malformed"
        )

    def open_balances(self):
        api = self.api
        request = api.ListOpenBalancesRequest(filter=api.BalanceFilter(account_ids=[self.bank, self.nobody, self.tipalti]))
        return {balance.account_id: balance for balance in self.call(api.balances.ListOpenBalances, request).open_balances}

    def balances(self):
        api, checks = self.api, self.checks
        balances = self.open_balances()
        bank = balances[self.bank]
        checks.equal((Decimal(bank.open.amount), Decimal(bank.pending.amount)), (Decimal("120.006"), Decimal(7)), "open and pending are exact")
        checks.equal((bank.payable, bank.payable_money.amount), (True, "120.00"), "what would be paid is rounded down to cents")
        checks.equal(
            (balances[self.nobody].payable, balances[self.nobody].not_payable_reason),
            (False, api.SETTLE_SKIP_REASON_NO_BILLING_DETAILS),
            "an account without billing details is not payable",
        )

    # -- settling --------------------------------------------------------------------------------------------------------

    def settle(self):
        api, checks = self.api, self.checks
        request = api.SettleBalancesRequest(
            request_id=new_id(),
            filter=api.BalanceFilter(account_ids=[self.bank, self.nobody, self.tipalti]),
            note=f"python {self.run}",
            expected_totals=[api.Money(currency_code="EUR", amount="150.00")],
        )
        rehearsal = api.SettleBalancesRequest()
        rehearsal.CopyFrom(request)
        rehearsal.validate_only = True
        rehearsed = self.call(api.balances.SettleBalances, rehearsal)
        checks.equal((rehearsed.settlement.id, rehearsed.settlement.totals[0].amount), ("", "150.00"), "validate_only says what would be paid")

        wrong = api.SettleBalancesRequest()
        wrong.CopyFrom(request)
        wrong.expected_totals[0].amount = "150.01"
        checks.refused(lambda: self.call(api.balances.SettleBalances, wrong), grpc.StatusCode.ABORTED, "EXPECTED_TOTALS_MISMATCH", "other totals than expected")

        first = self.call(api.balances.SettleBalances, request)
        second = self.call(api.balances.SettleBalances, request)
        checks.equal(second, first, "settled twice with one request id: the same answer")
        self.settlement_id = first.settlement.id
        checks.equal(first.settlement.account_settlement_count, 2, "two accounts are settled")
        checks.equal(
            [(skipped.account_id, skipped.reason) for skipped in first.skipped],
            [(self.nobody, api.SETTLE_SKIP_REASON_NO_BILLING_DETAILS)],
            "the third is skipped, with its reason",
        )
        nobody_meant = api.SettleBalancesRequest(request_id=new_id(), filter=api.BalanceFilter())
        checks.refused(
            lambda: self.call(api.balances.SettleBalances, nobody_meant), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "an empty filter without all_accounts"
        )

    def list_settled(self):
        api, checks = self.api, self.checks
        listed = self.call(api.settlements.ListSettlements, api.ListSettlementsRequest(page_size=1000)).settlements
        checks.ok(self.settlement_id in [settlement.id for settlement in listed], "the settlement is listed")

        rows, token = [], ""
        while True:
            request = api.ListAccountSettlementsRequest(settlement_id=self.settlement_id, page_size=1, page_token=token)
            page = self.call(api.settlements.ListAccountSettlements, request)
            rows += page.account_settlements
            token = page.next_page_token
            if not token:
                break
        checks.equal(sorted(row.account_id for row in rows), sorted([self.bank, self.tipalti]), "its rows are listed page by page")
        ids = {row.account_id: row.id for row in rows}
        self.bank_row, self.tipalti_row = ids[self.bank], ids[self.tipalti]

        request = api.GetAccountSettlementRequest(id=self.bank_row, view=api.VIEW_FULL)
        row = self.call(api.settlements.GetAccountSettlement, request).account_settlement
        checks.equal((row.money.currency_code, row.money.amount, row.status), ("EUR", "120.00", api.ACCOUNT_SETTLEMENT_STATUS_NEW), "a row is new, with its payout")
        checks.equal(row.payment_method.bank_transfer.iban, "DE89370400440532013000", "VIEW_FULL shows where the money goes")
        checks.equal(row.billing_details.company.legal_name, "Quellrieder Reisen GmbH", "and whose it is")
        self.row = row

    # -- statuses --------------------------------------------------------------------------------------------------------

    def update_status(self, **fields):
        return self.call(self.api.settlements.UpdateAccountSettlementStatus, self.api.UpdateAccountSettlementStatusRequest(**fields)).account_settlement

    def single_status(self):
        api, checks = self.api, self.checks
        started = self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_IN_PROGRESS, etag=self.row.etag, request_id=new_id())
        checks.equal(started.status, api.ACCOUNT_SETTLEMENT_STATUS_IN_PROGRESS, "a row is set in progress")
        same = self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_IN_PROGRESS)
        checks.equal(same, started, "set to the status that it has, nothing changes")
        status = checks.refused(
            lambda: self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_ERROR), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "ERROR by hand"
        )
        checks.equal(violations(status), ["status"], "the violation names the status")
        checks.refused(
            lambda: self.update_status(id=self.tipalti_row, status=api.ACCOUNT_SETTLEMENT_STATUS_PAID),
            grpc.StatusCode.FAILED_PRECONDITION,
            "PROVIDER_MANAGED",
            "a row that Tipalti manages",
        )
        checks.refused(
            lambda: self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_PAID, expected_status=api.ACCOUNT_SETTLEMENT_STATUS_NEW),
            grpc.StatusCode.ABORTED,
            "UNEXPECTED_STATUS",
            "another status than expected",
        )

    def bulk_status(self):
        api, checks = self.api, self.checks
        unknown = new_id()
        paid = api.BulkUpdateAccountSettlementStatusRequest(
            chunk_id="paid",
            target_status=api.ACCOUNT_SETTLEMENT_STATUS_PAID,
            request_id=new_id(),
            items=[api.StatusUpdateItem(id=id, payment_reference="bank-1") for id in [self.bank_row, self.bank_row, self.tipalti_row, unknown, "no-id"]],
        )
        back = api.BulkUpdateAccountSettlementStatusRequest(
            chunk_id="back", target_status=api.ACCOUNT_SETTLEMENT_STATUS_NEW, account_settlement_ids=[self.bank_row]
        )
        answers = list(self.call(api.settlements.BulkUpdateAccountSettlementStatus, iter([paid, back, paid])))
        checks.equal([answer.chunk_id for answer in answers], ["paid", "back", "paid"], "bulk chunks are answered in order")
        checks.equal((answers[0].updated_count, list(answers[0].updated_ids)), (1, [self.bank_row]), "a row is marked paid in bulk")
        checks.equal(
            [(skipped.id, skipped.reason) for skipped in answers[0].skipped],
            [
                (self.bank_row, api.STATUS_SKIP_REASON_DUPLICATE_ID),
                (self.tipalti_row, api.STATUS_SKIP_REASON_PROVIDER_MANAGED),
                (unknown, api.STATUS_SKIP_REASON_NOT_FOUND),
                ("no-id", api.STATUS_SKIP_REASON_MALFORMED_ID),
            ],
            "all others are skipped, each with its reason",
        )
        checks.equal(
            [(skipped.reason, skipped.current_status) for skipped in answers[1].skipped],
            [(api.STATUS_SKIP_REASON_REASON_REQUIRED, api.ACCOUNT_SETTLEMENT_STATUS_PAID)],
            "leaving PAID without a reason is skipped",
        )
        checks.equal(answers[2], answers[0], "a chunk with the same request id is answered the same")

        error = api.BulkUpdateAccountSettlementStatusRequest(target_status=api.ACCOUNT_SETTLEMENT_STATUS_ERROR, account_settlement_ids=[self.bank_row])
        checks.refused(
            lambda: list(self.call(api.settlements.BulkUpdateAccountSettlementStatus, iter([error]))), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "ERROR in bulk"
        )
        row = self.call(api.settlements.GetAccountSettlement, api.GetAccountSettlementRequest(id=self.bank_row)).account_settlement
        checks.equal((row.status, row.payment_reference), (api.ACCOUNT_SETTLEMENT_STATUS_PAID, "bank-1"), "the row is paid, with its reference")
        checks.ok("3704" not in row.payment_method.bank_transfer.iban, "and masked by default")

    # -- and back --------------------------------------------------------------------------------------------------------

    def delete(self):
        api, checks = self.api, self.checks
        delete = api.DeleteAccountSettlementRequest(id=self.bank_row)
        checks.refused(
            lambda: self.call(api.settlements.DeleteAccountSettlement, delete),
            grpc.StatusCode.FAILED_PRECONDITION,
            "ACCOUNT_SETTLEMENT_NOT_DELETABLE",
            "deleting what is paid",
        )
        checks.refused(
            lambda: self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_NEW),
            grpc.StatusCode.INVALID_ARGUMENT,
            "REASON_REQUIRED",
            "leaving PAID without a reason",
        )
        back = self.update_status(id=self.bank_row, status=api.ACCOUNT_SETTLEMENT_STATUS_NEW, reason="returned by the bank")
        checks.equal(back.status, api.ACCOUNT_SETTLEMENT_STATUS_NEW, "with a reason it is set back")
        changes = self.call(api.settlements.ListStatusChanges, api.ListStatusChangesRequest(account_settlement_id=self.bank_row)).status_changes
        checks.equal(
            [change.to_status for change in changes],
            [
                api.ACCOUNT_SETTLEMENT_STATUS_NEW,
                api.ACCOUNT_SETTLEMENT_STATUS_IN_PROGRESS,
                api.ACCOUNT_SETTLEMENT_STATUS_PAID,
                api.ACCOUNT_SETTLEMENT_STATUS_NEW,
            ],
            "the history has every change",
        )
        checks.equal(changes[-1].reason, "returned by the bank", "and its reason")

        deleted = self.call(api.settlements.DeleteAccountSettlement, delete).account_settlement
        checks.ok(deleted.HasField("delete_time"), "a new row is deleted")
        checks.refused(
            lambda: self.call(api.settlements.DeleteAccountSettlement, delete), grpc.StatusCode.NOT_FOUND, "ACCOUNT_SETTLEMENT_NOT_FOUND", "deleting it again"
        )
        balance = self.open_balances()[self.bank]
        checks.equal(Decimal(balance.open.amount), Decimal("120.006"), "its money is open again, to the last fraction")
        settlement = self.call(api.settlements.GetSettlement, api.GetSettlementRequest(id=self.settlement_id)).settlement
        checks.equal((settlement.account_settlement_count, settlement.totals[0].amount), (1, "30.00"), "the settlement counts what is left")


def health_and_reflection(channel, checks):
    health = health_pb2_grpc.HealthStub(channel)
    for name in ["", *(f"{PACKAGE}.{service}" for service in SERVICES)]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_SECONDS)
        checks.equal(answer.status, health_pb2.HealthCheckResponse.SERVING, f"healthy: `{name}`")
    try:
        health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=DEADLINE_SECONDS)
        raise AssertionError("an unknown service is healthy")
    except grpc.RpcError as error:
        checks.equal(error.code(), grpc.StatusCode.NOT_FOUND, "health of an unknown service is NOT_FOUND")

    # grpcio's own client speaks v1alpha only; v1 is checked by the buf script.
    listed = ProtoReflectionDescriptorDatabase(channel).get_services()
    for service in SERVICES:
        checks.ok(f"{PACKAGE}.{service}" in listed, f"reflection lists {service}", listed)


def wait_for_server(channel, address):
    try:
        grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS)
    except grpc.FutureTimeoutError:
        raise SystemExit(f"no gRPC server answers at {address}") from None


def main(arguments):
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    proto_dir, address = arguments
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder, grpc.insecure_channel(address) as channel:
        generate(proto_dir, folder)
        wait_for_server(channel, address)
        health_and_reflection(channel, checks)
        flow = Flow(Api(channel), checks)
        for step in [
            flow.billing_details,
            flow.payment_methods,
            flow.entries,
            flow.balances,
            flow.settle,
            flow.list_settled,
            flow.single_status,
            flow.bulk_status,
            flow.delete,
        ]:
            step()
    print(f"{checks.passed} passed, 0 failed")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AssertionError as failure:
        print(f"not ok - {failure}")
        sys.exit(1)
    except grpc.RpcError as failure:
        print(f"not ok - unexpected {failure.code().name}: {failure.details()}")
        sys.exit(1)
