//! The certificate that clients are shown.

use jiff::{SignedDuration, Timestamp};
use multidb_store::error_chain;

use super::{Finding, Level};
use crate::config::Config;

const SUBJECT: &str = "tls";
/// A certificate that lives shorter than this should have been renewed by now.
const RENEWAL: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Whether the configured files can be used, and for how long.
pub(super) fn examine(config: &Config) -> Option<Finding> {
    let configured = config.tls.as_ref()?;
    Some(match configured.files.load() {
        Ok(server) => lifetime(server.expires_at(), Timestamp::now()),
        Err(error) => Finding::new(Level::Fail, SUBJECT, error_chain(&error))
            .hint("Put the files right; the daemon does not start without them."),
    })
}

fn lifetime(expires_at: Option<Timestamp>, now: Timestamp) -> Finding {
    let Some(end) = expires_at else {
        return Finding::new(Level::Ok, SUBJECT, "the certificate can be used");
    };
    let renew = "Renew it; the daemon reads the files again by itself.";
    if end <= now {
        let what = format!("the certificate expired at {end}");
        Finding::new(Level::Fail, SUBJECT, what).hint(renew)
    } else if end.duration_since(now) < RENEWAL {
        let what = format!("the certificate expires soon, at {end}");
        Finding::new(Level::Warn, SUBJECT, what).hint(renew)
    } else {
        let what = format!("the certificate is good until {end}");
        Finding::new(Level::Ok, SUBJECT, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_before_it_expires() {
        let at = |text: &str| text.parse::<Timestamp>().expect("it is a time");
        let now = at("2026-01-01T00:00:00Z");
        let level = |end| lifetime(Some(at(end)), now).level;
        assert_eq!(level("2026-01-01T00:00:00Z"), Level::Fail);
        assert_eq!(level("2026-01-14T23:59:59Z"), Level::Warn);
        assert_eq!(level("2026-01-15T00:00:00Z"), Level::Ok);
        assert_eq!(lifetime(None, now).level, Level::Ok);
    }
}
