#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| affiliate_billing::fuzzing::tax_id(bytes));
