#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| affiliate_billing::fuzzing::json_web_token_keys(bytes));
