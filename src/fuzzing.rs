//! What is fed with anything: each target takes any bytes, must not panic, and checks what must hold of whatever came.
//!
//! `fuzz/` runs them under libFuzzer; the tests below run them on the seeds in `fuzz/seeds/`, and on changes of those, so that
//! they stay true. `CONTRIBUTING.md` says how.

use std::sync::LazyLock;

use prost::{Message, Name};

use crate::authentication::{Rules, identities, json_web_tokens::JsonWebTokens};
use crate::billing::page::{self, PageRequest};
use crate::domain::error::Error;
use crate::domain::iban::Iban;
use crate::domain::money::{Amount, MAX_SIDE_UNITS};
use crate::domain::permissions::{Identity, Permissions, Role};
use crate::domain::region::Region;
use crate::domain::sensitive::Sensitive;
use crate::domain::tax_id::{TaxId, VatId};
use crate::grpc::{codec, convert, status};
use crate::payout::tipalti::webhook;
use crate::proto;
use crate::store::hashing::HashKeys;

/// Bytes that an error may have on the wire: it goes in headers.
const MAX_ERROR_BYTES: usize = 8 * 1024;
const PUBLIC_KEYS: &[u8] = include_bytes!("../fuzz/seeds/json_web_token_keys/ed25519");

/// A target with the name of its file in `fuzz/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("requests", requests),
    ("money", money),
    ("iban", iban),
    ("tax_id", tax_id),
    ("page_token", page_token),
    ("json_web_token", json_web_token),
    ("json_web_token_keys", json_web_token_keys),
    ("webhook", webhook),
    ("identities", identities),
];

/// The first byte says which request, the others are the message: from bytes over the limit on items, decoding and conversion to
/// the domain's checks, and the status of what they refuse.
pub fn requests(bytes: &[u8]) {
    use convert::{
        balances, billing_details, payment_method_types, payment_methods, settle_balances, settlements, tipalti,
    };
    let Some((which, message)) = bytes.split_first() else {
        return;
    };
    let permissions = Permissions {
        roles: Role::ALL.to_vec(),
        may_unmask: true,
    };
    let Ok(caller) = Identity::new("fuzzing", permissions) else {
        return;
    };
    let who = &caller;
    macro_rules! one_of {
        ($($number:literal => $message:ident, $convert:expr;)*) => {
            match which {
                $($number => request::<proto::$message, _>(message, $convert),)*
                _ => {}
            }
        };
    }
    one_of! {
        0 => PostEntriesRequest, |message| balances::post_entries(who, message);
        1 => StreamEntriesRequest, |message| balances::stream_entries(who, message);
        2 => ListEntriesRequest, balances::list_entries;
        3 => ListOpenBalancesRequest, balances::list_open_balances;
        4 => SummarizeOpenBalancesRequest, balances::summarize_open_balances;
        5 => HoldPayoutsRequest, |message| balances::hold_payouts(who, message);
        6 => ReleasePayoutsRequest, |message| balances::release_payouts(who, message);
        7 => ListPayoutHoldsRequest, balances::list_payout_holds;
        8 => SettleBalancesRequest, |message| settle_balances::settle(who, message);
        9 => CreateBillingDetailsRequest, |message| billing_details::create(who, message);
        10 => UpdateBillingDetailsRequest, |message| billing_details::update(who, message);
        11 => DeleteBillingDetailsRequest, |message| billing_details::delete(who, message);
        12 => ImportBillingDetailsRequest, |message| billing_details::import(who, message);
        13 => GetBillingDetailsRequest, |message| billing_details::get(&message);
        14 => ListBillingDetailsRequest, billing_details::list;
        15 => CreatePaymentMethodTypeRequest, |message| payment_method_types::create(who, message);
        16 => UpdatePaymentMethodTypeRequest, |message| payment_method_types::update(who, message);
        17 => ListPaymentMethodTypesRequest, payment_method_types::list;
        18 => CreatePaymentMethodRequest, |message| payment_methods::create(who, message);
        19 => UpdatePaymentMethodRequest, |message| payment_methods::update(who, message);
        20 => DeletePaymentMethodRequest, |message| payment_methods::delete(who, message);
        21 => ImportPaymentMethodsRequest, |message| payment_methods::import(who, message);
        22 => GetPaymentMethodRequest, |message| payment_methods::get(who, &message);
        23 => ListPaymentMethodsRequest, |message| payment_methods::list(who, message);
        24 => GetSettlementRequest, |message| settlements::get_settlement(&message);
        25 => ListSettlementsRequest, settlements::list_settlements;
        26 => DeleteSettlementRequest, |message| settlements::delete_settlement(who, message);
        27 => ListSkippedAccountsRequest, settlements::list_skipped;
        28 => GetAccountSettlementRequest, |message| settlements::get_account_settlement(who, &message);
        29 => ListAccountSettlementsRequest, |message| settlements::list_account_settlements(who, message);
        30 => UpdateAccountSettlementStatusRequest, |message| settlements::update_status(who, message);
        31 => BulkUpdateAccountSettlementStatusRequest, |message| settlements::bulk_update(who, message);
        32 => BulkUpdateSettlementStatusRequest, |message| settlements::update_settlement(who, message);
        33 => DeleteAccountSettlementRequest, |message| settlements::delete_account_settlement(who, message);
        34 => ListStatusChangesRequest, settlements::list_status_changes;
        35 => SubmitSettlementRequest, |message| tipalti::submit(who, &message);
        36 => SyncSettlementRequest, |message| tipalti::sync(who, &message);
        37 => ListTipaltiEventsRequest, tipalti::list_events;
        38 => ListPayoutAlarmsRequest, tipalti::list_alarms;
        39 => ApproveSettlementRequest, |message| settlements::approve_settlement(who, message);
    }
}

fn request<M: Message + Default + Name, T>(bytes: &[u8], convert: impl FnOnce(M) -> Result<T, Error>) {
    if !codec::within_limit::<M>(bytes) {
        return;
    }
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    if let Err(error) = convert(message) {
        let status = status::from_error(error);
        let length = status.message().len() + status.details().len();
        assert!(length <= MAX_ERROR_BYTES, "an error of {length} bytes: {status:?}");
    }
}

/// An amount that can be kept means the same after it was written and read again.
pub fn money(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(amount) = Amount::parse(text)
        && amount.magnitude() <= Amount::from_units(MAX_SIDE_UNITS)
    {
        for decimals in [0, 2, 6] {
            assert_eq!(Amount::parse(&amount.to_text(decimals)), Ok(amount), "{text}");
        }
        if let Ok(micros) = amount.to_micros() {
            assert_eq!(Amount::from_micros(i128::from(micros)).ok(), Some(amount), "{text}");
        }
        assert_eq!(amount.negated().negated(), amount);
    }
}

/// What is an IBAN is one in its normal form too.
pub fn iban(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(iban) = Iban::parse(text) {
        let again = Iban::parse(iban.as_str());
        assert_eq!(again.as_ref().map(Iban::as_str), Ok(iban.as_str()));
    }
}

/// The first two bytes are the region.
pub fn tax_id(bytes: &[u8]) {
    let Some((region, text)) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.split_at_checked(2))
    else {
        return;
    };
    if let Ok(id) = TaxId::parse(text) {
        let again = TaxId::parse(id.as_str());
        assert_eq!(again.as_ref().map(TaxId::as_str), Ok(id.as_str()));
    }
    if let Ok(region) = Region::parse(region)
        && let Ok(id) = VatId::parse(text, region)
    {
        let again = VatId::parse(id.as_str(), region);
        assert_eq!(again.as_ref().map(VatId::as_str), Ok(id.as_str()));
    }
}

/// No token counts but those that were given out, and these are for one list and filter.
pub fn page_token(bytes: &[u8]) {
    let Ok(token) = String::from_utf8(bytes.to_vec()) else {
        return;
    };
    let keys = HashKeys::of_nobody();
    let page = PageRequest { size: 1, token };
    let read = page::read_token::<String>(&keys, "list", &"filter", &page);
    if let Ok(Some(after)) = read {
        assert_eq!(
            page::token_after(&keys, "list", &"filter", after).ok(),
            Some(page.token)
        );
    }
}

/// None of them was signed by the key, so none counts, and what is told holds nothing of it.
pub fn json_web_token(bytes: &[u8]) {
    static KEYS: LazyLock<Option<JsonWebTokens>> =
        LazyLock::new(|| JsonWebTokens::parse(rules(), &[PUBLIC_KEYS.to_vec()]).ok());
    let (Ok(text), Some(keys)) = (std::str::from_utf8(bytes), KEYS.as_ref()) else {
        return;
    };
    let checked = keys.check(text);
    assert!(checked.is_err(), "a token that nobody signed counts");
    if let (Err(problem), true) = (checked, text.len() >= 16) {
        assert!(!problem.contains(text), "the token is told");
    }
}

fn rules() -> Rules {
    Rules {
        audience: "billing".to_owned(),
        issuer: None,
        roles_claim: "roles".to_owned(),
    }
}

/// The file of keys.
pub fn json_web_token_keys(bytes: &[u8]) {
    let _ = JsonWebTokens::parse(rules(), &[bytes.to_vec()]);
}

/// The first line is the signature, the others are the body. No signature counts, and what is kept of a body is the same event.
pub fn webhook(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let header = parts.next().and_then(|line| std::str::from_utf8(line).ok());
    let body = parts.next().unwrap_or_default();
    let secrets = ["one", "another"].map(Sensitive::new);
    let verified = webhook::verify_signature(header.unwrap_or_default(), &secrets, body, 1_700_000_000);
    assert!(verified.is_err(), "a signature that nobody made counts");
    if let Ok(event) = webhook::parse_event(body) {
        let kept = webhook::redact(body);
        assert_eq!(webhook::parse_event(kept.as_bytes()), Ok(event), "{kept}");
        assert_eq!(webhook::redact(kept.as_bytes()), kept);
    }
}

/// The identities file: what is told of one that is wrong holds no hash.
pub fn identities(bytes: &[u8]) {
    if let Err(problem) = identities::parse(&[bytes.to_vec()]) {
        let hexadecimal = |text: &str| text.bytes().filter(u8::is_ascii_hexdigit).count();
        let words = problem.split(|character: char| !character.is_ascii_alphanumeric());
        let longest = words.map(hexadecimal).max().unwrap_or_default();
        // A name may look like anything.
        assert!(longest < 64 || std::str::from_utf8(bytes).is_ok_and(|text| text.contains("name")));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::TestRunner;

    use super::*;

    /// Changed inputs of each target.
    const ROUNDS: u32 = 2000;

    /// What is done to a seed.
    #[derive(Debug, Clone)]
    enum Change {
        Set(Index, u8),
        Flip(Index, u8),
        Insert(Index, Vec<u8>),
        Remove(Index, u8),
        Repeat(Index, u8, u8),
        Cut(Index),
        Append(Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        let place = any::<Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
            (place(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
            (place(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            (place(), 1..16_u8).prop_map(|(at, count)| Change::Remove(at, count)),
            (place(), 1..16_u8, 1..64_u8).prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
            place().prop_map(Change::Cut),
            place().prop_map(Change::Append),
        ]
    }

    fn changed(seeds: &[Vec<u8>], seed: &Index, changes: &[Change]) -> Vec<u8> {
        let mut bytes = seed.get(seeds).clone();
        for change in changes {
            let length = bytes.len();
            let at = |place: &Index| place.index(length + 1);
            match change {
                Change::Set(place, value) if length > 0 => bytes[place.index(length)] = *value,
                Change::Flip(place, bit) if length > 0 => bytes[place.index(length)] ^= 1 << bit,
                Change::Set(..) | Change::Flip(..) => {}
                Change::Insert(place, new) => {
                    bytes.splice(at(place)..at(place), new.iter().copied());
                }
                Change::Remove(place, count) => {
                    let end = (at(place) + usize::from(*count)).min(length);
                    bytes.drain(at(place)..end);
                }
                Change::Repeat(place, count, times) => {
                    let end = (at(place) + usize::from(*count)).min(length);
                    let again = bytes[at(place)..end].repeat(usize::from(*times));
                    bytes.splice(end..end, again);
                }
                Change::Cut(place) => bytes.truncate(at(place)),
                Change::Append(place) => bytes.extend(place.get(seeds).clone()),
            }
        }
        bytes
    }

    #[test]
    fn targets_hold_on_their_seeds_and_on_changes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in TARGETS {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "{name} is not in fuzz/"
            );
            let files = fs::read_dir(folder.join("seeds").join(name)).unwrap();
            let seeds: Vec<Vec<u8>> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in &seeds {
                target(seed);
            }
            // A failure shows the smallest input that it was found to have.
            let config = ProptestConfig {
                cases: ROUNDS,
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            let strategy = (any::<Index>(), vec(change(), 1..8)).prop_map({
                let seeds = seeds.clone();
                move |(seed, changes)| changed(&seeds, &seed, &changes)
            });
            let outcome = TestRunner::new(config).run(&strategy, |bytes| {
                target(&bytes);
                Ok(())
            });
            if let Err(failure) = outcome {
                panic!("{name}: {failure}");
            }
        }
    }
}
