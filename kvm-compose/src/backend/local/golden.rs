//! The end of making a golden image: the guest forgets who it is, shuts down, and its disk becomes the image.
//!
//! Says nothing about what was made of the guest before.

use std::time::{Duration, Instant};

use super::LocalHost;
use crate::{
    backend::hypervisor::Hypervisor,
    error::{Code, Problem},
    guest::script,
    orchestrate::{
        event::clean,
        host::{Cancel, Context},
    },
    plan::{golden::Kept, step::Work},
};

/// Makes a guest forget who it is.
const GENERALISE: &str = include_str!("../../guest/generalise.sh");
/// How long it may take for that.
const FORGET_LIMIT: Duration = Duration::from_secs(300);
/// How long it may take to shut down.
const OFF_LIMIT: Duration = Duration::from_secs(300);

impl LocalHost {
    /// Keeps a guest's disk as a golden image, and removes the guest.
    pub(super) fn keep_golden(&self, kept: &Kept, context: &Context<'_>) -> Result<(), Problem> {
        let owner = self.owner(context.deployment);
        if !self.goldens.has(&kept.key) {
            self.forget(kept, context)?;
            self.libvirt.shut_down(&kept.domain, kept.uuid, &owner)?;
            self.await_off(kept, context.cancel)?;
            (context.say)(&format!("the golden image of {} is being kept", kept.made_from));
            self.goldens.keep(&kept.key, &kept.disk, kept.guest.as_str(), &kept.made_from, context.cancel)?;
        }
        self.libvirt.remove(&kept.domain, kept.uuid, &owner)?;
        let folder = self.folder(context.deployment);
        kept.beside.iter().chain([&kept.disk]).try_for_each(|path| folder.remove(path))
    }

    fn forget(&self, kept: &Kept, context: &Context<'_>) -> Result<(), Problem> {
        let inside = script::Guest { hypervisor: &self.libvirt, guest: kept.guest.as_str(), domain: kept.uuid, cancel: context.cancel };
        let ended = inside.run(&["sh", "-c", GENERALISE], FORGET_LIMIT)?;
        if ended.status == 0 {
            return Ok(());
        }
        let message = format!("the golden guest `{}` cannot be made ready to be cloned: status {}", kept.guest, ended.status);
        Err(Problem::new(Code::ScriptFailed, message).cause(clean(String::from_utf8_lossy(&ended.stderr).trim())))
    }

    fn await_off(&self, kept: &Kept, cancel: &Cancel) -> Result<(), Problem> {
        let deadline = Instant::now() + OFF_LIMIT;
        loop {
            cancel.check()?;
            let state = self.libvirt.state(kept.uuid)?;
            let Some(state) = state else { return Err(Problem::internal(format!("the golden guest `{}` is gone", kept.guest))) };
            if !state.is_active() && !state.is_passing() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let limit = OFF_LIMIT.as_secs();
                let message = format!("the golden guest `{}` has not shut down within {limit} s: it is {state}", kept.guest);
                return Err(Problem::new(Code::Timeout, message).hint("`testbed up --keep-on-failure` leaves it for a look"));
            }
            cancel.wait(Duration::from_millis(200));
        }
    }

    /// The work for another host, with the content of a golden image, which is known only once it was made.
    pub fn known_work(&self, work: &Work, cancel: &Cancel) -> Result<Work, Problem> {
        let mut work = work.clone();
        if let Work::FetchBase { base } = &mut work
            && let Some(key) = &base.golden
        {
            base.sum = Some(self.sum_of(&self.goldens.path(key), cancel)?);
        }
        Ok(work)
    }
}
