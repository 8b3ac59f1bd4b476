//! How clients connect to an instance, to be copied.

use actix_web::HttpRequest;
use maud::{Markup, html};

use crate::control::model::InstanceView;
use crate::web::Service;
use crate::web::guard::{Visitor, host_name};
use crate::web::layout::Problem;
use crate::web::text::encoded;

/// Where the database is, by the name that the browser knows the machine by.
struct Target {
    host: String,
    port: String,
    user: String,
    database: String,
    needs_password: bool,
}

/// The strings for this instance.
pub(super) async fn strings(
    request: &HttpRequest,
    control: &Service,
    visitor: &Visitor,
    instance: &InstanceView,
) -> Result<Markup, Problem> {
    let status = control.status(&visitor.caller).await?;
    let projects = control.list_projects(&visitor.caller).into_iter();
    let mut project = projects.filter(|project| project.name == instance.project);
    let database = project.next().map(|project| project.database);
    let listeners = status.listen.iter();
    let mut ports = listeners.filter_map(|address| Some(address.rsplit_once(':')?.1.to_owned()));
    let connection = request.connection_info();
    let target = Target {
        host: host_name(connection.host()).to_owned(),
        port: ports.next().unwrap_or_else(|| "6432".to_owned()),
        user: user(visitor, instance),
        database: database.unwrap_or_else(|| "DATABASE".to_owned()),
        needs_password: !visitor.is_trusted,
    };
    Ok(target.html())
}

/// The user name of the connection, without a revision: the instance exists.
fn user(visitor: &Visitor, instance: &InstanceView) -> String {
    let user = visitor.name.replace('%', "%25").replace(',', "%2C");
    if visitor.is_trusted {
        format!("instance:{}", instance.name)
    } else {
        format!("instance:{},user:{user}", instance.name)
    }
}

impl Target {
    fn html(&self) -> Markup {
        html! {
            @for (key, name, text) in self.all() {
                div.copy {
                    h3 { (name) }
                    pre id={ "copy-" (key) } tabindex="0" { (text) }
                    button.script type="button" data-copy={ "copy-" (key) } hidden { "Copy" }
                }
            }
            @if self.needs_password {
                p.note { "PASSWORD stands for yours. Best it is read from the environment, as DATABASE_URL is." }
            }
        }
    }

    fn all(&self) -> [(&'static str, &'static str, String); 5] {
        let url = self.url();
        let (host, port, user, database) = (&self.host, &self.port, &self.user, &self.database);
        let password = if self.needs_password { "PASSWORD" } else { "" };
        [
            (
                "psql",
                "psql",
                format!(
                    "psql -h {host} -p {port} -U {} {}",
                    shell(user),
                    shell(database)
                ),
            ),
            (
                "django",
                "Django, settings.py",
                format!(
                    "DATABASES = {{\"default\": {{\n    \"ENGINE\": \"django.db.backends.postgresql\",\n    \
                     \"HOST\": \"{host}\",\n    \"PORT\": {port},\n    \"USER\": \"{user}\",\n    \
                     \"PASSWORD\": \"{password}\",\n    \"NAME\": \"{database}\",\n}}}}"
                ),
            ),
            (
                "rails",
                "Rails, config/database.yml",
                format!(
                    "development:\n  adapter: postgresql\n  host: {host}\n  port: {port}\n  \
                     username: \"{user}\"\n  password: \"{password}\"\n  database: {database}"
                ),
            ),
            (
                "jdbc",
                "JDBC",
                format!(
                    "jdbc:postgresql://{}:{port}/{}?user={}&password={password}",
                    self.bracketed_host(),
                    encoded(database),
                    encoded(user)
                ),
            ),
            (
                "node",
                "Node, pg",
                format!("new Pool({{ connectionString: \"{url}\" }})"),
            ),
        ]
    }

    fn url(&self) -> String {
        let password = if self.needs_password { ":PASSWORD" } else { "" };
        format!(
            "postgres://{}{password}@{}:{}/{}",
            encoded(&self.user),
            self.bracketed_host(),
            self.port,
            encoded(&self.database)
        )
    }

    /// An IPv6 address stands in brackets in a URL.
    fn bracketed_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:%/".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_for_a_shell_is_one_word() {
        for (word, expected) in [
            ("instance:a,user:b", "instance:a,user:b"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
            ("", "''"),
        ] {
            assert_eq!(shell(word), expected);
        }
    }

    #[test]
    fn url_is_encoded() {
        let target = Target {
            host: "::1".to_owned(),
            port: "6432".to_owned(),
            user: "instance:a,user:b".to_owned(),
            database: "my db".to_owned(),
            needs_password: true,
        };
        assert_eq!(
            target.url(),
            "postgres://instance%3Aa%2Cuser%3Ab:PASSWORD@[::1]:6432/my%20db"
        );
    }
}
