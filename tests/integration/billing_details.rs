//! Billing details: create, get, list, update, delete, and what is refused.

use affiliate_billing::proto;
use affiliate_billing::proto::billing_details::Party;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::app::App;
use crate::support::fixtures::{bank_method, billing_details, entry};
use crate::support::harness::scenarios;
use crate::support::wire::assert_refused;

scenarios![
    details_of_a_company_come_back_as_they_were_given,
    details_of_an_individual_come_back_normalised,
    each_mask_path_changes_its_field_alone,
    clearing_takes_optional_fields_away_and_is_refused_for_required_ones,
    a_star_replaces_everything,
    an_empty_mask_changes_what_is_set,
    a_mask_with_an_unknown_path_is_refused,
    a_company_becomes_an_individual_and_back,
    a_region_that_the_vat_id_does_not_fit_is_refused,
    vat_ids_are_checked_by_the_rules_of_their_country,
    details_without_tax_id_and_vat_id_are_refused,
    every_wrong_field_is_named,
    a_second_record_of_an_account_is_refused,
    an_old_etag_is_refused,
    a_deleted_record_is_gone_and_settling_skips_the_account,
    lists_go_through_all_records_page_by_page,
    no_error_shows_personal_data,
];

async fn details_of_a_company_come_back_as_they_were_given(app: App) {
    let given = company("aff-1");
    let created = create(&app, given.clone()).await.unwrap();
    assert_eq!(without_output(created.clone()), given);
    assert!(!created.etag.is_empty());
    assert_eq!(created.create_time, created.update_time);
    assert!(created.create_time.is_some());
    assert_eq!(get(&app, "aff-1").await.unwrap(), created);
}

async fn details_of_an_individual_come_back_normalised(app: App) {
    let mut given = billing_details("aff-1");
    given.vat_id = "de 136.695-976".to_owned();
    given.tax_id = "  12/345/678 ".to_owned();
    given.email = "ada@example.com".to_owned();
    let created = create(&app, given.clone()).await.unwrap();
    assert_eq!(created.vat_id, "DE136695976");
    assert_eq!(created.tax_id, "12/345/678");
    assert_eq!(created.email, given.email);
    assert!(created.party == given.party);
    assert_eq!(get(&app, "aff-1").await.unwrap(), created);
}

async fn each_mask_path_changes_its_field_alone(app: App) {
    let mut companies = company("company");
    let mut other = company("company");
    other.party = company_party("Byron & Sons", "HRB 2");
    other.tax_id = "87654321".to_owned();
    other.vat_id = "DE136695976".to_owned();
    other.email = "other@example.com".to_owned();
    other.address = Some(proto::Address {
        region_code: "AT".to_owned(),
        postal_code: "1010".to_owned(),
        administrative_area: "Wien".to_owned(),
        locality: "Vienna".to_owned(),
        address_lines: vec!["Ring 1".to_owned(), "Top 2".to_owned()],
    });
    companies.vat_id = String::new();
    create(&app, companies.clone()).await.unwrap();
    let new = other.address.clone().unwrap();
    type Change = (&'static str, Box<dyn Fn(&mut proto::BillingDetails)>);
    let changes: Vec<Change> = vec![
        (
            "company.legal_name",
            Box::new(|d| d.party = company_party("Byron & Sons", "HRB 1")),
        ),
        (
            "company.registration_number",
            Box::new(|d| d.party = company_party("Byron & Sons", "HRB 2")),
        ),
        ("tax_id", Box::new(|d| d.tax_id = "87654321".to_owned())),
        ("vat_id", Box::new(|d| d.vat_id = "DE136695976".to_owned())),
        ("email", Box::new(|d| d.email = "other@example.com".to_owned())),
        (
            "address.postal_code",
            Box::new(|d| address(d).postal_code = "1010".to_owned()),
        ),
        (
            "address.administrative_area",
            Box::new(|d| address(d).administrative_area = "Wien".to_owned()),
        ),
        (
            "address.locality",
            Box::new(|d| address(d).locality = "Vienna".to_owned()),
        ),
        (
            "address.address_lines",
            Box::new(move |d| address(d).address_lines = new.address_lines.clone()),
        ),
    ];
    let mut expected = companies;
    for (path, change) in changes {
        change(&mut expected);
        let updated = update(&app, other.clone(), &[path]).await.unwrap();
        assert_eq!(without_output(updated), expected, "{path}");
    }
    // The region once the VAT id no longer stands against it.
    expected.vat_id = String::new();
    address(&mut expected).region_code = "AT".to_owned();
    other.vat_id = String::new();
    let updated = update(&app, other.clone(), &["vat_id", "address.region_code"])
        .await
        .unwrap();
    assert_eq!(without_output(updated), expected);

    create(&app, billing_details("person")).await.unwrap();
    for (path, given, family) in [
        ("individual.given_name", "Grace", "Byron"),
        ("individual.family_name", "Grace", "Hopper"),
    ] {
        let mut hopper = billing_details("person");
        hopper.party = individual_party("Grace", "Hopper");
        let updated = update(&app, hopper, &[path]).await.unwrap();
        assert!(updated.party == individual_party(given, family), "{path}");
    }
    let mut moved = billing_details("person");
    moved.address = other.address.clone();
    let updated = update(&app, moved.clone(), &["address"]).await.unwrap();
    assert_eq!(updated.address, moved.address);
}

async fn clearing_takes_optional_fields_away_and_is_refused_for_required_ones(app: App) {
    let created = create(&app, company("aff-1")).await.unwrap();
    let empty = proto::BillingDetails {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let paths = [
        "email",
        "address.postal_code",
        "address.administrative_area",
        "company.registration_number",
    ];
    let mut named = company("aff-1");
    named.party = company_party("Byron Ltd", "");
    named.address = Some(proto::Address::default());
    named.email = String::new();
    let updated = update(&app, named, &paths).await.unwrap();
    assert_eq!(updated.email, "");
    assert!(updated.party == company_party("Byron Ltd", ""));
    assert_eq!(updated.address.clone().unwrap().postal_code, "");
    assert_eq!(updated.address.clone().unwrap().administrative_area, "");
    assert_eq!(updated.tax_id, created.tax_id);

    let updated = update(&app, empty.clone(), &["vat_id"]).await.unwrap();
    assert_eq!(updated.vat_id, "");
    for (path, field) in [
        ("tax_id", "billing_details.tax_id"),
        ("company", "billing_details.party"),
        ("company.legal_name", "billing_details.company.legal_name"),
        ("address", "billing_details.address"),
        ("address.region_code", "billing_details.address.region_code"),
        ("address.locality", "billing_details.address.locality"),
        ("address.address_lines", "billing_details.address.address_lines"),
    ] {
        let status = update(&app, empty.clone(), &[path]).await.unwrap_err();
        assert_eq!(invalid(&status), [field], "{path}");
    }
    assert_eq!(get(&app, "aff-1").await.unwrap(), updated);
}

async fn a_star_replaces_everything(app: App) {
    create(&app, company("aff-1")).await.unwrap();
    let person = billing_details("aff-1");
    let updated = update(&app, person.clone(), &["*"]).await.unwrap();
    assert_eq!(without_output(updated), person);
    // Beside another path it is no path.
    let status = update(&app, person, &["*", "email"]).await.unwrap_err();
    assert_eq!(invalid(&status), ["update_mask"]);
}

async fn an_empty_mask_changes_what_is_set(app: App) {
    let created = create(&app, company("aff-1")).await.unwrap();
    let given = proto::BillingDetails {
        account_id: "aff-1".to_owned(),
        email: "new@example.com".to_owned(),
        ..Default::default()
    };
    let updated = update(&app, given.clone(), &[]).await.unwrap();
    let mut expected = without_output(created);
    expected.email = "new@example.com".to_owned();
    assert_eq!(without_output(updated), expected);

    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(given),
        update_mask: None,
        ..Default::default()
    };
    let answer = app.billing_details().update_billing_details(request).await.unwrap();
    assert_eq!(without_output(answer.into_inner().billing_details.unwrap()), expected);

    let nothing = proto::BillingDetails {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let status = update(&app, nothing, &[]).await.unwrap_err();
    assert_eq!(invalid(&status), ["update_mask"]);
}

async fn a_mask_with_an_unknown_path_is_refused(app: App) {
    let created = create(&app, company("aff-1")).await.unwrap();
    for path in [
        "",
        "etag",
        "account_id",
        "create_time",
        "party",
        "Email",
        "address.",
        "address.region_code.x",
        " email",
    ] {
        let mut given = company("aff-1");
        given.email = "new@example.com".to_owned();
        let status = update(&app, given, &["email", path]).await.unwrap_err();
        assert_eq!(invalid(&status), ["update_mask"], "{path}");
    }
    assert_eq!(get(&app, "aff-1").await.unwrap(), created);
}

async fn a_company_becomes_an_individual_and_back(app: App) {
    let first = company("aff-1");
    create(&app, first.clone()).await.unwrap();
    let mut person = first.clone();
    person.party = individual_party("Ada", "Byron");
    let updated = update(&app, person.clone(), &["individual"]).await.unwrap();
    assert_eq!(without_output(updated), person);
    let updated = update(&app, first.clone(), &["company"]).await.unwrap();
    assert_eq!(without_output(updated), first);
    // A part of the other kind alone makes no whole one.
    let status = update(&app, person.clone(), &["individual.given_name"])
        .await
        .unwrap_err();
    assert_eq!(invalid(&status), ["billing_details.individual.family_name"]);
    let both = ["individual.given_name", "individual.family_name"];
    let updated = update(&app, person.clone(), &both).await.unwrap();
    assert_eq!(without_output(updated), person);
}

async fn a_region_that_the_vat_id_does_not_fit_is_refused(app: App) {
    let created = create(&app, company("aff-1")).await.unwrap();
    let mut moved = company("aff-1");
    address(&mut moved).region_code = "AT".to_owned();
    let status = update(&app, moved.clone(), &["address.region_code"]).await.unwrap_err();
    assert_eq!(invalid(&status), ["billing_details.vat_id"]);
    assert_eq!(get(&app, "aff-1").await.unwrap(), created);
    moved.vat_id = "ATU13585627".to_owned();
    let updated = update(&app, moved, &["address.region_code", "vat_id"]).await.unwrap();
    assert_eq!(updated.vat_id, "ATU13585627");
}

async fn vat_ids_are_checked_by_the_rules_of_their_country(app: App) {
    let good = [
        ("AT", "ATU13585627"),
        ("BE", "be 0403.019.261"),
        ("DE", "DE136695976"),
        ("ES", "ESB58378431"),
        ("FR", "FR40303265045"),
        ("GB", "GB980780684"),
        ("GB", "XI980780684"),
        ("GR", "EL094259216"),
        ("IE", "IE6433435OA"),
        ("IT", "IT00743110157"),
        ("NL", "NL004495445B01"),
        ("PL", "PL8567346215"),
        ("SE", "SE123456789701"),
        ("NO", "NO123456789MVA"),
        ("US", "12-3456789"),
    ];
    for (index, (region, vat_id)) in good.into_iter().enumerate() {
        let details = with_vat_id(&format!("good-{index}"), region, vat_id);
        let created = create(&app, details)
            .await
            .unwrap_or_else(|status| panic!("{vat_id}: {status}"));
        let normal: String = vat_id.chars().filter(char::is_ascii_alphanumeric).collect();
        assert_eq!(created.vat_id, normal.to_uppercase());
    }
    let bad = [
        ("GR", "GR094259216"),
        ("DE", "EL094259216"),
        ("IE", "XI980780684"),
        ("GB", "DE136695976"),
        ("DE", "136695976"),
        ("DE", "DE136695977"),
        ("DE", "DE13669597"),
        ("FR", "FR41303265045"),
        ("US", "DE136695976"),
        ("US", "*"),
        ("DE", "****5976"),
        ("DE", "DE١٣٦٦٩٥٩٧٦"),
    ];
    for (region, vat_id) in bad {
        let status = create(&app, with_vat_id("bad", region, vat_id)).await.unwrap_err();
        assert_eq!(invalid(&status), ["billing_details.vat_id"], "{region} {vat_id}");
    }
    assert_not_found(&get(&app, "bad").await.unwrap_err());
}

async fn details_without_tax_id_and_vat_id_are_refused(app: App) {
    let mut details = company("aff-1");
    details.tax_id = String::new();
    create(&app, details.clone()).await.unwrap();
    details.vat_id = String::new();
    let status = update(&app, details.clone(), &["vat_id"]).await.unwrap_err();
    assert_eq!(invalid(&status), ["billing_details.tax_id"]);
    details.account_id = "aff-2".to_owned();
    let status = create(&app, details).await.unwrap_err();
    assert_eq!(invalid(&status), ["billing_details.tax_id"]);
}

async fn every_wrong_field_is_named(app: App) {
    let details = proto::BillingDetails {
        account_id: "two words".to_owned(),
        party: company_party(" ", &"1".repeat(65)),
        tax_id: "1".to_owned(),
        vat_id: "DE1".to_owned(),
        address: Some(proto::Address {
            region_code: "EL".to_owned(),
            postal_code: "1".repeat(21),
            administrative_area: "a".repeat(101),
            locality: "\u{7}".to_owned(),
            address_lines: vec![String::new(), "a".repeat(201)],
        }),
        email: "ada@".to_owned(),
        ..Default::default()
    };
    let status = create(&app, details.clone()).await.unwrap_err();
    let mut expected = vec![
        "billing_details.account_id",
        "billing_details.company.legal_name",
        "billing_details.company.registration_number",
        "billing_details.address.region_code",
        "billing_details.address.postal_code",
        "billing_details.address.administrative_area",
        "billing_details.address.locality",
        "billing_details.address.address_lines[0]",
        "billing_details.address.address_lines[1]",
        "billing_details.tax_id",
        "billing_details.email",
    ];
    assert_eq!(invalid(&status), expected);
    let mut lines = details;
    address(&mut lines).region_code = "DE".to_owned();
    address(&mut lines).address_lines = vec!["line".to_owned(); 6];
    expected.retain(|field| !field.contains("address_lines") && !field.contains("region_code"));
    expected.insert(6, "billing_details.address.address_lines");
    expected.insert(8, "billing_details.vat_id");
    assert_eq!(invalid(&create(&app, lines).await.unwrap_err()), expected);
}

async fn a_second_record_of_an_account_is_refused(app: App) {
    let created = create(&app, company("aff-1")).await.unwrap();
    let status = create(&app, billing_details("aff-1")).await.unwrap_err();
    assert_refused(&status, Code::AlreadyExists, "BILLING_DETAILS_ALREADY_EXIST");
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "aff-1");
    assert_eq!(get(&app, "aff-1").await.unwrap(), created);
    // Account ids are opaque: another case is another account.
    create(&app, billing_details("AFF-1")).await.unwrap();
}

async fn an_old_etag_is_refused(app: App) {
    let first = create(&app, company("aff-1")).await.unwrap();
    let mut given = company("aff-1");
    given.email = "new@example.com".to_owned();
    given.etag = first.etag.clone();
    let second = update(&app, given.clone(), &["email"]).await.unwrap();
    assert_ne!(second.etag, first.etag);
    let status = update(&app, given.clone(), &["email"]).await.unwrap_err();
    assert_refused(&status, Code::Aborted, "ETAG_MISMATCH");
    let status = delete(&app, "aff-1", &first.etag).await.unwrap_err();
    assert_refused(&status, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(get(&app, "aff-1").await.unwrap(), second);
    // Without one nothing is compared.
    given.etag = String::new();
    let third = update(&app, given, &["email"]).await.unwrap();
    delete(&app, "aff-1", &third.etag).await.unwrap();
}

async fn a_deleted_record_is_gone_and_settling_skips_the_account(app: App) {
    create(&app, company("aff-1")).await.unwrap();
    app.with_method(bank_method("aff-1", "EUR")).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let settled = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(settled.account_settlement_count, 1);
    delete(&app, "aff-1", "").await.unwrap();

    assert_not_found(&get(&app, "aff-1").await.unwrap_err());
    assert_not_found(&update(&app, company("aff-1"), &["email"]).await.unwrap_err());
    assert_not_found(&delete(&app, "aff-1", "").await.unwrap_err());
    // The snapshot of what was settled before stays.
    let row = app.rows_of(&settled.id).await.remove(0);
    assert!(row.billing_details.unwrap().party == company("aff-1").party);

    app.post(vec![entry("order-2", "aff-1", "10", "EUR")]).await;
    let skipped = app.settle(&["aff-1"]).await;
    assert_eq!(skipped.settlement.unwrap().account_settlement_count, 0);
    assert_eq!(skipped.skipped[0].reason(), proto::SettleSkipReason::NoBillingDetails);
    create(&app, billing_details("aff-1")).await.unwrap();
    let again = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(again.account_settlement_count, 1);
}

async fn lists_go_through_all_records_page_by_page(app: App) {
    assert_eq!(pages(&app, 2).await, [Vec::<String>::new()]);
    for id in ["c", "a", "e", "B", "d"] {
        create(&app, billing_details(id)).await.unwrap();
    }
    let all = pages(&app, 2).await;
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(all.concat(), ["B", "a", "c", "d", "e"]);
    assert_eq!(pages(&app, 5).await.len(), 1, "a full last page has no token");
    assert_eq!(pages(&app, 0).await.len(), 1);
    assert_eq!(pages(&app, i32::MAX).await.len(), 1);
}

async fn no_error_shows_personal_data(app: App) {
    const MARK: &str = "Zq7Secret";
    create(&app, company("aff-1")).await.unwrap();
    let mut statuses = Vec::new();
    let long = MARK.repeat(30);
    let line = || vec![MARK.to_owned(), long.clone()];
    let marked = proto::BillingDetails {
        account_id: "aff-1".to_owned(),
        party: individual_party(&long, &format!("{MARK}\u{7}")),
        tax_id: format!("{MARK}_"),
        vat_id: format!("DE{MARK}"),
        address: Some(proto::Address {
            region_code: "DE".to_owned(),
            postal_code: long.clone(),
            administrative_area: long.clone(),
            locality: long.clone(),
            address_lines: line(),
        }),
        email: format!("{MARK}@@example.com"),
        ..Default::default()
    };
    let mut well_formed = billing_details("aff-1");
    well_formed.party = individual_party(MARK, MARK);
    well_formed.tax_id = MARK.to_owned();
    well_formed.email = format!("{MARK}@example.com");
    let mut company = marked.clone();
    company.party = company_party(&long, &long);
    let mut elsewhere = marked.clone();
    address(&mut elsewhere).region_code = MARK.to_owned();
    for details in [&marked, &well_formed, &company, &elsewhere] {
        statuses.push(create(&app, details.clone()).await.unwrap_err());
    }
    for details in [&marked, &company, &elsewhere] {
        statuses.push(update(&app, details.clone(), &["*"]).await.unwrap_err());
    }
    statuses.push(update(&app, well_formed.clone(), &[MARK]).await.unwrap_err());
    well_formed.etag = MARK.to_owned();
    statuses.push(update(&app, well_formed, &["*"]).await.unwrap_err());
    for status in statuses {
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(!details.is_empty());
        for text in [status.message(), &details] {
            assert!(!text.to_lowercase().contains(&MARK.to_lowercase()), "{status:?}");
        }
    }
}

fn company(account_id: &str) -> proto::BillingDetails {
    proto::BillingDetails {
        party: company_party("Byron Ltd", "HRB 1"),
        vat_id: "DE136695976".to_owned(),
        email: "billing@example.com".to_owned(),
        ..billing_details(account_id)
    }
}

fn company_party(legal_name: &str, registration_number: &str) -> Option<Party> {
    Some(Party::Company(proto::Company {
        legal_name: legal_name.to_owned(),
        registration_number: registration_number.to_owned(),
    }))
}

fn individual_party(given_name: &str, family_name: &str) -> Option<Party> {
    Some(Party::Individual(proto::Individual {
        given_name: given_name.to_owned(),
        family_name: family_name.to_owned(),
    }))
}

fn with_vat_id(account_id: &str, region: &str, vat_id: &str) -> proto::BillingDetails {
    let mut details = company(account_id);
    details.vat_id = vat_id.to_owned();
    address(&mut details).region_code = region.to_owned();
    details
}

fn address(details: &mut proto::BillingDetails) -> &mut proto::Address {
    details.address.as_mut().unwrap()
}

fn without_output(details: proto::BillingDetails) -> proto::BillingDetails {
    proto::BillingDetails {
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..details
    }
}

async fn create(app: &App, details: proto::BillingDetails) -> Result<proto::BillingDetails, Status> {
    let request = proto::CreateBillingDetailsRequest {
        billing_details: Some(details),
        ..Default::default()
    };
    let answer = app.billing_details().create_billing_details(request).await?;
    Ok(answer.into_inner().billing_details.unwrap())
}

async fn get(app: &App, account_id: &str) -> Result<proto::BillingDetails, Status> {
    let request = proto::GetBillingDetailsRequest {
        account_id: account_id.to_owned(),
    };
    let answer = app.billing_details().get_billing_details(request).await?;
    Ok(answer.into_inner().billing_details.unwrap())
}

async fn update(app: &App, details: proto::BillingDetails, paths: &[&str]) -> Result<proto::BillingDetails, Status> {
    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(details),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let answer = app.billing_details().update_billing_details(request).await?;
    Ok(answer.into_inner().billing_details.unwrap())
}

async fn delete(app: &App, account_id: &str, etag: &str) -> Result<(), Status> {
    let request = proto::DeleteBillingDetailsRequest {
        account_id: account_id.to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    app.billing_details().delete_billing_details(request).await.map(drop)
}

/// The account ids of each page.
async fn pages(app: &App, page_size: i32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListBillingDetailsRequest { page_size, page_token };
        let page = app
            .billing_details()
            .list_billing_details(request)
            .await
            .unwrap()
            .into_inner();
        pages.push(
            page.billing_details
                .into_iter()
                .map(|details| details.account_id)
                .collect(),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

fn invalid(status: &Status) -> Vec<String> {
    assert_refused(status, Code::InvalidArgument, "INVALID_REQUEST").fields
}

fn assert_not_found(status: &Status) {
    assert_refused(status, Code::NotFound, "BILLING_DETAILS_NOT_FOUND");
}
