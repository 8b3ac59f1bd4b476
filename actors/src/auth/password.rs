//! A password that the client discloses, as HTTP's Basic authentication does (RFC 7617).

use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};

use super::scram::{Account, Exchange, ScramError};

/// Checks a password by the exchange that a client of Postgres would have, with its client's side here: so that the
/// same passwords are right, and a user that does not exist takes as long.
///
/// It computes for milliseconds: a verifier has thousands of iterations.
///
/// # Errors
///
/// The password is wrong, or there is no such user.
pub fn check(account: Account, password: &str) -> Result<(), ScramError> {
    let malformed = |_: std::io::Error| ScramError::Malformed("the password cannot be used");
    let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let exchange = Exchange::new(account, None);
    let challenged = exchange.begin(sasl::SCRAM_SHA_256, client.message())?;
    let challenge = challenged.challenge().as_bytes();
    client.update(challenge).map_err(malformed)?;
    challenged.finish(client.message()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{MockSecret, Users};

    #[test]
    fn password_is_checked_as_postgres_does() {
        // SASLprep (RFC 4013) makes a space of the second one's no-break space.
        for (made, typed, is_right) in [
            ("secret", "secret", true),
            ("pass word", "pass\u{a0}word", true),
            ("p\u{e4}ss", "p\u{e4}ss", true),
            ("secret", "Secret", false),
            ("secret", "", false),
            ("", "", true),
        ] {
            let verifier = postgres_protocol::password::scram_sha_256(made.as_bytes());
            let account = Account::User(verifier.parse().unwrap());
            assert_eq!(check(account, typed).is_ok(), is_right, "{made} {typed}");
        }
    }

    #[test]
    fn nobody_is_the_user_that_does_not_exist() {
        let verifier = MockSecret::random().verifier("nobody", &Users::new());
        let checked = check(Account::Mock(verifier), "secret");
        assert_eq!(checked, Err(ScramError::Denied));
    }
}
