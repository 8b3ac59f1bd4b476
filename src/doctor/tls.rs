//! The server certificate.

use jiff::{SignedDuration, Timestamp};
use multidb_store::error_chain;

use super::{Finding, Level};
use crate::config::Config;
use crate::daemon::convert;

const SUBJECT: &str = "tls";
/// A certificate with less time left than this needs to be renewed.
const RENEWAL: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Checks that the configured files can be loaded, and until when they are valid.
pub(super) fn examine(config: &Config) -> Option<Finding> {
    let configured = config.tls.as_ref()?;
    Some(match convert::tls_files(configured).load() {
        Ok(server) => lifetime(server.expires_at(), Timestamp::now()),
        Err(error) => Finding::new(Level::Fail, SUBJECT, error_chain(&error))
            .hint("Fix the files; the daemon does not start without them."),
    })
}

fn lifetime(expires_at: Option<Timestamp>, now: Timestamp) -> Finding {
    let Some(end) = expires_at else {
        return Finding::new(Level::Ok, SUBJECT, "the certificate is valid");
    };
    let renew = "Renew it; the daemon reloads the files by itself.";
    if end <= now {
        let message = format!("the certificate expired at {end}");
        Finding::new(Level::Fail, SUBJECT, message).hint(renew)
    } else if end.duration_since(now) < RENEWAL {
        let message = format!("the certificate expires soon, at {end}");
        Finding::new(Level::Warn, SUBJECT, message).hint(renew)
    } else {
        let message = format!("the certificate is valid until {end}");
        Finding::new(Level::Ok, SUBJECT, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_reported_before_it_expires() {
        let at = |text: &str| text.parse::<Timestamp>().expect("valid time");
        let now = at("2026-01-01T00:00:00Z");
        let level = |end| lifetime(Some(at(end)), now).level;
        assert_eq!(level("2026-01-01T00:00:00Z"), Level::Fail);
        assert_eq!(level("2026-01-14T23:59:59Z"), Level::Warn);
        assert_eq!(level("2026-01-15T00:00:00Z"), Level::Ok);
        assert_eq!(lifetime(None, now).level, Level::Ok);
    }
}
