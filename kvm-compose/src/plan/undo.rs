//! What takes a step back.
//!
//! Pure. An undo is "ensure absent", or "as it was before", so that it is right for a step that did half its work.

use super::{
    link::Link,
    step::{NetworkChange, RowDelete, RowMove, RowUpdate, Work},
};

impl Work {
    /// What takes this work back, or nothing when there is nothing to take back.
    pub fn undo(&self) -> Option<Work> {
        match self {
            Work::Network { change } => {
                let delete = change
                    .insert
                    .iter()
                    .rev()
                    .map(|row| RowDelete { key: row.key.clone(), table: row.table, parent: row.parent.clone(), was: None })
                    .collect();
                let update = change
                    .update
                    .iter()
                    .map(|update| RowUpdate {
                        key: update.key.clone(),
                        table: update.table,
                        to: update.from.clone(),
                        from: update.to.clone(),
                        moved: update.moved.clone().map(|moved| RowMove { from: moved.to, to: moved.from }),
                    })
                    .collect();
                // Children were deleted first.
                let insert = change.delete.iter().rev().filter_map(|delete| delete.was.clone()).collect();
                let change = NetworkChange { insert, update, delete };
                (!change.is_empty()).then_some(Work::Network { change })
            }
            Work::CreateVolume { volume } => Some(Work::RemoveFile { path: volume.path.clone() }),
            Work::WriteSeed { seed } => Some(Work::RemoveFile { path: seed.path.clone() }),
            Work::AttachNic { name, uuid, nic, runtime } => {
                Some(Work::DetachNic { name: name.clone(), uuid: *uuid, nic: nic.clone(), runtime: *runtime })
            }
            Work::DetachNic { name, uuid, nic, runtime } => {
                Some(Work::AttachNic { name: name.clone(), uuid: *uuid, nic: nic.clone(), runtime: *runtime })
            }
            Work::StartDomain { domain } => {
                Some(Work::RemoveDomain { name: domain.name.clone(), uuid: domain.uuid, runtime: domain.runtime() })
            }
            Work::ShapeLink { guest, link, before: Some(before) } => {
                let link = Link { shape: *before, ..link.clone() };
                Some(Work::ShapeLink { guest: guest.clone(), link, before: None })
            }
            Work::ShapeLink { guest, link, before: None } => {
                Some(Work::UnshapeLink { port: link.port, label: format!("{guest}:{}", link.interface) })
            }
            Work::SetCarrier { guest, domain, uuid, interface, port, up, runtime } => Some(Work::SetCarrier {
                guest: guest.clone(),
                domain: domain.clone(),
                uuid: *uuid,
                interface: interface.clone(),
                port: *port,
                up: !up,
                runtime: *runtime,
            }),
            Work::PlugInternal { port } => Some(Work::UnplugInternal { name: port.name.clone(), interface: port.interface.clone() }),
            // Base files and hosts' bridges stay: the next deployment needs them. What a guest was told before is known to `diff`
            // alone.
            // A restore is never taken back: what was there before it is gone.
            Work::LoadDomain { .. }
            | Work::WakeDomain { .. }
            | Work::FetchBase { .. }
            | Work::KeepGolden { .. }
            | Work::PullImage { .. }
            | Work::ConfigureNetwork { .. }
            | Work::SetUpUplink { .. }
            | Work::UnplugInternal { .. }
            | Work::RemoveFile { .. }
            | Work::StopDomain { .. }
            | Work::ShutDownDomain { .. }
            | Work::PauseDomain { .. }
            | Work::ResumeDomain { .. }
            | Work::RemoveDomain { .. }
            | Work::RemoveBridgePort { .. }
            | Work::UnshapeLink { .. }
            | Work::AwaitReady { .. }
            | Work::SendContext { .. }
            | Work::RunScript { .. } => None,
        }
    }
}
