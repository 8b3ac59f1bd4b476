//! The frame of each page, the page of an error, and the page of a question.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::guard::{LIVE, TOKEN, Visitor};
use crate::admin::server::failure::Failure;
use crate::control::ControlError;

/// A handler's answer.
pub(super) type Answer = Result<HttpResponse, Problem>;

/// The pages of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The instances, or one of them.
    Instances,
    /// The snapshots, or one of them.
    Snapshots,
    /// Why a revision gets its snapshot.
    Explain,
    /// The jobs, or one of them.
    Jobs,
    /// The open sessions.
    Sessions,
    /// The daemon and its machine.
    System,
}

const SECTIONS: [(Section, &str, &str); 6] = [
    (Section::Instances, "/instances", "Instances"),
    (Section::Snapshots, "/snapshots", "Snapshots"),
    (Section::Explain, "/explain", "Why this snapshot"),
    (Section::Jobs, "/jobs", "Jobs"),
    (Section::Sessions, "/sessions", "Sessions"),
    (Section::System, "/system", "System"),
];

/// One page.
pub(super) struct Page<'a> {
    /// Its heading.
    pub(super) title: &'a str,
    /// Where it is.
    pub(super) section: Section,
    /// Who sees it.
    pub(super) visitor: &'a Visitor,
    /// After how many seconds the script asks for it again; none for a page that does not change.
    pub(super) every: Option<u32>,
    /// What is below the heading.
    pub(super) body: Markup,
}

impl Page<'_> {
    /// The answer to this request: that nothing has changed, where the script has the same page.
    pub(super) fn answer(self, request: &HttpRequest) -> HttpResponse {
        let text = self.html().into_string();
        if !request.headers().contains_key(LIVE) {
            return HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .body(text);
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let known = request.headers().get(IF_NONE_MATCH);
        if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return HttpResponse::NotModified()
                .insert_header((ETAG, tag))
                .finish();
        }
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((ETAG, tag))
            .body(text)
    }

    fn html(&self) -> Markup {
        let every = self.every;
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(self.title))
                body data-every=[every] {
                    a.skip href="#main" { "Skip to the content" }
                    (navigation(Some(self.section), Some(self.visitor)))
                    main #main tabindex="-1" {
                        div.title {
                            h1 { (self.title) }
                            @if every.is_some() {
                                p.live #live hidden {
                                    span #live-text role="status" {}
                                    " "
                                    button #live-pause type="button" { "Pause" }
                                }
                            }
                        }
                        div #content { (self.body) }
                    }
                }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · multidb" }
            link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
            link rel="stylesheet" href=(assets::STYLE.path());
            script src=(assets::SCRIPT.path()) defer {}
        }
    }
}

fn navigation(section: Option<Section>, visitor: Option<&Visitor>) -> Markup {
    html! {
        header {
            nav aria-label="Pages" {
                @for (other, path, name) in SECTIONS {
                    a href=(path) aria-current=[(section == Some(other)).then_some("page")] { (name) }
                }
            }
            @if let Some(visitor) = visitor {
                div.who {
                    span { (visitor.name) @if visitor.caller.is_admin() { " (admin)" } }
                    @if visitor.is_trusted {
                        span.note { "no password asked" }
                    } @else {
                        form method="post" action="/logout" {
                            (token(visitor))
                            button type="submit" { "Log out" }
                        }
                    }
                }
            }
        }
    }
}

/// The field of a form that shows that it is of a page of ours.
pub(super) fn token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(visitor.token); }
}

/// A page without navigation.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare { main #main { (body) } }
        }
    }
}

/// A question before something is done that cannot be undone.
pub(super) struct Question<'a> {
    /// What is asked.
    pub(super) title: String,
    /// What it means, in sentences.
    pub(super) means: Markup,
    /// The path of what it is about. The command is below it.
    pub(super) of: &'a str,
    /// The command, as its path has it.
    pub(super) command: &'a str,
    /// The words on the button that does it.
    pub(super) yes: &'a str,
    /// The page to go back to, if not that of what it is about.
    pub(super) back: Option<&'a str>,
}

impl Question<'_> {
    /// The page.
    pub(super) fn answer(
        self,
        request: &HttpRequest,
        section: Section,
        visitor: &Visitor,
    ) -> HttpResponse {
        let body = html! {
            form.question method="post" action={ (self.of) "/" (self.command) } {
                (token(visitor))
                (self.means)
                p.buttons {
                    button.danger type="submit" { (self.yes) }
                    a.button href=(self.back.unwrap_or(self.of)) { "Cancel" }
                }
            }
        };
        Page {
            title: &self.title,
            section,
            visitor,
            every: None,
            body,
        }
        .answer(request)
    }
}

/// Why there is no page, for people.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Problem {
    /// A problem that is none of `control`.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// With what to do about it, as a sentence.
    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// There is nothing at this path.
    pub(super) fn no_such_page(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no page {path}"))
    }

    /// What a browser has sent cannot be read.
    pub(super) fn bad_request(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    /// The problem within a page.
    pub(super) fn within_page(&self) -> Markup {
        html! {
            div.problem role="alert" {
                p { (self.message) }
                @if let Some(detail) = &self.detail { pre { (detail) } }
                @if let Some(hint) = &self.hint { p { (hint) } }
            }
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let failure = Failure::from(error);
        let (detail, hint) = failure.detail_and_hint();
        Self {
            status: failure.status_code(),
            message: failure.to_string(),
            detail,
            hint,
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(title))
                body {
                    (navigation(None, None))
                    main #main {
                        h1 { (title) }
                        (self.within_page())
                        p { a href="/instances" { "Back to the instances" } }
                    }
                }
            }
        };
        HttpResponse::build(self.status)
            .content_type("text/html; charset=utf-8")
            .body(page.into_string())
    }
}
