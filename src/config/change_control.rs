//! Settings of change control: cool-off of payment methods, approval of settlements.

use super::{Variables, switch};
use crate::authentication::Access;
use crate::billing::ChangeControl;
use crate::domain::open_balances::MAX_COOL_OFF_HOURS;

const COOL_OFF_HOURS: &str = "BILLING_PAYMENT_METHOD_COOL_OFF_HOURS";
const REQUIRE_APPROVAL: &str = "BILLING_REQUIRE_APPROVAL";

/// Reads them, and notes every problem.
pub(super) fn load(variables: &Variables<'_>, access: &Access, problems: &mut Vec<String>) -> ChangeControl {
    let require_approval = switch(REQUIRE_APPROVAL, variables.get(REQUIRE_APPROVAL), problems);
    if require_approval && !access.authentication.is_on() {
        problems.push(format!(
            "{REQUIRE_APPROVAL} needs callers that are authenticated: otherwise all have one name, and nobody could approve; set \
             BILLING_TOKENS_FILE or BILLING_JWKS_FILE too"
        ));
    }
    ChangeControl {
        cool_off_hours: hours(variables.get(COOL_OFF_HOURS), problems),
        require_approval,
    }
}

fn hours(text: Option<String>, problems: &mut Vec<String>) -> u32 {
    let Some(text) = text else {
        return 0;
    };
    match text.parse::<u32>() {
        Ok(hours) if hours <= MAX_COOL_OFF_HOURS => hours,
        _ => {
            problems.push(format!(
                "{COOL_OFF_HOURS} must be a whole number of hours from 0 to {MAX_COOL_OFF_HOURS}"
            ));
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::{Authentication, AuthenticationSettings, NewToken};

    fn access(is_on: bool) -> Access {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let token = NewToken::make().unwrap();
        let text = format!("[[identity]]\nname = \"a\"\ntokens_sha256 = [\"{}\"]\n", token.sha256);
        std::fs::write(&path, text).unwrap();
        let settings = AuthenticationSettings {
            identities_file: is_on.then_some(path),
            json_web_tokens: None,
        };
        Access {
            authentication: Authentication::open(&settings).unwrap(),
            transport: None,
        }
    }

    fn loaded(hours: &str, approval: &str, is_on: bool) -> (ChangeControl, Vec<String>) {
        let find = |name: &str| match name {
            COOL_OFF_HOURS => Some(hours.to_owned()),
            REQUIRE_APPROVAL => Some(approval.to_owned()),
            _ => None,
        };
        let mut problems = Vec::new();
        let control = load(&Variables(&find), &access(is_on), &mut problems);
        (control, problems)
    }

    #[test]
    fn approval_needs_authentication() {
        for (approval, is_on, is_refused) in [
            ("1", true, false),
            ("1", false, true),
            ("0", false, false),
            ("", false, false),
        ] {
            let (control, problems) = loaded("", approval, is_on);
            assert_eq!(control.require_approval, approval == "1");
            assert_eq!(problems.len(), usize::from(is_refused), "{problems:?}");
            assert!(problems.iter().all(|problem| problem.contains("BILLING_TOKENS_FILE")));
        }
        assert_eq!(loaded("", "yes", true).1.len(), 1);
    }

    #[test]
    fn the_cool_off_has_a_range() {
        for (text, hours) in [("", 0), ("0", 0), ("72", 72), ("2160", 2160)] {
            assert_eq!(loaded(text, "", false).0.cool_off_hours, hours);
            assert_eq!(loaded(text, "", false).1, [""; 0]);
        }
        for text in ["2161", "-1", "1.5", "1h", "x"] {
            assert_eq!(loaded(text, "", false).1.len(), 1, "{text}");
        }
    }
}
