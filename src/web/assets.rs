//! The stylesheet, the script and the icon, which are in the program. Their paths have the hash of their contents, so
//! browsers keep them until they change.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, get, web};
use sha2::{Digest, Sha256};

use super::layout::{Answer, Problem};

/// How long browsers keep a file whose path tells what is in it.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The look of all pages.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "css",
        "text/css; charset=utf-8",
        include_str!("assets/style.css"),
    )
});
/// Refreshes what is on the screen.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let script = include_str!("assets/page.js");
    Asset::new("js", "text/javascript; charset=utf-8", script)
});
/// The icon of the browser's tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// A file in the program.
pub(super) struct Asset {
    path: String,
    content_type: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(extension: &str, content_type: &'static str, text: &'static str) -> Self {
        let hash = Sha256::digest(text);
        let hash = hex::encode(&hash[..8]);
        Self {
            path: format!("/assets/{hash}.{extension}"),
            content_type,
            text,
        }
    }

    /// Where browsers find it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(asset);
}

#[get("/assets/{file}")]
async fn asset(file: web::Path<String>) -> Answer {
    let path = format!("/assets/{file}");
    let known = [&STYLE, &SCRIPT, &ICON];
    let found = known.into_iter().find(|asset| asset.path == path);
    let asset = found.ok_or_else(|| Problem::no_such_page(&path))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CACHE_CONTROL, FOR_EVER))
        .body(asset.text))
}
