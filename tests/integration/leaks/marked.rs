//! Values that can be told from everything else, and the search for them in whatever form they are written.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Who may see a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Who may read the resource, in its own answers: names, addresses, tax ids.
    Shown,
    /// Only who may unmask, or nobody: bank details, payee ids, secrets.
    Secret,
}

/// Values to look for, all at once.
pub(crate) struct Marked {
    values: Vec<(String, Class)>,
    /// For each form, whose it is.
    owners: Vec<usize>,
    searcher: AhoCorasick,
}

impl Marked {
    pub(crate) fn new(values: &[(&str, Class)]) -> Self {
        let mut owners = Vec::new();
        let mut all_forms = Vec::new();
        for (owner, (value, _)) in values.iter().enumerate() {
            assert!(value.len() >= 8, "too short to be told from chance: {value}");
            for form in forms(value) {
                owners.push(owner);
                all_forms.push(form);
            }
        }
        Self {
            values: values
                .iter()
                .map(|(value, class)| ((*value).to_owned(), *class))
                .collect(),
            owners,
            searcher: AhoCorasick::new(&all_forms).unwrap(),
        }
    }
}

/// All forms in which a value is looked for, in lower case: what is searched is put into lower case too.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let spaceless: String = value.split_whitespace().collect();
    let mut forms = Vec::new();
    for text in [value, spaceless.as_str()] {
        for text in [text.to_owned(), text.to_lowercase(), text.to_uppercase()] {
            forms.push(text.to_lowercase().into_bytes());
            forms.push(percent_encoded(&text).to_lowercase().into_bytes());
            forms.push(hexadecimal(text.as_bytes()).into_bytes());
            for encoded in in_base64(text.as_bytes()) {
                forms.push(encoded.replace('+', "-").replace('/', "_").into_bytes());
                forms.push(encoded.into_bytes());
            }
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02x}")
        }
    });
    encoded.collect()
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What standard base64 makes of it wherever it begins in what is encoded; characters that its neighbours have a part in are left out.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let encoded = (0..3).map(|before| {
        let padded = [vec![0; before], bytes.to_vec()].concat();
        let text = STANDARD_NO_PAD.encode(&padded);
        let whole = padded.len() / 3 * 4;
        let first = [0, 2, 3][before];
        text[first..whole].to_lowercase()
    });
    encoded.collect()
}

/// A place that was searched, in lower case, with what stands in it in hexadecimal also as bytes.
pub(crate) struct Place {
    name: String,
    bytes: Vec<u8>,
}

impl Place {
    pub(crate) fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        let mut lower = bytes.to_ascii_lowercase();
        let decoded = from_hexadecimal(&lower);
        lower.extend(decoded.to_ascii_lowercase());
        Self {
            name: name.into(),
            bytes: lower,
        }
    }

    /// What of the marked values stands here, each told once, with what stands around it.
    pub(crate) fn found(&self, marked: &Marked, may_show: bool) -> Vec<String> {
        let mut found = BTreeMap::new();
        for hit in marked.searcher.find_overlapping_iter(&self.bytes) {
            let owner = marked.owners[hit.pattern()];
            let (value, class) = &marked.values[owner];
            if *class == Class::Secret || !may_show {
                let around = hit.start().saturating_sub(200)..(hit.end() + 60).min(self.bytes.len());
                let around = String::from_utf8_lossy(&self.bytes[around]);
                found
                    .entry(owner)
                    .or_insert_with(|| format!("{}: {value:?} in {around:?}", self.name));
            }
        }
        found.into_values().collect()
    }
}

/// The bytes of all runs of hexadecimal digits that are no word or number, with a gap between them.
fn from_hexadecimal(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in text.split(|byte| !byte.is_ascii_hexdigit()) {
        if run.len() >= 16 && run.len() % 2 == 0 {
            let digit = |digit: u8| char::from(digit).to_digit(16).unwrap();
            bytes.extend(
                run.chunks(2)
                    .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap()),
            );
            bytes.push(b' ');
        }
    }
    bytes
}

/// That the search finds what is there, in each form and class: a search that finds nothing proves nothing.
pub(crate) fn the_search_finds_every_form() {
    const VALUE: &str = "Ada Byron 12/7";
    let marked = Marked::new(&[(VALUE, Class::Shown)]);
    let encode = |text: &str| STANDARD_NO_PAD.encode(text);
    for text in [
        "x Ada Byron 12/7 y".to_owned(),
        "ADA BYRON 12/7".to_owned(),
        "adabyron12/7".to_owned(),
        "name=Ada%20Byron%2012%2F7&".to_owned(),
        format!("'\\x{}'", hexadecimal(VALUE.as_bytes())),
        format!("'\\x{}'", hexadecimal(b"{\"name\":\"ada byron 12/7\"}")),
        encode("Ada Byron 12/7"),
        encode("1Ada Byron 12/7 and more"),
        encode("12Ada Byron 12/7 and more"),
        encode("123ADA BYRON 12/7 and more"),
    ] {
        let place = Place::new("text", text.as_bytes());
        assert_eq!(place.found(&marked, false).len(), 1, "not found in {text}");
        assert_eq!(place.found(&marked, true).len(), 0);
        let secret = Marked::new(&[(VALUE, Class::Secret)]);
        assert_eq!(place.found(&secret, true).len(), 1);
    }
    // `?` and `>` make the characters in which the alphabets of base64 differ.
    let odd = Marked::new(&[("Ada?>? Byron", Class::Secret)]);
    for text in ["Ada?>? Byron", "12Ada?>? Byron and more"] {
        assert_ne!(URL_SAFE_NO_PAD.encode(text), encode(text));
        for encoded in [URL_SAFE_NO_PAD.encode(text), encode(text)] {
            let place = Place::new("text", encoded.as_bytes());
            assert_eq!(place.found(&odd, false).len(), 1, "not found in {encoded}");
        }
    }
    let other = Place::new("text", b"Ada Lovelace 12/7, QWRhIEx1YmxhY2U");
    assert_eq!(other.found(&marked, false), Vec::<String>::new());
}
