//! Triggers, as JSON.

use ork_core::ids::RunId;
use ork_core::plan::WebhookAuth;
use ork_core::rows::Actor;
use ork_core::run::RunState;
use ork_core::types::Type;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::schema;
use crate::stamp::Stamp;

/// A trigger of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trigger {
    /// The workflow's name.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
    /// The version that declares it.
    pub version: i64,
    /// The address of a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How the sender of a webhook shows who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::webhook_auth)]
    pub auth: Option<WebhookAuth>,
    /// What the body of a webhook must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Type>,
    /// Whether a webhook has a secret; without one it takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_secret: Option<bool>,
    /// Who made that secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rotated_by: Option<Actor>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rotated_at: Option<Stamp>,
    /// The workflow whose runs' ends it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Which ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = schema::run_states)]
    pub states: Vec<RunState>,
    /// The params that it gives; others have their defaults.
    pub params: Vec<String>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Stamp,
}

/// An end of a run that a trigger waited for, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Firing {
    /// The run that ended.
    #[schema(value_type = String)]
    pub source: RunId,
    /// Its workflow.
    pub source_workflow: String,
    /// How it ended.
    #[schema(schema_with = schema::run_state)]
    pub source_state: RunState,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub fired_at: Stamp,
    /// The run that was started.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Why none was.
    pub reason: Option<String>,
    /// When that was decided; none: it is still to be.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<Stamp>,
}

/// Which triggers are listed; by workflow and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TriggerQuery {
    /// Of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// How many: 1 to 500 (50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Gives a webhook a new secret. The old one is of no use from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateTrigger {
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A webhook's new secret. It is shown here and never again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rotated {
    /// The workflow's name.
    pub workflow: String,
    /// The webhook's name in the workflow.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What the secret is for.
    #[schema(schema_with = schema::webhook_auth)]
    pub auth: WebhookAuth,
    /// The secret.
    pub secret: String,
}

/// What a delivery to a webhook came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivered {
    /// The run that it started.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Whether the same delivery was there before, and started it then.
    pub repeated: bool,
}
