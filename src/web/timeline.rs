//! Past and future events, in the order of time.

use jiff::Timestamp;
use maud::{Markup, html};

use super::text::{exact, relative};

/// Facts with their times.
#[derive(Default)]
pub(super) struct Timeline(Vec<(Timestamp, Markup)>);

impl Timeline {
    /// Adds a fact.
    pub(super) fn add(&mut self, at: Timestamp, what: impl maud::Render) {
        self.0.push((at, html! { (what) }));
    }

    /// Adds a fact whose time is known.
    pub(super) fn add_if(&mut self, at: Option<Timestamp>, what: impl maud::Render) {
        if let Some(at) = at {
            self.add(at, what);
        }
    }

    /// The list, the earliest first; what is to come is told apart.
    pub(super) fn html(mut self, now: Timestamp) -> Markup {
        self.0.sort_by_key(|(at, _)| *at);
        html! {
            ol.timeline {
                @for (at, what) in &self.0 {
                    li class=[(*at > now).then_some("future")] {
                        time datetime=(exact(*at)) { (at.strftime("%Y-%m-%d %H:%M UTC")) }
                        small { (relative(*at, now)) }
                        span { (what) }
                    }
                }
            }
        }
    }
}
