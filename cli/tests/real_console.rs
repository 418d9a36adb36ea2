//! A guest's serial console over the websocket: what is typed is answered, viewers share it, a stopped guest ends it.

mod lab;

use std::{
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use lab::{Lab, QUICKSTART, wait};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// One who looks at a console.
struct Screen {
    socket: WebSocket<UnixStream>,
    shown: String,
}

impl Screen {
    fn open(lab: &Lab, deployment: &str, guest: &str) -> Result<Screen, String> {
        let stream = UnixStream::connect(lab.socket()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let url = format!("ws://localhost/api/deployments/{deployment}/guests/{guest}/console");
        let (socket, _) = client(url, stream).map_err(|error| error.to_string())?;
        let mut screen = Screen { socket, shown: String::new() };
        screen.take().expect("the first frame");
        Ok(screen)
    }

    /// Takes a frame; nothing at the end.
    fn take(&mut self) -> Option<()> {
        match self.socket.read().expect("the console goes on") {
            Message::Binary(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
            Message::Close(_) => return None,
            _ => {}
        }
        Some(())
    }

    fn until(&mut self, text: &str) {
        let began = Instant::now();
        while !self.shown.contains(text) {
            assert!(began.elapsed() < Duration::from_secs(60), "no {text:?} in {:?}", self.shown);
            self.take().expect("the console goes on");
        }
    }

    fn type_in(&mut self, text: &str) {
        self.socket.send(Message::Binary(text.as_bytes().to_vec().into())).expect("sent");
    }
}

/// How many of the server's threads have such a name.
fn threads(lab: &Lab, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", lab.pid())).expect("tasks").flatten();
    tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))).count()
}

#[test]
fn a_typed_command_answers_viewers_share_and_a_stopped_guest_ends_it() {
    let mut lab = Lab::start();
    let project = lab.project("console-real", QUICKSTART);
    lab.ok(&project.args(&["up"]));
    let mut first = Screen::open(&lab, "console-real", "client").expect("a console");
    assert!(first.shown.contains("testbed guest client ready"), "what it said before: {:?}", first.shown);
    first.type_in("echo answer=$((6*7)); hostname\n");
    first.until("answer=42");
    first.until("\nclient");

    // A second viewer sees what was said before it came, and both see what is said then.
    let mut second = Screen::open(&lab, "console-real", "client").expect("a console");
    assert!(second.shown.contains("answer=42"), "{:?}", second.shown);
    second.type_in("echo both=$((1000+1))\n");
    second.until("both=1001");
    first.until("both=1001");

    // One goes, the other stays; when the last is gone it can be opened again.
    drop(first);
    second.type_in("echo still=$((2000+2))\n");
    second.until("still=2002");
    drop(second);
    let mut again = Screen::open(&lab, "console-real", "client").expect("a console");
    again.type_in("echo again=$((3000+3))\n");
    again.until("again=3003");
    assert_eq!(threads(&lab, "console-"), 2, "one console is open");

    let refused = Screen::open(&lab, "console-real", "nobody").err().expect("refused");
    assert!(refused.contains("404"), "{refused}");
    lab.ok(&project.args(&["down"]));
    while again.take().is_some() {}
    wait("no thread is left behind", Duration::from_secs(20), || threads(&lab, "console-") == 0);
}
