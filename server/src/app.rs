//! What every handler can reach.

use std::sync::Arc;

use kvm_compose::{error::Problem, names::InstallationId};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{auth::Guard, cluster::Cluster, data::DataDir, metrics::Metrics, operations::Operations};

/// The server's state; clones share it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// See [`App`].
pub struct Inner {
    /// The actions and the records.
    pub operations: Arc<Operations>,
    /// The hosts beside this one; none over a fake driver.
    pub cluster: Option<Arc<Cluster>>,
    /// Where files are.
    pub data: DataDir,
    /// This installation.
    pub installation: InstallationId,
    /// Who may come in.
    pub guard: Guard,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Told when connections are to end.
    pub closing: CancellationToken,
    /// Holds connections and websockets until they have ended.
    pub tracker: TaskTracker,
    /// Questions to libvirt and OVN that may wait at once; others queue here and not in the pool of threads.
    pub observers: Semaphore,
    /// A larger image is not taken, in bytes.
    pub largest_image: u64,
}

/// Questions to the real parts at once.
pub const OBSERVERS: usize = 8;

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Shares the state.
    pub fn new(inner: Inner) -> Self {
        App(Arc::new(inner))
    }

    /// Runs a question to the real parts in a thread that may block, a few at once.
    pub async fn observe<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Operations) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let _permit = self.observers.acquire().await.map_err(|error| Problem::internal("the observers are closed").cause(error))?;
        self.store(work).await
    }

    /// Runs work on records and files in a thread that may block.
    pub async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Operations) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let operations = self.operations.clone();
        blocking(move || work(&operations)).await
    }
}

/// Runs work in a thread that may block; a panic in it is an `internal` problem.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    // The span goes along, so that lines logged in the thread carry the request's id.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .unwrap_or_else(|error| Err(Problem::internal("a thread of the server ended early").cause(error)))
}
