//! The statements of a text.

use super::drivers::check_setting;
use super::lexer::{Token, tokens};
use super::{
    Argument, ConsoleError, Function, InstanceCommand, Listing, SelectItem, SessionSetting,
    Statement,
};
use crate::request::RequestError;

/// Parses a text of statements separated by semicolons. A fault in any of them is that of the whole text.
///
/// # Errors
///
/// It has something else than statements of the console.
pub fn parse(text: &str) -> Result<Vec<Statement>, ConsoleError> {
    let tokens = tokens(text)?;
    let parts = tokens.split(|token| *token == Token::Symbol(';'));
    let parts = parts.filter(|tokens| !tokens.is_empty());
    parts.map(|tokens| statement(tokens, text)).collect()
}

/// The rest of a statement.
struct Parser<'a> {
    rest: &'a [Token],
}

fn statement(tokens: &[Token], text: &str) -> Result<Statement, ConsoleError> {
    let mut parser = Parser { rest: tokens };
    let parsed = parser
        .statement()
        .and_then(|statement| parser.end(statement));
    parsed.map_err(|error| match error {
        ConsoleError::Syntax { .. } if asks_for_tables(text) => ConsoleError::NoTables,
        error => error,
    })
}

/// Whether it is a query of a catalog: psql, drivers and tools read them without being asked.
fn asks_for_tables(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["pg_catalog", "information_schema", " pg_"]
        .iter()
        .any(|catalog| text.contains(catalog))
}

impl Parser<'_> {
    fn next(&mut self) -> Option<&Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next keyword, in upper case, which is not taken.
    fn peek(&self) -> Option<String> {
        self.rest.first().and_then(Token::keyword)
    }

    /// Takes this keyword if it is the next one.
    fn take(&mut self, keyword: &str) -> bool {
        let is_next = self.peek().as_deref() == Some(keyword);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Takes this character if it is the next one.
    fn take_symbol(&mut self, symbol: char) -> bool {
        let is_next = self.rest.first() == Some(&Token::Symbol(symbol));
        if is_next {
            self.next();
        }
        is_next
    }

    fn expect(&mut self, keyword: &str) -> Result<(), ConsoleError> {
        if self.take(keyword) {
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    /// The next word belongs to no statement.
    fn fault(&self) -> ConsoleError {
        ConsoleError::Syntax {
            near: self.rest.first().map(Token::text),
        }
    }

    fn end(&self, statement: Statement) -> Result<Statement, ConsoleError> {
        if self.rest.is_empty() {
            Ok(statement)
        } else {
            Err(self.fault())
        }
    }

    fn statement(&mut self) -> Result<Statement, ConsoleError> {
        let keyword = self.peek().unwrap_or_default();
        let names_instance = self.rest.get(1).and_then(Token::keyword);
        if let Some(command) = InstanceCommand::of_keyword(&keyword)
            && names_instance.as_deref() == Some("INSTANCE")
        {
            self.rest = self.rest.get(2..).unwrap_or_default();
            return Ok(Statement::Command(
                command,
                self.argument(super::instance_name)?,
            ));
        }
        match keyword.as_str() {
            "SHOW" => self.show(),
            "EXPLAIN" => self.explain(),
            "SELECT" => self.select(),
            "BEGIN" => Ok(self.all_of(Statement::Begin)),
            "START" if names_instance.as_deref() == Some("TRANSACTION") => {
                Ok(self.all_of(Statement::Begin))
            }
            "COMMIT" | "END" => self.end_of_transaction(Statement::Commit),
            "ROLLBACK" | "ABORT" => self.end_of_transaction(Statement::Rollback),
            "SET" => self.set(),
            "RESET" if self.rest.len() == 2 => Ok(self.all_of(Statement::Nothing("RESET"))),
            "DISCARD" => self.only("ALL", Statement::DiscardAll),
            "CLOSE" => self.only("ALL", Statement::Nothing("CLOSE CURSOR ALL")),
            "UNLISTEN" => {
                self.next();
                if self.take_symbol('*') {
                    Ok(Statement::Nothing("UNLISTEN"))
                } else {
                    Err(self.fault())
                }
            }
            "DEALLOCATE" => self.deallocate(),
            _ => Err(self.fault()),
        }
    }

    /// The statement, with any words after its keyword.
    fn all_of(&mut self, statement: Statement) -> Statement {
        self.rest = &[];
        statement
    }

    /// The statement, of two keywords.
    fn only(&mut self, second: &str, statement: Statement) -> Result<Statement, ConsoleError> {
        self.next();
        self.expect(second)?;
        Ok(statement)
    }

    fn end_of_transaction(&mut self, statement: Statement) -> Result<Statement, ConsoleError> {
        self.next();
        let _optional = self.take("WORK") || self.take("TRANSACTION");
        Ok(statement)
    }

    fn show(&mut self) -> Result<Statement, ConsoleError> {
        self.next();
        let listing = match self.peek().unwrap_or_default().as_str() {
            "INSTANCES" => Listing::Instances,
            "SNAPSHOTS" => Listing::Snapshots,
            "CONNECTIONS" => Listing::Connections,
            "JOBS" => Listing::Jobs,
            "STATUS" => Listing::Status,
            "LIMITS" => Listing::Limits,
            "HELP" => {
                self.next();
                return Ok(Statement::Help);
            }
            "INSTANCE" => {
                self.next();
                return Ok(Statement::ShowInstance(
                    self.argument(super::instance_name)?,
                ));
            }
            _ => return self.show_setting(),
        };
        self.next();
        Ok(Statement::List(listing))
    }

    /// Some have a name of several words.
    fn show_setting(&mut self) -> Result<Statement, ConsoleError> {
        let words: Option<Vec<String>> = self.rest.iter().map(Token::keyword).collect();
        let name = match words.unwrap_or_default().join(" ").as_str() {
            "TRANSACTION ISOLATION LEVEL" => "transaction_isolation".to_owned(),
            "TIME ZONE" => "TimeZone".to_owned(),
            "SESSION AUTHORIZATION" => "session_authorization".to_owned(),
            name => name.to_owned(),
        };
        match SessionSetting::of_name(&name) {
            Some(setting) => Ok(self.all_of(Statement::ShowSetting(setting))),
            None => Err(self.fault()),
        }
    }

    fn explain(&mut self) -> Result<Statement, ConsoleError> {
        self.next();
        self.expect("GITREF")?;
        let gitref = self.argument(super::revision)?;
        let project = if self.take("PROJECT") {
            Some(self.argument(super::project_name)?)
        } else {
            None
        };
        Ok(Statement::Explain { gitref, project })
    }

    /// A name or another value: bare, quoted, or a parameter.
    fn argument<T>(
        &mut self,
        read: fn(&str) -> Result<T, RequestError>,
    ) -> Result<Argument<T>, ConsoleError> {
        let fault = self.fault();
        match self.next() {
            Some(Token::Bare(text) | Token::Quoted(text)) => Ok(Argument::Given(read(text)?)),
            Some(Token::Parameter(number)) if *number > 0 => Ok(Argument::Parameter(*number)),
            Some(Token::Parameter(_) | Token::Symbol(_)) | None => Err(fault),
        }
    }

    fn select(&mut self) -> Result<Statement, ConsoleError> {
        self.next();
        let mut items = Vec::new();
        loop {
            items.push(self.select_item()?);
            if !self.take_symbol(',') {
                return Ok(Statement::Select(items));
            }
        }
    }

    fn select_item(&mut self) -> Result<SelectItem, ConsoleError> {
        let fault = self.fault();
        let Some(Token::Bare(word)) = self.next() else {
            return Err(fault);
        };
        let (function, without_parentheses) = Function::of_name(word).ok_or(fault)?;
        let name = word.to_ascii_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name).to_owned();
        let opened = self.take_symbol('(');
        if opened && !self.take_symbol(')') || !opened && !without_parentheses {
            return Err(self.fault());
        }
        let name = if self.take("AS") {
            let fault = self.fault();
            match self.next() {
                Some(Token::Bare(alias) | Token::Quoted(alias)) => alias.clone(),
                _ => return Err(fault),
            }
        } else {
            name
        };
        Ok(SelectItem { function, name })
    }

    /// `SET [SESSION | LOCAL] name {= | TO} value`, or one of its other forms.
    fn set(&mut self) -> Result<Statement, ConsoleError> {
        self.next();
        let _scope = self.take("SESSION") || self.take("LOCAL");
        let fault = self.fault();
        let Some(name) = self.peek() else {
            return Err(fault);
        };
        self.next();
        match name.as_str() {
            // Of a transaction, which here has none.
            "TRANSACTION" | "CHARACTERISTICS" => return Ok(self.all_of(Statement::Nothing("SET"))),
            "TIME" => self.expect("ZONE")?,
            "NAMES" => {}
            _ if self.take("TO") || self.take_symbol('=') => {}
            _ => return Err(self.fault()),
        }
        if self.rest.is_empty() {
            return Err(self.fault());
        }
        let value: Vec<String> = self.rest.iter().map(Token::text).collect();
        let (name, value) = (name.to_ascii_lowercase(), value.concat());
        check_setting(&name, &value)?;
        Ok(self.all_of(Statement::Set(name, value)))
    }

    fn deallocate(&mut self) -> Result<Statement, ConsoleError> {
        self.next();
        let _optional = self.take("PREPARE");
        if self.take("ALL") {
            return Ok(Statement::Deallocate(None));
        }
        let fault = self.fault();
        match self.next() {
            Some(Token::Bare(name) | Token::Quoted(name)) => {
                Ok(Statement::Deallocate(Some(name.clone())))
            }
            _ => Err(fault),
        }
    }
}
