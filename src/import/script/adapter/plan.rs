//! The plan for a statement, and its kind.

use crate::import::script::statement::Token;

/// The plan for a statement.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import) enum Plan {
    /// Nothing, since the prepared cluster has it, or with a warning.
    Leave(Option<String>),
    /// To run it.
    Run(Box<Run>),
}

impl Plan {
    pub(super) fn run(kind: Kind) -> Self {
        Self::Run(Box::new(Run::of(kind)))
    }
}

/// The run of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import) struct Run {
    pub(in crate::import) kind: Kind,
    /// Statements that come first.
    pub(in crate::import) before: Vec<Vec<u8>>,
    /// The text, if it is not that of the script.
    pub(in crate::import) text: Option<Vec<u8>>,
    /// Another text, for a statement that fails.
    pub(in crate::import) alternative: Option<Vec<u8>>,
    /// The difference from the dump.
    pub(in crate::import) warning: Option<String>,
}

impl Run {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            before: Vec::new(),
            text: None,
            alternative: None,
            warning: None,
        }
    }
}

/// The subject of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Kind {
    /// A GRANT or REVOKE.
    Privileges,
    /// An ALTER … OWNER TO.
    Ownership,
    /// A role and its attributes.
    Role,
    /// A comment.
    Comment,
    /// A security label.
    Label,
    /// A parameter of the session, a role or a database.
    Parameter,
    /// A DROP, as in a dump that cleans up first.
    Drop,
    /// Something that every database or extension has by itself.
    Housekeeping,
    /// A CREATE EXTENSION.
    Extension,
    /// The CREATE DATABASE of the project's database.
    ProjectDatabase,
    /// The CREATE DATABASE of another one.
    OtherDatabase,
    /// Rows.
    Data,
    /// Everything else.
    Structure,
}

/// The states that say that an object does not exist: `undefined_table` and its kin.
const UNDEFINED: [&str; 6] = ["42P01", "42704", "42883", "3F000", "3D000", "42703"];
/// `undefined_object`, as of a parameter.
const UNDEFINED_OBJECT: &str = "42704";
/// `duplicate_object` and `duplicate_schema`.
const DUPLICATE: [&str; 2] = ["42710", "42P06"];

impl Kind {
    /// The word for it in reports.
    pub(in crate::import) fn name(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::Ownership => "ownership",
            Self::Role => "role",
            Self::Comment => "comment",
            Self::Label => "label",
            Self::Parameter => "parameter",
            Self::Drop => "drop",
            Self::Housekeeping => "housekeeping",
            Self::Extension => "extension",
            Self::ProjectDatabase | Self::OtherDatabase | Self::Structure => "structure",
            Self::Data => "data",
        }
    }

    /// Whether the error says only that there is nothing to do.
    pub(in crate::import) fn is_done_already(self, sqlstate: &str) -> bool {
        match self {
            Self::Drop => UNDEFINED.contains(&sqlstate),
            Self::Extension | Self::Role | Self::Housekeeping => DUPLICATE.contains(&sqlstate),
            _ => false,
        }
    }

    /// Whether a restore goes on after the error without being told to: it concerns neither data nor structure.
    pub(in crate::import) fn may_fail(self, sqlstate: &str) -> bool {
        match self {
            Self::Privileges
            | Self::Ownership
            | Self::Role
            | Self::Comment
            | Self::Label
            | Self::Drop
            | Self::Housekeeping => true,
            Self::Parameter => sqlstate == UNDEFINED_OBJECT,
            Self::Extension
            | Self::ProjectDatabase
            | Self::OtherDatabase
            | Self::Data
            | Self::Structure => false,
        }
    }
}

/// The kind of a statement by its verb alone, in lower case.
pub(super) fn kind_of_verb(verb: &[u8]) -> Kind {
    match verb {
        b"copy" | b"insert" | b"select" | b"update" | b"delete" | b"refresh" => Kind::Data,
        _ => Kind::Structure,
    }
}

/// The kind of a statement, which has at least two tokens.
pub(super) fn kind(tokens: &[Token]) -> Kind {
    let (verb, second) = (&tokens[0], &tokens[1]);
    let is = |at: usize, words: &[&str]| tokens.get(at).is_some_and(|word| word.is_any(words));
    if verb.is("comment") {
        Kind::Comment
    } else if verb.is("security") {
        Kind::Label
    } else if verb.is_any(&["grant", "revoke"])
        || (verb.is("alter") && second.is("default"))
        || verb.is("reassign")
    {
        Kind::Privileges
    } else if verb.is_any(&["set", "reset"]) {
        Kind::Parameter
    } else if verb.is("drop") {
        Kind::Drop
    } else if verb.is("create") {
        match second {
            word if word.is_any(&["role", "group"]) => Kind::Role,
            word if word.is("user") && !is(2, &["mapping"]) => Kind::Role,
            word if word.is("extension") => Kind::Extension,
            word if word.is("schema") && tokens.iter().any(is_public) => Kind::Housekeeping,
            word if word.is("language") || is(2, &["language"]) => Kind::Extension,
            _ => Kind::Structure,
        }
    } else {
        alter(tokens)
    }
}

fn is_public(token: &Token) -> bool {
    token.name().is_some_and(|name| name == b"public")
}

fn alter(tokens: &[Token]) -> Kind {
    let second = &tokens[1];
    let has = |first: &str, next: &str| {
        tokens
            .windows(2)
            .any(|pair| pair[0].is(first) && pair[1].is(next))
    };
    let has_word = |words: &[&str]| tokens.iter().any(|token| token.is_any(words));
    let is_setting = has_word(&["set", "reset"]);
    if has("owner", "to") {
        Kind::Ownership
    } else if second.is("database") && is_setting {
        Kind::Parameter
    } else if second.is_any(&["role", "user", "group"])
        && !tokens.get(2).is_some_and(|word| word.is("mapping"))
    {
        if is_setting {
            Kind::Parameter
        } else {
            Kind::Role
        }
    } else if second.is("extension") && has_word(&["update"]) {
        Kind::Housekeeping
    } else if second.is_any(&["table", "domain"]) && drops(tokens) {
        Kind::Drop
    } else {
        Kind::Structure
    }
}

/// Whether an ALTER takes something away, as `pg_dump --clean` does before a DROP.
fn drops(tokens: &[Token]) -> bool {
    let takes_away = |pair: &[Token]| {
        pair[0].is("drop") && pair[1].is_any(&["constraint", "default", "identity"])
            || pair[0].is("detach") && pair[1].is("partition")
    };
    tokens.windows(2).any(takes_away) && !tokens.iter().any(|token| token.is("add"))
}
