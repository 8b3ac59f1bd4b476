//! The adaptation of a script's statements to the cluster that multidb has prepared.
//!
//! - The roles that a statement names are created before it, and existing ones are not created again.
//! - The superuser by which the restore runs stays one.
//! - Everything is in the default tablespace.
//! - The database of a dump of one alone is the project's.
//! - The options of a database are the ones that this major has.
//! - An object that a statement drops may be absent.
//! - Statistics are gathered by the import itself.

mod database;
mod edits;
mod plan;

use std::collections::{BTreeMap, HashSet};

pub(in crate::import) use self::database::{created_database, with_locale};
use self::edits::Edits;
pub(in crate::import) use self::plan::{Kind, Plan, Run};
use super::ScriptTarget;
use super::statement::{Name, Placed, Subject, Token, placed_tokens, subject};

/// The verbs of the statements that are looked at as a whole.
const VERBS: [&str; 10] = [
    "alter", "comment", "create", "drop", "grant", "reassign", "reset", "revoke", "security", "set",
];

/// Adapts one statement after the other.
#[derive(Debug)]
pub(in crate::import) struct Adapter {
    target: ScriptTarget,
    known_roles: HashSet<Name>,
    /// The `SET SESSION AUTHORIZATION` in force, to restore after creating a role.
    session_authorization: Option<Vec<u8>>,
    /// The script has named an owner.
    names_owners: bool,
    /// The databases that the script creates or connects to: their names here, and their names in the script.
    databases: BTreeMap<Name, Name>,
}

/// Two databases of a script that would have the same name.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import) struct SameName {
    pub(in crate::import) first: String,
    pub(in crate::import) second: String,
    pub(in crate::import) name: String,
}

impl Adapter {
    pub(in crate::import) fn new(target: ScriptTarget) -> Self {
        let mut known_roles: HashSet<Name> = HashSet::new();
        known_roles.insert(target.superuser.clone().into_bytes());
        known_roles.insert(target.role.clone().into_bytes());
        Self {
            target,
            known_roles,
            session_authorization: None,
            names_owners: false,
            databases: BTreeMap::new(),
        }
    }

    /// Whether the script has named the owner of an object.
    pub(in crate::import) fn names_owners(&self) -> bool {
        self.names_owners
    }

    /// The script connects to this database: the one to connect to, in a session of its own.
    pub(in crate::import) fn connected(&mut self, name: &[u8]) -> Vec<u8> {
        self.session_authorization = None;
        self.database(name)
    }

    /// Takes the database that this statement creates, if it is the first, for the project's. Returns its name, if it
    /// is another.
    pub(in crate::import) fn adopt_database(&mut self, text: &[u8]) -> Option<Name> {
        if self.target.source_database.is_some() {
            return None;
        }
        let name = created_database(text)?;
        self.target.source_database = Some(name.clone());
        (name != self.target.database.as_bytes()).then_some(name)
    }

    /// The database that was taken for the project's though it has another name, and the database that this statement
    /// creates beside it. Which of the two is meant is not known.
    pub(in crate::import) fn second_database(&self, text: &[u8]) -> Option<(Name, Name)> {
        let first = self.target.source_database.as_ref()?;
        if first == self.target.database.as_bytes() {
            return None;
        }
        let second = created_database(text)?;
        (second != *first).then(|| (first.clone(), second))
    }

    /// Notes that the script creates or connects to this database, and refuses it if it would have the name of another.
    pub(in crate::import) fn meet_database(&mut self, name: &[u8]) -> Result<(), SameName> {
        if is_template(name) {
            return Ok(());
        }
        let here = self.database(name);
        let known = self.databases.entry(here).or_insert_with(|| name.to_vec());
        if known == name {
            return Ok(());
        }
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Err(SameName {
            first: text(known),
            second: text(name),
            name: text(&self.database(name)),
        })
    }

    /// The databases that get another name and were not met, if the script is of a whole cluster.
    pub(in crate::import) fn databases_not_met(&self) -> Vec<String> {
        if self.target.source_database.is_some() || self.databases.is_empty() {
            return Vec::new();
        }
        let met = |name: &&String| self.databases.values().any(|old| old == name.as_bytes());
        let renamed = self.target.renamed.keys();
        renamed.filter(|name| !met(name)).cloned().collect()
    }

    /// Whether databases get other names.
    pub(in crate::import) fn renames_databases(&self) -> bool {
        !self.target.renamed.is_empty()
    }

    /// The database that is meant where the script says this one.
    fn database(&self, name: &[u8]) -> Vec<u8> {
        if self.target.source_database.as_deref() == Some(name) {
            return self.target.database.clone().into_bytes();
        }
        let text = std::str::from_utf8(name).unwrap_or_default();
        let renamed = self.target.renamed.get(text);
        renamed.map_or(name, String::as_bytes).to_vec()
    }

    /// The plan for a statement, or for a long one that begins so.
    pub(in crate::import) fn plan(&mut self, text: &[u8], is_whole: bool) -> Plan {
        if restores_statistics(text) {
            return Plan::Leave(None);
        }
        let verb = text.split(|byte| !byte.is_ascii_alphabetic()).next();
        let verb = verb.unwrap_or_default().to_ascii_lowercase();
        if !is_whole || !VERBS.iter().any(|known| known.as_bytes() == verb) {
            return Plan::run(plan::kind_of_verb(&verb));
        }
        let placed = placed_tokens(text);
        let tokens: Vec<Token> = placed.iter().map(|placed| placed.token.clone()).collect();
        if tokens.len() < 2 {
            return Plan::run(Kind::Structure);
        }
        if is_timeout_of_session(&tokens) {
            return Plan::Leave(None);
        }
        let mut edits = Edits::default();
        self.rename_database(&placed, &mut edits);
        if let Some(plan) = tablespaces(&placed, &mut edits) {
            return plan;
        }
        let mut run = match self.about(subject(&tokens), &tokens, text) {
            Ok(run) => run,
            Err(plan) => return *plan,
        };
        self.names_owners |= run.kind == Kind::Ownership || self.session_authorization.is_some();
        if run.kind == Kind::Privileges {
            let mut without = Edits::default();
            self.rename_database(&placed, &mut without);
            edits::older_privileges(&placed, self.target.postgres_major, &mut without);
            run.alternative = without.apply(text).filter(|other| *other != text);
        }
        if matches!(run.kind, Kind::ProjectDatabase | Kind::OtherDatabase) {
            run.warning = database::older_options(&placed, self.target.postgres_major, &mut edits);
        }
        if let Some(text) = edits.apply(text) {
            run.text = Some(text);
        }
        Plan::Run(Box::new(run))
    }

    /// The plan for a statement about roles or databases, and its kind.
    fn about(&mut self, subject: Subject, tokens: &[Token], text: &[u8]) -> Result<Run, Box<Plan>> {
        let mut run = Run::of(plan::kind(tokens));
        match subject {
            Subject::Roles(roles) => {
                if let Some(warning) = self.keeps_superuser(tokens) {
                    return Err(Box::new(Plan::Leave(Some(warning))));
                }
                if tokens[0].is("drop")
                    && tokens[1].is_any(&["role", "user", "group"])
                    && !tokens.get(2).is_some_and(|word| word.is("mapping"))
                    && tokens
                        .iter()
                        .skip(2)
                        .filter_map(Token::name)
                        .any(|role| self.is_prepared(&role))
                {
                    return Err(Box::new(Plan::Leave(None)));
                }
                self.ensure_roles(roles, &mut run);
            }
            Subject::CreateRole(role) => {
                if !self.known_roles.insert(role.clone()) {
                    return self.alter_known_role(tokens, text);
                }
            }
            Subject::CreateDatabase(name, owner) => {
                self.ensure_roles(owner.into_iter().collect(), &mut run);
                let name = self.database(&name);
                if name == self.target.database.as_bytes() {
                    run.kind = Kind::ProjectDatabase;
                } else if is_template(&name) {
                    return Err(Box::new(Plan::Leave(None)));
                } else {
                    run.kind = Kind::OtherDatabase;
                }
            }
            Subject::DropDatabase(name) => {
                let name = self.database(&name);
                if name == self.target.database.as_bytes() || is_template(&name) {
                    return Err(Box::new(Plan::Leave(None)));
                }
            }
            Subject::SessionAuthorization(None) => self.session_authorization = None,
            Subject::SessionAuthorization(Some(role)) => {
                self.ensure_roles(vec![role], &mut run);
                self.session_authorization = Some(text.to_vec());
            }
        }
        Ok(run)
    }

    /// A role that exists is not created again, but gets the attributes.
    fn alter_known_role(&self, tokens: &[Token], text: &[u8]) -> Result<Run, Box<Plan>> {
        let has_attributes = tokens.len() > 3 && tokens[3] != Token::Symbol(b';');
        let mut altered: Vec<Token> = tokens.to_vec();
        altered[0] = Token::Word(b"ALTER");
        if let Some(warning) = self.keeps_superuser(&altered) {
            return Err(Box::new(Plan::Leave(Some(warning))));
        }
        if !has_attributes {
            return Err(Box::new(Plan::Leave(None)));
        }
        let mut run = Run::of(Kind::Role);
        let create = b"CREATE".len();
        run.text = Some([b"ALTER", text.get(create..).unwrap_or_default()].concat());
        Ok(run)
    }

    /// The warning for a statement that would take from the superuser a right that the restore and the snapshot need.
    fn keeps_superuser(&self, tokens: &[Token]) -> Option<String> {
        const TAKES: [&str; 5] = ["nosuperuser", "nologin", "connection", "valid", "rename"];
        let is_role = tokens[0].is("alter") && tokens[1].is_any(&["role", "user"]);
        let role = tokens.get(2).and_then(Token::name)?;
        let takes = tokens.iter().skip(3).any(|token| token.is_any(&TAKES));
        (is_role && takes && role == self.target.superuser.as_bytes()).then(|| {
            format!(
                "role \"{}\" stays a superuser that can log in, which it is not in the dump",
                self.target.superuser
            )
        })
    }

    fn is_prepared(&self, role: &Name) -> bool {
        role == self.target.superuser.as_bytes() || role == self.target.role.as_bytes()
    }

    /// Has the roles created before the statement, if nothing has named them before.
    fn ensure_roles(&mut self, roles: Vec<Name>, run: &mut Run) {
        for role in roles {
            if !self.known_roles.insert(role.clone()) {
                continue;
            }
            if self.session_authorization.is_some() {
                run.before.push(b"RESET SESSION AUTHORIZATION".to_vec());
            }
            run.before.push(create_role(&role));
            run.before.extend(self.session_authorization.clone());
        }
    }

    /// Replaces the names of databases that have another one here.
    fn rename_database(&self, placed: &[Placed], edits: &mut Edits) {
        if self.target.source_database.is_none() && !self.renames_databases() {
            return;
        }
        for pair in placed
            .windows(2)
            .filter(|pair| pair[0].token.is("database"))
        {
            let Some(name) = pair[1].token.name() else {
                continue;
            };
            let here = self.database(&name);
            if here != name {
                let here = crate::sql::identifier(&String::from_utf8_lossy(&here));
                edits.replace(pair[1].at.clone(), here.into_bytes());
            }
        }
    }
}

/// Whether this is a database of every cluster.
fn is_template(name: &[u8]) -> bool {
    matches!(name, b"postgres" | b"template1" | b"template0")
}

/// Whether this restores statistics, for which a server before 18 has no function, and which are gathered at the end.
fn restores_statistics(text: &[u8]) -> bool {
    const BEGIN: &[u8] = b"SELECT * FROM pg_catalog.pg_restore_";
    let rest = text.strip_prefix(BEGIN);
    let kind = rest.and_then(|rest| rest.split(|byte| *byte == b'(').next());
    kind.is_some_and(|kind| {
        matches!(
            kind,
            b"relation_stats" | b"attribute_stats" | b"extended_stats"
        )
    })
}

/// Whether this is the head of each dump, which takes limits away that no session of a restore has, and that an older
/// major does not know.
fn is_timeout_of_session(tokens: &[Token]) -> bool {
    const NAMES: [&str; 3] = [
        "idle_session_timeout",
        "statement_timeout",
        "transaction_timeout",
    ];
    let [set, name, equals, value, ..] = tokens else {
        return false;
    };
    set.is("set")
        && name.is_any(&NAMES)
        && *equals == Token::Symbol(b'=')
        && *value == Token::Symbol(b'0')
}

/// Has everything put into the default tablespace. A statement about a tablespace itself is left out.
fn tablespaces(placed: &[Placed], edits: &mut Edits) -> Option<Plan> {
    let token = |at: usize| placed.get(at).map(|placed| &placed.token);
    let is = |at: usize, word: &str| token(at).is_some_and(|token| token.is(word));
    if is(1, "tablespace") {
        let warning = is(0, "create").then(|| {
            let name = token(2).and_then(Token::name).unwrap_or_default();
            format!(
                "tablespace \"{}\" is left out: its objects are in the default one",
                String::from_utf8_lossy(&name)
            )
        });
        return Some(Plan::Leave(warning));
    }
    let on_tablespace = |pair: &[Placed]| pair[0].token.is("on") && pair[1].token.is("tablespace");
    let verb_is_about_others = ["grant", "revoke", "comment", "security"];
    if token(0).is_some_and(|verb| verb.is_any(&verb_is_about_others)) {
        return placed
            .windows(2)
            .any(on_tablespace)
            .then_some(Plan::Leave(None));
    }
    const PARAMETERS: [&str; 2] = ["default_tablespace", "temp_tablespaces"];
    let names_parameter = placed.windows(2).position(|pair| {
        pair[0].token.is("set")
            && pair[1]
                .token
                .name()
                .is_some_and(|name| PARAMETERS.iter().any(|known| name == known.as_bytes()))
    });
    if let Some(at) = names_parameter {
        let value = placed.get(at + 3).map(|placed| &placed.token);
        let is_default = matches!(value, Some(Token::Literal(text)) if text.is_empty());
        return (!is_default).then_some(Plan::Leave(None));
    }
    if is(0, "alter")
        && placed
            .windows(2)
            .any(|pair| pair[0].token.is("set") && pair[1].token.is("tablespace"))
    {
        return Some(Plan::Leave(None));
    }
    if is(0, "create") {
        edits::default_tablespace(placed, edits);
    }
    None
}

/// The statement that creates a role if it does not exist.
fn create_role(role: &[u8]) -> Vec<u8> {
    let name = literal(role);
    let create = [
        b"DO $multidb$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ",
        name.as_slice(),
        b") THEN EXECUTE pg_catalog.format('CREATE ROLE %I LOGIN', ",
        &name,
        b"); END IF; END$multidb$",
    ];
    create.concat()
}

/// An SQL literal that does not depend on `standard_conforming_strings`.
pub(in crate::import) fn literal(text: &[u8]) -> Vec<u8> {
    let mut literal = b"E'".to_vec();
    for &byte in text {
        if matches!(byte, b'\'' | b'\\') {
            literal.push(byte);
        }
        literal.push(byte);
    }
    literal.push(b'\'');
    literal
}

#[cfg(test)]
mod tests;
