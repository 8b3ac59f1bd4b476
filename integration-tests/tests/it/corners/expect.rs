//! What a comparison must give: the same, or an answer of ours that has its reason.

/// What a comparison must give.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    /// multidb answers as Postgres does.
    Same,
    /// multidb answers otherwise, for this reason.
    Differs {
        /// What multidb answers.
        ours: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// multidb answers as Postgres does from this major on, and not as older ones.
    SameSince {
        /// The first major that answers like multidb.
        major: u16,
        /// What multidb answers in front of an older one.
        ours: &'static str,
        /// The reason.
        why: &'static str,
    },
}

impl Expect {
    /// What multidb answers where Postgres of this major answers otherwise.
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

/// A login without a password, and the end after it.
pub(super) const SESSION: &str = r"R \x00\x00\x00\x00 S K Z I closed";

/// What a login with too long parameters gets.
pub(super) const TOLD: Expect = Expect::Differs {
    ours: "E FATAL FATAL 08P01 closed",
    why: "a client whose parameters are too long is told so, where Postgres only closes",
};

/// 3.2 differs from 3.0 only in what Postgres itself sends.
pub(super) const fn speaks_3_2(ours: &'static str) -> Expect {
    Expect::SameSince {
        major: 18,
        ours,
        why: "multidb speaks 3.2, and what only its backend lacks it does not negotiate away",
    }
}

/// Debian's Postgres offers GSSAPI's encryption over TCP, and takes what follows for its tokens.
pub(super) const fn no_gss(ours: &'static str) -> Expect {
    Expect::Differs {
        ours,
        why: "multidb has no GSSAPI encryption and says so",
    }
}
