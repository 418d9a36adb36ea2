//! Whether a member can be counted on.
//!
//! ```text
//! joining ──hello──► ready ──silent 6 s, or cut──► suspect ──silent 20 s──► lost
//!    └── silent 20 s: lost ◄┘  ▲◄────── hello, beat ──────┘                   │
//!                              └──────────────────────── hello ───────────────┘
//! any ──leave──► left
//! ```
//!
//! Pure: the clock is given with each input, as time since any fixed moment. Must not know connections or files.

use std::time::Duration;

use kvm_compose::api::cluster::MemberState;

/// How often each side lets itself be heard.
pub const BEAT: Duration = Duration::from_secs(2);
/// After three beats missed a member is suspect.
pub const SUSPECT: Duration = Duration::from_secs(6);
/// After ten beats missed a member is lost.
pub const LOST: Duration = Duration::from_secs(20);

/// What a member does, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It came with its certificate.
    Hello,
    /// It let itself be heard.
    Beat,
    /// Its connection ended.
    Cut,
    /// Time went by.
    Tick,
    /// It was removed.
    Leave,
}

/// A member's state, and when it was last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Its state.
    pub state: MemberState,
    /// When it was last heard, by the clock that is given with inputs.
    pub heard: Duration,
}

impl Membership {
    /// One that has just got its certificate.
    pub fn joining(now: Duration) -> Self {
        Membership { state: MemberState::Joining, heard: now }
    }

    /// One that the records name, when the master starts: it is given time to come back.
    pub fn known(now: Duration) -> Self {
        Membership { state: MemberState::Suspect, heard: now }
    }

    /// What becomes of it.
    #[must_use]
    pub fn after(self, input: Input, now: Duration) -> Self {
        use MemberState::{Joining, Left, Lost, Ready, Suspect};
        let silent = now.saturating_sub(self.heard);
        let (state, heard) = match (self.state, input) {
            (Left, _) | (_, Input::Leave) => (Left, self.heard),
            (_, Input::Hello) => (Ready, now),
            // A beat without a hello comes from a connection that is not taken any more.
            (Joining | Lost, Input::Beat) => (self.state, self.heard),
            (Ready | Suspect, Input::Beat) => (Ready, now),
            (Ready, Input::Cut) => (Suspect, self.heard),
            (Joining | Suspect | Lost, Input::Cut) => (self.state, self.heard),
            (Joining | Ready | Suspect, Input::Tick) if silent >= LOST => (Lost, self.heard),
            (Ready, Input::Tick) if silent >= SUSPECT => (Suspect, self.heard),
            (Joining | Ready | Suspect | Lost, Input::Tick) => (self.state, self.heard),
        };
        Membership { state, heard }
    }
}

/// True for a member that belongs into kvm-compose-config.json.
pub fn is_counted(state: MemberState) -> bool {
    matches!(state, MemberState::Ready | MemberState::Suspect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberState::{Joining, Left, Lost, Ready, Suspect};

    const ALL: [MemberState; 5] = [Joining, Ready, Suspect, Lost, Left];

    #[test]
    fn every_pair_of_state_and_input_is_as_the_table_says() {
        let at = Duration::from_secs;
        // Input and seconds of silence; what becomes of joining, ready, suspect, lost, left.
        for (input, silent, expected) in [
            (Input::Hello, 0, [Ready, Ready, Ready, Ready, Left]),
            (Input::Hello, 99, [Ready, Ready, Ready, Ready, Left]),
            (Input::Beat, 1, [Joining, Ready, Ready, Lost, Left]),
            (Input::Cut, 1, [Joining, Suspect, Suspect, Lost, Left]),
            (Input::Tick, 5, [Joining, Ready, Suspect, Lost, Left]),
            (Input::Tick, 6, [Joining, Suspect, Suspect, Lost, Left]),
            (Input::Tick, 19, [Joining, Suspect, Suspect, Lost, Left]),
            (Input::Tick, 20, [Lost, Lost, Lost, Lost, Left]),
            (Input::Leave, 1, [Left; 5]),
        ] {
            for (state, expected) in ALL.into_iter().zip(expected) {
                let found = Membership { state, heard: at(100) }.after(input, at(100 + silent));
                assert_eq!(found.state, expected, "{state:?} {input:?} after {silent} s");
            }
        }
    }

    #[test]
    fn a_member_that_beats_is_never_suspect_and_one_that_stops_is_lost_in_time() {
        let mut member = Membership::joining(Duration::ZERO).after(Input::Hello, Duration::ZERO);
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(60) {
            now += BEAT;
            member = member.after(Input::Tick, now).after(Input::Beat, now);
            assert_eq!(member.state, Ready);
        }
        let last = now;
        while member.state != Lost {
            now += Duration::from_millis(500);
            member = member.after(Input::Tick, now);
            assert!(now - last <= LOST, "still {:?} after {:?}", member.state, now - last);
        }
        assert_eq!(member.after(Input::Hello, now).state, Ready);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_loses_nobody() {
        let member = Membership { state: Ready, heard: Duration::from_secs(50) };
        assert_eq!(member.after(Input::Tick, Duration::from_secs(1)).state, Ready);
    }
}
