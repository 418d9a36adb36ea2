//! Keeps `^C` off the screen while bars are drawn: the terminal writes it where the cursor stands, at the end of the last
//! bar, and everything below would be drawn a line too low.

use std::io;

use rustix::{
    process::getpgrp,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};

/// The terminal's echo of control characters is off; on again when this is dropped.
pub struct WithoutEcho(Option<Termios>);

impl WithoutEcho {
    /// Turns it off. Without a terminal on standard input there is nothing to turn off.
    pub fn begin() -> WithoutEcho {
        // In the background, changing the terminal would stop this program.
        let in_front = tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp());
        let Some(before) = tcgetattr(io::stdin()).ok().filter(|_| in_front) else { return WithoutEcho(None) };
        if !before.local_modes.contains(LocalModes::ECHOCTL) {
            return WithoutEcho(None);
        }
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHOCTL);
        WithoutEcho(tcsetattr(io::stdin(), OptionalActions::Now, &without).is_ok().then_some(before))
    }
}

impl Drop for WithoutEcho {
    fn drop(&mut self) {
        // A terminal that went away needs no setting.
        let in_front = tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp());
        let _set = self.0.as_ref().filter(|_| in_front).map(|before| tcsetattr(io::stdin(), OptionalActions::Now, before));
    }
}
