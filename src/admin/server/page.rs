//! Lists in pages.

use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::failure::{Failure, bad_request};
use crate::admin::api::PageQuery;

/// What a page is read with: one entry more than it has, which tells whether there is a next one.
pub(super) fn looked_at(limit: Option<usize>) -> Option<usize> {
    limit.map(|limit| limit.saturating_add(1))
}

/// The answer with at most so many of these entries. The link to the next page, if there is one, has the key of the
/// last entry (RFC 8288).
pub(super) fn page<T: Serialize>(
    request: &HttpRequest,
    mut entries: Vec<T>,
    limit: Option<usize>,
    key: impl Fn(&T) -> String,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(limit) = limit
        && entries.len() > limit
    {
        entries.truncate(limit);
        if let Some(last) = entries.last() {
            let next = next_page(request, &key(last));
            response.insert_header((LINK, format!("<{next}>; rel=\"next\"")));
        }
    }
    response.json(entries)
}

/// The page of a whole list in its order.
pub(super) fn page_of<T: Serialize>(
    request: &HttpRequest,
    mut all: Vec<T>,
    query: &PageQuery,
    key: impl Fn(&T) -> String,
) -> Result<HttpResponse, Failure> {
    if let Some(after) = &query.after {
        let Some(at) = all.iter().position(|entry| key(entry) == *after) else {
            let message = format!("there is no \"{after}\" to begin after");
            return Err(bad_request(message));
        };
        all.drain(..=at);
    }
    Ok(page(request, all, query.limit, key))
}

/// The same request, but after this entry.
fn next_page(request: &HttpRequest, after: &str) -> String {
    let after = utf8_percent_encode(after, NON_ALPHANUMERIC);
    let kept = request.query_string().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
    let query: Vec<String> = kept
        .map(str::to_owned)
        .chain([format!("after={after}")])
        .collect();
    format!("{}?{}", request.path(), query.join("&"))
}
