//! `check`: which expectations are put to the test, and what came of each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::Draft;
use crate::{
    error::Place,
    names::{DeploymentName, GuestName},
};

/// Which checks are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckOptions {
    /// Only those of these names; all when empty.
    pub names: Vec<String>,
    /// The testbed file whose checks are run, instead of the stored one, which stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
}

/// What `check` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    /// The deployment.
    pub deployment: DeploymentName,
    /// How many checks passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many could not be asked.
    pub errors: usize,
    /// How long all of them took, in milliseconds.
    pub millis: u64,
    /// Each check, in the file's order.
    pub checks: Vec<Checked>,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// `ping`, `tcp`, `http`, `dns` or `exec`.
    pub kind: String,
    /// The guest that was asked.
    pub guest: GuestName,
    /// What it was asked, in words.
    pub asked: String,
    /// What is expected.
    pub expect: Expect,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// What was seen, or why nothing could be.
    pub seen: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// Where it stands in the testbed file.
    pub at: Place,
}

/// What is expected of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It is so.
    Pass,
    /// It is not so.
    Fail,
}

/// What can come of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It is as expected.
    Passed,
    /// It is not as expected.
    Failed,
    /// It could not be asked.
    Error,
}

impl std::fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Error => "error",
        })
    }
}
