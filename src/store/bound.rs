//! That values are always bound and never written into a statement: a rule over the source of this folder.
//!
//! What `format!` puts into a text here must be named below, with why it can't come from outside. Who adds a name answers for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What may be put into statements, in any file, besides constants, which are in upper case.
const PARTS: &[(&str, &str)] = &[
    ("alias", "a name of this folder's own: the callers give literals"),
    ("column", "a name of this folder's own: the callers give literals"),
    ("create_time", "a column: the callers give literals"),
    ("id", "a column: the callers give literals"),
    ("expression", "an expression over columns: the callers give literals"),
    ("key", "a column: the callers give literals"),
    ("order", "a column: the callers give literals"),
    ("table", "a table: the callers give literals"),
    ("name", "a column of an input: the callers give literals"),
    ("names.join(\", \")", "the same, all of them"),
    ("columns.join(\", \")", "columns, made from such names"),
    ("account", "a parameter: what `Conditions::bind` gives"),
    ("currency", "a parameter: what `Conditions::bind` gives"),
    ("event_id", "a parameter: what `Conditions::bind` gives"),
    ("receive_time", "a parameter: what `Conditions::bind` gives"),
    ("parameter", "a parameter: what `Conditions::bind` gives"),
    (
        "through",
        "a parameter: what `Conditions::bind` gives, or a literal `$n`",
    ),
    ("parameters.join(\", \")", "parameters of an input"),
    ("self.values.len()", "a parameter's number"),
    ("first", "a parameter's number"),
    ("first + offset", "a parameter's number"),
    ("index", "a number of a column"),
    ("sql_type", "a type: literals"),
    ("value", "an expression over `json_each`"),
    ("conditions.sql()", "conditions of this folder, with parameters"),
    ("condition", "a literal, or made of a source"),
    ("due", "a condition, made of a parameter"),
    ("open", "a condition: a literal"),
    ("claimable", "a condition: a literal"),
    ("methods", "a subquery: literals"),
    ("word", "the beginning of a condition: a literal"),
    ("source", "an input's rows: parameters and own names"),
    ("input", "an input's rows: parameters and own names"),
    ("limit", "a number: u64 or usize"),
    ("offending", "a rule of `verify`: a literal"),
    ("parts.join(\" || '-' || \")", "expressions over a column"),
];

/// The same, in one file alone.
const PARTS_OF_FILES: &[(&str, &str, &str)] = &[
    (
        "open_balances.rs",
        "destination_time!()",
        "an expression over columns: a literal",
    ),
    (
        "open_balances.rs",
        "destination_time",
        "an expression over columns: a literal",
    ),
    (
        "open_balances.rs",
        "payee_columns(terms.cool_off_hours > 0)",
        "columns: one of two literals",
    ),
    ("settlements.rs", "tx.backend.for_update()", "a literal of the backend"),
    ("payment_methods.rs", "shared", "a condition of this folder: a literal"),
    (
        "payment_methods.rs",
        "destinations::none_if_empty(\"input.destination_hash\")",
        "an expression over a column",
    ),
    ("rotation.rs", "columns", "columns of a table: literals"),
    ("rotation.rs", "number", "a parameter's number"),
    ("rotation.rs", "self.name", "a table: a literal"),
    ("rotation.rs", "table.name", "a table: a literal"),
    (
        "rotation.rs",
        "same_key.join(\" AND \")",
        "comparisons of columns: literals",
    ),
    (
        "rotation.rs",
        "tx.backend.for_no_key_update_skip_locked()",
        "a literal of the backend",
    ),
    ("destinations.rs", "accounts", "a subquery, of literals"),
    ("destinations.rs", "query", "a subquery, of literals"),
    ("destinations.rs", "lock", "a literal of the backend"),
    (
        "destinations.rs",
        "none_if_empty(\"input.hash\")",
        "an expression over a column",
    ),
    ("destinations.rs", "MAX_SHARED_COUNTED + 1", "a constant"),
    ("account_settlements.rs", "for_update", "a literal of the backend"),
    ("entries.rs", "for_update", "a literal of the backend"),
    ("open_balances.rs", "for_update", "a literal of the backend"),
    ("payouts.rs", "locking", "a literal of the backend"),
    ("payouts.rs", "skip_locked", "a literal of the backend"),
    (
        "billing_details.rs",
        "tx.backend.for_update()",
        "a literal of the backend",
    ),
    (
        "payment_method_types.rs",
        "tx.backend.for_update()",
        "a literal of the backend",
    ),
    (
        "provider_events.rs",
        "tx.backend.for_update()",
        "a literal of the backend",
    ),
    ("payouts.rs", "tx.backend.for_update()", "a literal of the backend"),
    (
        "settlements.rs",
        "tx.backend.for_no_key_update()",
        "a literal of the backend",
    ),
    ("provider_events.rs", "outcome.name()", "one of the names of an enum"),
    ("verify.rs", "rule.counted", "a table: a literal"),
    (
        "payees.rs",
        "tx.backend.for_no_key_update()",
        "a literal of the backend",
    ),
    (
        "payees.rs",
        "tx.backend.for_update_skip_locked()",
        "a literal of the backend",
    ),
    (
        "provider_events.rs",
        "row_id",
        "an expression over a column, of the backend",
    ),
    ("verify.rs", "start", "a number"),
    ("verify.rs", "length", "a number"),
];

/// A statement has one of these words, or a comparison; what has none is a message of an error, or a name.
const WORDS: [&str; 17] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "FROM", "WHERE", "AND", "OR ", "IN (", "CAST", "JOIN", "ORDER", "LIMIT",
    "unnest", "substr", "unhex", " = ",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.file_name().unwrap() != "bound.rs" {
            files.push(path);
        }
    }
    files
}

/// The arguments of each `format!` in a text: what is between its parentheses.
fn formats(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, start) in text.match_indices("format!(") {
        let inside = &text[at + start.len()..];
        let (mut depth, mut is_text, mut is_escaped) = (1, false, false);
        for (end, character) in inside.char_indices() {
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' if is_text => is_escaped = true,
                '"' => is_text = !is_text,
                '(' if !is_text => depth += 1,
                ')' if !is_text => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                found.push(inside[..end].trim());
                break;
            }
        }
    }
    found
}

/// The literal of a `format!`, and what is put into it.
fn parts(arguments: &str) -> (&str, Vec<String>) {
    let inside = arguments.strip_prefix('"').expect("a literal comes first");
    let mut is_escaped = false;
    let end = inside.find(|character| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    });
    let (literal, rest) = inside.split_at(end.unwrap());
    let mut parts = Vec::new();
    for piece in literal.split('{').skip(1) {
        let name = piece.split('}').next().unwrap();
        // Without a name, or with a number: it is among the arguments behind the literal.
        if name.parse::<usize>().is_err() && !name.is_empty() {
            parts.push(name.to_owned());
        }
    }
    parts.extend(separated(rest.strip_prefix('"').unwrap()));
    (literal, parts)
}

/// The arguments behind a literal.
fn separated(arguments: &str) -> Vec<String> {
    let (mut found, mut current, mut depth, mut is_text) = (Vec::new(), String::new(), 0, false);
    for character in arguments.chars() {
        match character {
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 && !is_text {
            found.push(std::mem::take(&mut current));
        } else {
            current.push(character);
        }
    }
    found.push(current);
    let found = found
        .iter()
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    found.filter(|part| !part.is_empty()).collect()
}

fn is_constant(part: &str) -> bool {
    part.chars()
        .all(|character| character.is_ascii_uppercase() || character == '_')
}

#[test]
fn nothing_from_outside_is_written_into_a_statement() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut problems = BTreeSet::new();
    let mut statements = 0;
    for path in files(&folder) {
        let file = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod").next().unwrap();
        for arguments in formats(code) {
            let (literal, parts) = parts(arguments);
            if !WORDS.iter().any(|word| literal.contains(word)) {
                continue;
            }
            statements += 1;
            for part in parts {
                let is_known = is_constant(&part)
                    || PARTS.iter().any(|(name, _)| *name == part)
                    || PARTS_OF_FILES.iter().any(|(of, name, _)| *of == file && *name == part);
                if !is_known {
                    problems.insert(format!("{file}: {part}, in: {literal}"));
                }
            }
        }
        // `verify` writes its rules for each database, all of them literals.
        let others = if file == "verify.rs" {
            &[][..]
        } else {
            &["push_str(", "+ &", "concat("]
        };
        for way in others {
            for line in code.lines().filter(|line| line.contains(*way)) {
                problems.insert(format!(
                    "{file}: a text is put together in another way than by format!: {line}"
                ));
            }
        }
    }
    assert!(statements > 60, "{statements} statements were found");
    assert!(problems.is_empty(), "bind what is not made here: {problems:#?}");
}
