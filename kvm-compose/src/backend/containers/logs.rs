//! What a container has said: its standard output and standard error, as Docker keeps them.
//!
//! Must not know why somebody asks.

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::{Engine, LIMIT};
use crate::error::Problem;

/// So much of it is looked at at once.
const MOST: usize = 64 << 20;

impl Engine {
    /// What a container has said, from its beginning or so many of its last lines.
    pub fn said(&self, name: &str, last: Option<u32>) -> Result<Vec<u8>, Problem> {
        let tail = last.map_or_else(|| "all".to_string(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        self.ask(&format!("Docker does not say what the container `{name}` wrote"), LIMIT, async |docker| {
            let mut stream = std::pin::pin!(docker.logs(name, Some(options)));
            let mut said = Vec::new();
            while let Some(piece) = stream.next().await {
                said.extend_from_slice(&piece?.into_bytes());
                if said.len() > MOST {
                    break;
                }
            }
            Ok(said)
        })
    }
}
