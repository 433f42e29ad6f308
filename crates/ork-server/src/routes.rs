//! The table of routes: the one list from which the router, the access rules and the `OpenAPI`
//! document are made.

use std::sync::Arc;

use axum::Router;
use utoipa::OpenApi;

use crate::app::App;
use crate::handlers;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever has a token.
    Token,
    /// Whoever shows the secret of what is called; the handler asks for it.
    Signed,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method, in small letters.
    pub method: &'static str,
    /// The path, with its names in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

/// Whether a path is let in without a token: one that is open to all, or a webhook's.
pub(crate) fn is_open(path: &str) -> bool {
    let is = |route: &Route| match route.access {
        Access::Open => route.path == path,
        Access::Signed => is_hook(path),
        Access::Token => false,
    };
    ROUTES.iter().any(is)
}

/// Whether a path is a webhook's.
pub(crate) fn is_hook(path: &str) -> bool {
    path.strip_prefix("/hooks/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

macro_rules! routes {
    ($($method:ident $path:literal $access:ident $module:ident :: $handler:ident;)*) => {
        /// Every route of the server.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            access: Access::$access,
        }),*];

        pub(crate) fn router() -> Router<Arc<App>> {
            Router::new()$(.route($path, axum::routing::$method(handlers::$module::$handler)))*
        }

        #[derive(OpenApi)]
        #[openapi(
            info(title = "Ork", description = "Durable runs of typed workflows"),
            paths($(handlers::$module::$handler),*),
            components(schemas(
                ork_api::problem::Problem, ork_api::types::LogLine, ork_api::types::LogChunk,
                ork_api::types::Reset, ork_api::types::LogFormat
            )),
        )]
        pub(crate) struct Document;
    };
}

routes! {
    get "/healthz" Open meta::healthz;
    get "/readyz" Open meta::readyz;
    get "/api/v1/openapi.json" Token meta::openapi;
    get "/api/v1/me" Token meta::me;
    get "/api/v1/events" Token events::stream;
    post "/api/v1/projects/{project}/validate" Token workflows::validate;
    get "/api/v1/projects/{project}/workflows" Token workflows::list;
    post "/api/v1/projects/{project}/workflows" Token workflows::deploy;
    get "/api/v1/projects/{project}/workflows/{name}" Token workflows::show;
    patch "/api/v1/projects/{project}/workflows/{name}" Token workflows::describe;
    delete "/api/v1/projects/{project}/workflows/{name}" Token workflows::delete;
    get "/api/v1/projects/{project}/workflows/{name}/history" Token workflows::history;
    get "/api/v1/projects/{project}/workflows/{name}/diff" Token workflows::diff;
    post "/api/v1/projects/{project}/workflows/{name}/diff" Token workflows::diff_with;
    get "/api/v1/projects/{project}/workflows/{name}/versions" Token workflows::versions;
    get "/api/v1/projects/{project}/workflows/{name}/versions/{version}" Token workflows::version;
    get "/api/v1/projects/{project}/runs" Token runs::list;
    post "/api/v1/projects/{project}/runs" Token runs::create;
    get "/api/v1/projects/{project}/runs/{id}" Token runs::show;
    post "/api/v1/projects/{project}/runs/cancel" Token each::cancel;
    post "/api/v1/projects/{project}/runs/retry" Token each::retry;
    post "/api/v1/projects/{project}/runs/pause" Token each::pause;
    post "/api/v1/projects/{project}/runs/resume" Token each::resume;
    post "/api/v1/projects/{project}/runs/mark" Token each::mark;
    post "/api/v1/projects/{project}/runs/signal" Token each::signal;
    post "/api/v1/projects/{project}/runs/rerun" Token each::rerun;
    post "/api/v1/projects/{project}/runs/approve" Token each::approve;
    post "/api/v1/projects/{project}/runs/{id}/cancel" Token runs::cancel;
    post "/api/v1/projects/{project}/runs/{id}/retry" Token runs::retry;
    post "/api/v1/projects/{project}/runs/{id}/pause" Token operate::pause;
    post "/api/v1/projects/{project}/runs/{id}/resume" Token operate::resume;
    post "/api/v1/projects/{project}/runs/{id}/mark" Token operate::mark;
    post "/api/v1/projects/{project}/runs/{id}/signal" Token operate::signal;
    post "/api/v1/projects/{project}/runs/{id}/rerun" Token operate::rerun;
    post "/api/v1/projects/{project}/runs/{id}/tasks/{path}/approve" Token operate::approve;
    get "/api/v1/projects/{project}/approvals" Token operate::approvals;
    post "/api/v1/projects/{project}/workflows/{name}/pause" Token operate::pause_workflow;
    post "/api/v1/projects/{project}/workflows/{name}/resume" Token operate::resume_workflow;
    post "/api/v1/projects/{project}/pause" Token operate::pause_project;
    post "/api/v1/projects/{project}/resume" Token operate::resume_project;
    get "/api/v1/projects/{project}/pools" Token pools::list;
    put "/api/v1/projects/{project}/pools/{name}" Token pools::set;
    delete "/api/v1/projects/{project}/pools/{name}" Token pools::delete;
    get "/api/v1/projects/{project}/runs/{id}/explain" Token explain::explain;
    get "/api/v1/projects/{project}/runs/{id}/events" Token events::list;
    get "/api/v1/projects/{project}/runs/{id}/tasks" Token tasks::list;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}" Token tasks::show;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}/attempts" Token tasks::attempts;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}/attempts/{n}" Token tasks::attempt;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}/logs" Token logs::read;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}/artifacts" Token artifacts::list;
    get "/api/v1/projects/{project}/runs/{id}/tasks/{path}/artifacts/{name}" Token artifacts::read;
    get "/api/v1/projects/{project}/runs/{id}/artifacts" Token artifacts::of_run;
    get "/api/v1/projects/{project}/runs/{id}/logs" Token logs::of_run;
    get "/api/v1/projects/{project}/schedules" Token schedules::list;
    get "/api/v1/projects/{project}/schedules/{workflow}/{schedule}" Token schedules::show;
    get "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/ticks" Token schedules::ticks;
    get "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/preview" Token schedules::preview;
    post "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/pause" Token schedules::pause;
    post "/api/v1/projects/{project}/schedules/{workflow}/{schedule}/resume" Token schedules::resume;
    get "/api/v1/projects/{project}/triggers" Token triggers::list;
    get "/api/v1/projects/{project}/triggers/{workflow}/{trigger}" Token triggers::show;
    get "/api/v1/projects/{project}/triggers/{workflow}/{trigger}/firings" Token triggers::firings;
    post "/api/v1/projects/{project}/triggers/{workflow}/{trigger}/rotate" Token triggers::rotate;
    post "/hooks/{id}" Signed triggers::call;
    post "/api/v1/projects/{project}/workflows/{name}/backfill" Token backfills::create;
    get "/api/v1/projects/{project}/backfills" Token backfills::list;
    get "/api/v1/projects/{project}/backfills/{id}" Token backfills::show;
    post "/api/v1/projects/{project}/backfills/{id}/pause" Token backfills::pause;
    post "/api/v1/projects/{project}/backfills/{id}/resume" Token backfills::resume;
    post "/api/v1/projects/{project}/backfills/{id}/cancel" Token backfills::cancel;
    post "/api/v1/projects/{project}/backfills/{id}/retry" Token backfills::retry;
    head "/api/v1/projects/{project}/blobs/{digest}" Token blobs::check;
    get "/api/v1/projects/{project}/blobs/{digest}" Token blobs::read;
    put "/api/v1/projects/{project}/blobs/{digest}" Token blobs::put;
}
