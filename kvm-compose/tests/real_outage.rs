//! Parts that go away while they are used, and come back: connections through a door that the test opens and shuts.
//!
//! Needs libvirt, OVN and Open vSwitch (`./setup.sh services start`), and leaves them alone.
#![cfg(feature = "libvirt")]

mod real;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use kvm_compose::{
    backend::local::{LocalConfig, LocalHost},
    error::{Code, Problem},
    orchestrate::host::{Cancel, Context, Host},
    plan::step::{NetworkChange, Work},
};
use parking_lot::Mutex;
use real::{Lab, SINGLE};
use uuid::Uuid;

/// A socket in front of a server's.
struct Door {
    path: PathBuf,
    server: PathBuf,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Door {
    fn new(path: PathBuf, server: &Path) -> Self {
        let door = Door { path, server: server.to_path_buf(), open: Arc::default() };
        door.unlock();
        door
    }

    /// Accepts connections until the listener's file is gone and the next one comes.
    fn unlock(&self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let (server, open) = (self.server.clone(), self.open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) else { return };
                let both = [(&client, &server), (&server, &client)].map(|(from, to)| (from.try_clone(), to.try_clone()));
                open.lock().extend([client, server]);
                for (from, to) in both {
                    let (mut from, mut to) = (from.expect("a stream"), to.expect("a stream"));
                    std::thread::spawn(move || {
                        let mut chunk = [0; 65536];
                        while let Ok(count @ 1..) = from.read(&mut chunk) {
                            if to.write_all(&chunk[..count]).is_err() {
                                break;
                            }
                        }
                        to.shutdown(Shutdown::Both).ok();
                    });
                }
            }
        });
    }

    /// Breaks every connection.
    fn cut(&self) {
        for stream in self.open.lock().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Breaks every connection and refuses new ones.
    fn lock(&self) {
        std::fs::remove_file(&self.path).expect("it was open");
        self.cut();
    }
}

fn host(lab: &Lab, change: impl FnOnce(&mut LocalConfig)) -> LocalHost {
    let mut config = lab.config.clone();
    change(&mut config);
    LocalHost::new(config)
}

fn apply(lab: &Lab, host: &LocalHost, work: &Work) -> Result<(), Problem> {
    let cancel = Cancel::new();
    host.apply(
        work,
        &Context { host: &lab.config.host, deployment: &lab.deployment, operation: Uuid::new_v4(), cancel: &cancel, say: &|_| {} },
    )
}

#[test]
fn a_broken_libvirt_connection_is_opened_again_and_a_short_absence_waited_for() {
    let lab = Lab::new("cut");
    let door = Door::new(lab.data.path().join("libvirt.sock"), Path::new("/var/run/libvirt/libvirt-sock"));
    let host = host(&lab, |config| config.libvirt_uri = format!("qemu+unix:///system?socket={}", door.path.display()));
    for _ in 0..3 {
        host.observe(&lab.deployment, None).expect("answers");
        door.cut();
    }
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let begun = Instant::now();
            let mut outcomes = Vec::new();
            while begun.elapsed() < Duration::from_secs(3) {
                outcomes.push(host.observe(&lab.deployment, None).map(|_| ()));
            }
            outcomes
        });
        door.lock();
        assert!(!Cancel::new().wait(Duration::from_millis(700)), "the time that libvirtd is away");
        door.unlock();
        let outcomes = calls.join().expect("no panic");
        assert!(outcomes.len() > 3);
        // A call that finds no connection and no server is a problem at once; one whose connection broke waits.
        let other = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(|problem| problem.code != Code::Libvirt);
        assert_eq!(other, None);
        assert_eq!(outcomes.last(), Some(&Ok(())), "it is back");
    });
}

#[test]
fn a_change_of_the_network_outlives_a_short_absence_of_the_database_and_is_made_once() {
    let lab = Lab::new("nb");
    let blueprint = lab.blueprint(SINGLE);
    let door = Door::new(lab.data.path().join("nb.sock"), &lab.config.ovn_nb);
    let host = host(&lab, |config| config.ovn_nb = door.path.clone());
    let work = Work::Network { change: NetworkChange { insert: blueprint.rows.clone(), ..Default::default() } };
    door.lock();
    std::thread::scope(|scope| {
        let change = scope.spawn(|| apply(&lab, &host, &work));
        assert!(!Cancel::new().wait(Duration::from_millis(500)), "the time that the database is away");
        door.unlock();
        change.join().expect("no panic").expect("made in the end");
    });
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let change = scope.spawn(|| apply(&lab, &host, &work));
            door.cut();
            change.join().expect("no panic").expect("made");
        });
    }
    assert_eq!(lab.observe(None).rows.len(), blueprint.rows.len(), "no row is there twice");
}

#[test]
fn changes_at_once_never_make_a_row_twice() {
    let lab = Lab::new("race");
    let blueprint = lab.blueprint(SINGLE);
    let work = Work::Network { change: NetworkChange { insert: blueprint.rows.clone(), ..Default::default() } };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| lab.apply(&work))).collect();
        for change in all {
            change.join().expect("no panic").expect("made");
        }
    });
    assert_eq!(lab.observe(None).rows.len(), blueprint.rows.len());
}
