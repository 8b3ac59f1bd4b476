//! The tokens in the users file, beside their users.

use anyhow::bail;
use jiff::Timestamp;
use multidb_actors::auth::{BearerToken, Scope};
use toml_edit::{Item, Table, TableLike, value};

use super::{UsersFile, no_such_user};

/// The most tokens of one user: each is compared where a token is checked.
const TOKENS_MAX: usize = 100;
const TABLE: &str = "tokens";

/// A new token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The rights of its bearer.
    pub scope: Scope,
    /// When it is made.
    pub created_at: Timestamp,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
    /// Its purpose, for people.
    pub label: Option<String>,
}

impl UsersFile {
    /// Adds a token, of which the file has the hash alone.
    ///
    /// # Errors
    ///
    /// The file has no user of this name, or the user has too many tokens.
    pub fn add_token(
        &mut self,
        user: &str,
        token: &BearerToken,
        new: &NewToken,
    ) -> anyhow::Result<()> {
        let mut table = Table::new();
        table["sha256"] = value(token.hash().to_string());
        table["scope"] = value(new.scope.name());
        table["created_at"] = value(new.created_at.to_string());
        if let Some(end) = new.expires_at {
            table["expires_at"] = value(end.to_string());
        }
        if let Some(label) = &new.label {
            table["label"] = value(label);
        }
        let user_table = self.user(user)?;
        if !user_table.contains_key(TABLE) {
            let mut tokens = Table::new();
            tokens.set_implicit(true);
            user_table.insert(TABLE, Item::Table(tokens));
        }
        let tokens = user_table.get_mut(TABLE).and_then(Item::as_table_like_mut);
        let Some(tokens) = tokens.filter(|tokens| tokens.len() < TOKENS_MAX) else {
            bail!("user \"{user}\" has {TOKENS_MAX} tokens; remove one that is not needed");
        };
        tokens.insert(token.id(), Item::Table(table));
        Ok(())
    }

    /// Removes a token, which is refused from then on.
    ///
    /// # Errors
    ///
    /// The file has no user of this name, or the user has no token of this id.
    pub fn remove_token(&mut self, user: &str, id: &str) -> anyhow::Result<()> {
        let user_table = self.user(user)?;
        let tokens = user_table.get_mut(TABLE).and_then(Item::as_table_like_mut);
        let Some(tokens) = tokens.filter(|tokens| tokens.contains_key(id)) else {
            bail!(
                "user \"{user}\" has no token \"{id}\"; \"multidb user token ls\" lists the tokens"
            );
        };
        tokens.remove(id);
        if tokens.is_empty() {
            user_table.remove(TABLE);
        }
        Ok(())
    }

    fn user(&mut self, name: &str) -> anyhow::Result<&mut dyn TableLike> {
        let user = self.document.get_mut(name);
        let user = user.and_then(Item::as_table_like_mut);
        user.ok_or_else(|| no_such_user(name, &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_users_file;
    use crate::users::NewUser;

    #[test]
    fn tokens_are_kept_as_hashes_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let mut file = UsersFile::open(&path).unwrap();
        let staff = NewUser {
            roles: vec!["app".to_owned()],
            ..NewUser::default()
        };
        file.add("alice smith", "secret", &staff).unwrap();
        let (token, other) = (BearerToken::random(), BearerToken::random());
        let now = Timestamp::now();
        let new = NewToken {
            scope: Scope::Use,
            created_at: now,
            expires_at: Some(now),
            label: Some("the \"CI\"".to_owned()),
        };
        file.add_token("alice smith", &token, &new).unwrap();
        file.add_token("alice smith", &other, &new).unwrap();
        assert!(file.add_token("bob", &other, &new).is_err());
        file.save().unwrap();
        // Other changes leave them alone.
        file.set_password("alice smith", "other").unwrap();
        file.add("carol", "x", &staff).unwrap();
        file.save().unwrap();
        drop(file);

        let text = std::fs::read_to_string(&path).unwrap();
        let revealed = token.reveal();
        // The secret may have the separator in it.
        let secret = revealed.splitn(3, '_').nth(2).unwrap();
        assert!(!text.contains(secret), "{text}");
        let users = read_users_file(&path).unwrap();
        let stored = &users["alice smith"].tokens;
        assert_eq!(stored.len(), 2);
        let stored = stored
            .iter()
            .find(|stored| stored.id == token.id())
            .unwrap();
        assert_eq!(stored.hash, token.hash());
        assert_eq!((stored.scope, stored.expires_at), (Scope::Use, Some(now)));
        assert_eq!(stored.label.as_deref(), Some("the \"CI\""));

        let mut file = UsersFile::open(&path).unwrap();
        assert!(file.remove_token("alice smith", "nothing").is_err());
        assert!(file.remove_token("carol", token.id()).is_err());
        file.remove_token("alice smith", token.id()).unwrap();
        file.remove_token("alice smith", other.id()).unwrap();
        file.save().unwrap();
        let users = read_users_file(&path).unwrap();
        assert_eq!(users["alice smith"].tokens, []);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("tokens"));
    }
}
