//! The description of the paths (OpenAPI 3.1), from their handlers and types.
//!
//! A handler without a description is no service of a [`Paths`], so that each path is described.

use std::collections::BTreeMap;

use actix_web::App;
use actix_web::dev::ResourceDef;
use actix_web::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    Tag, Type,
};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};
use utoipa_actix_web::AppExt as _;

/// Paths with their descriptions.
pub(crate) type Paths<'a> = utoipa_actix_web::service_config::ServiceConfig<'a>;

/// The version of the API, which grows when a client has to change.
const VERSION: &str = "1";

/// The form of errors over the network (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status says the kind, and `code` more exactly what the problem is.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The words of the status.
    pub(crate) title: String,
    /// The status.
    pub(crate) status: u16,
    /// What happened, for people.
    pub(crate) detail: String,
    /// A stable word in `snake_case`, for programs.
    pub(crate) code: String,
    /// Advice, in a sentence.
    pub(crate) hint: Option<String>,
}

/// The media type of a [`Problem`].
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The failures of all paths.
pub(crate) struct Problems;

/// When they happen.
const PROBLEMS: [(StatusCode, &str); 12] = [
    (
        StatusCode::BAD_REQUEST,
        "A value of the request is invalid.",
    ),
    (
        StatusCode::UNAUTHORIZED,
        "The password or the token is missing, wrong or has ended.",
    ),
    (
        StatusCode::FORBIDDEN,
        "The user, or the scope of the token, may not do this.",
    ),
    (
        StatusCode::NOT_FOUND,
        "It does not exist, or the user may not know of it.",
    ),
    (StatusCode::CONFLICT, "What exists is in the way."),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too long."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is no JSON."),
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "The Idempotency-Key was used for another request.",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "Too many attempts; Retry-After has the seconds.",
    ),
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "It failed; the log of multidb has more.",
    ),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Not now; Retry-After has the seconds, where they are known.",
    ),
    (
        StatusCode::REQUEST_TIMEOUT,
        "The request was sent too slowly.",
    ),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = |(status, when): (StatusCode, &str)| {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new()
                .description(when)
                .content(PROBLEM_JSON, content)
                .build();
            (status.as_str().to_owned(), RefOr::T(response))
        };
        PROBLEMS.into_iter().map(problem).collect()
    }
}

/// The description, with the paths that the network alone has.
pub(crate) fn document(more: impl FnOnce(&mut Paths<'_>)) -> OpenApi {
    let described = App::new().into_utoipa_app().configure(|paths| {
        super::describe(paths);
        more(paths);
    });
    let (_, mut document) = described.split_for_parts();
    document.info = InfoBuilder::new()
        .title("multidb")
        .version(VERSION)
        .description(Some("Copy-on-write instances of Postgres."))
        .build();
    document.tags = Some(
        [
            "instances",
            "snapshots",
            "jobs",
            "connections",
            "dedup",
            "daemon",
            "hooks",
        ]
        .map(Tag::new)
        .into(),
    );
    document.security = Some(vec![requirement("token"), requirement("password")]);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            if path.starts_with("/v1/") {
                let parameters = operation.parameters.get_or_insert_default();
                parameters.push(idempotency_key().into());
            }
        }
    }
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert("Problem".to_owned(), Problem::schema());
    let schemes = [
        ("token", HttpAuthScheme::Bearer),
        ("password", HttpAuthScheme::Basic),
    ];
    for (name, scheme) in schemes {
        let scheme = SecurityScheme::Http(Http::new(scheme));
        let scheme = RefOr::T(scheme);
        components.security_schemes.insert(name.to_owned(), scheme);
    }
    document
}

fn idempotency_key() -> Parameter {
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[!-~]{1,255}$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A request with the same key gets the same answer for 24 hours, without being carried out again.",
        ))
        .schema(Some(key))
        .build()
}

fn requirement(name: &str) -> SecurityRequirement {
    SecurityRequirement::new(name, Vec::<String>::new())
}

/// The methods of each path.
#[derive(Clone)]
pub(crate) struct Methods(Vec<(ResourceDef, Vec<Method>)>);

impl Methods {
    /// Those that are described.
    pub(crate) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter();
        let methods = paths.map(|(path, item)| {
            let methods: [(Method, &Option<Operation>); 4] = [
                (Method::DELETE, &item.delete),
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
            ];
            let known = methods
                .into_iter()
                .filter(|(_, operation)| operation.is_some());
            let known = known.map(|(method, _)| method).collect();
            (ResourceDef::new(path.as_str()), known)
        });
        Self(methods.collect())
    }

    /// The methods that a path has. One that is written out hides those with a name.
    pub(crate) fn of_path(&self, path: &str) -> Vec<Method> {
        let mut matching = self.0.iter().filter(|(known, _)| known.is_match(path));
        let whole = self
            .0
            .iter()
            .find(|(known, _)| known.pattern() == Some(path));
        let found = whole.or_else(|| matching.next());
        found.map_or_else(Vec::new, |(_, methods)| methods.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_a_description_and_a_name_of_its_own() {
        let document = document(|_| {});
        let mut names = Vec::new();
        for (path, item) in &document.paths.paths {
            assert!(path.starts_with("/v1/") || path == "/metrics", "{path}");
            let operations = [&item.get, &item.post, &item.put, &item.delete];
            for operation in operations.into_iter().flatten() {
                let name = operation.operation_id.clone().unwrap();
                assert!(operation.summary.is_some(), "{name}");
                assert_eq!(operation.tags.as_ref().map(Vec::len), Some(1), "{name}");
                let answers = &operation.responses.responses;
                assert!(
                    answers.keys().any(|status| status.starts_with('2')),
                    "{name}"
                );
                assert!(answers.contains_key("409"), "{name}");
                names.push(name);
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 25, "{names:?}");
    }

    #[test]
    fn path_has_its_methods() {
        let known = |path: &str| {
            let methods = Methods::of(&document(|_| {})).of_path(path);
            let words: Vec<_> = methods.iter().map(Method::as_str).collect();
            words.join(", ")
        };
        assert_eq!(known("/v1/instances"), "GET, POST");
        assert_eq!(known("/v1/instances/a"), "DELETE, GET");
        assert_eq!(known("/v1/instances/a/stop"), "POST");
        assert_eq!(known("/v1/snapshots/explain"), "GET");
        assert_eq!(known("/v1/nothing"), "");
    }
}
