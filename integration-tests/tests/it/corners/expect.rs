//! The expected result of a comparison: the same answer, or a different one with its reason.

/// The expected result of a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    /// multidb answers as Postgres does.
    Same,
    /// multidb answers differently, for this reason.
    Differs {
        /// multidb's answer.
        ours: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// multidb answers as Postgres does since this major.
    SameSince {
        /// The first major that answers like multidb.
        major: u16,
        /// multidb's answer in front of an older major.
        ours: &'static str,
        /// The reason.
        why: &'static str,
    },
}

impl Expect {
    /// multidb's answer where Postgres of this major answers differently.
    pub(super) fn ours(self, postgres: u16) -> Option<&'static str> {
        match self {
            Self::SameSince { major, .. } if postgres >= major => None,
            Self::Same => None,
            Self::Differs { ours, .. } | Self::SameSince { ours, .. } => Some(ours),
        }
    }

    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Differs { why, .. } | Self::SameSince { why, .. } => why,
        }
    }
}

/// A login without a password, then the end of the session.
pub(super) const SESSION: &str = r"R \x00\x00\x00\x00 S K Z I closed";

/// The answer to a login with too long parameters.
pub(super) const TOLD: Expect = Expect::Differs {
    ours: "E FATAL FATAL 08P01 closed",
    why: "a client whose parameters are too long is told so, where Postgres only closes",
};

/// 3.2 differs from 3.0 only in messages of Postgres itself.
pub(super) const fn speaks_3_2(ours: &'static str) -> Expect {
    Expect::SameSince {
        major: 18,
        ours,
        why: "multidb speaks 3.2, and what only its backend lacks it does not negotiate away",
    }
}

/// Debian's Postgres offers GSSAPI encryption over TCP, and reads the following bytes as its tokens.
pub(super) const fn no_gss(ours: &'static str) -> Expect {
    Expect::Differs {
        ours,
        why: "multidb has no GSSAPI encryption and says so",
    }
}
