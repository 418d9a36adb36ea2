//! Wire types that server and CLI share, below `/api`.
//!
//! Pure. Core types are free to change; these change only with the API.

pub mod action;
pub mod check;
pub mod cluster;
pub mod composition;
pub mod copy;
pub mod deployment;
pub mod event;
pub mod export;
pub mod image;
pub mod lifecycle;
pub mod link;
pub mod server;
pub mod snapshot;
pub mod validation;
pub mod why;

pub use action::{ActionAccepted, ActionRequest, ActionState, Command, Draft, ExecRequest, LogEntry, LogIndex, PlanOptions, UpOptions};
pub use check::{CheckOptions, CheckOutcome, CheckReport, Checked};
pub use composition::Composition;
pub use deployment::{
    CreateDeployment, DeploymentInfo, DeploymentState, DeploymentSummary, GuestState, NicState, OperationSummary, Phase, PlanDocument,
    RunState,
};
pub use export::{ExportManifest, ExportedFile};
pub use image::{CatalogueEntry, ImageInfo, ImageRequest, ImageSource, RemovedImages};
pub use server::{CheckResult, Health, LoginLink, Orphan, Ready, Version};
pub use snapshot::{CreateSnapshot, SnapshotInfo, SnapshotOperation, SnapshotReport, SnapshotRequest};
pub use validation::Validation;
pub use why::{Culprit, Traffic, WhyAnswer, WhyRequest};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// The body of every response that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The problem itself: `code`, `message`, `hint`, `causes`, `at`, `diagnostics`.
    // `flatten` loses places only when reading nested documents by hand; here both ends are ours and it keeps the
    // documented shape.
    #[serde(flatten)]
    pub problem: Problem,
    /// The request's id, also in the `x-request-id` header and in the server's log.
    #[serde(default)]
    pub request_id: String,
}
