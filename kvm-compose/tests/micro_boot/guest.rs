//! A guest under QEMU for the tests: its console, its agent, its monitor. Every wait has a limit and says what it was for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use base64::Engine;
use kvm_compose::{
    backend::images::{MicroSources, build_micro},
    orchestrate::host::Cancel,
    plan::site::MicroImage,
};
use serde_json::{Value, json};

/// The image under test, built once for all tests of this program, in a folder that cargo keeps for tests.
pub fn image() -> &'static MicroImage {
    static IMAGE: OnceLock<MicroImage> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
        let old = folder.join("micro");
        if old.exists() {
            std::fs::remove_dir_all(old).expect("the image of the run before is removed");
        }
        let sources = MicroSources::find().expect("the packages are there");
        build_micro(&folder, &sources, &Cancel::new(), &|_| {}).expect("the image is built")
    })
}

/// The files of a seed.
pub struct Seed(Vec<(String, String)>);

impl Seed {
    pub fn new(hostname: &str) -> Self {
        Seed(vec![("meta-data".into(), format!("instance-id: test\nlocal-hostname: {hostname}\n"))])
    }

    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.0.push((name.into(), content.into()));
        self
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let files = folder.join("seed");
        std::fs::create_dir(&files).expect("a folder");
        for (name, content) in &self.0 {
            std::fs::write(files.join(name), content).expect("a file");
        }
        let iso = folder.join("seed.iso");
        let status = Command::new("genisoimage").args(["-quiet", "-V", "cidata", "-r", "-J", "-o"]).arg(&iso).arg(&files).status();
        assert!(status.expect("genisoimage is installed by ./setup.sh").success());
        iso
    }
}

/// How a guest is set up.
pub struct Setup {
    pub seed: Option<Seed>,
    /// The seed is on a SCSI drive instead of a disk.
    pub scsi: bool,
    /// The guest's port of the second interface that is reached from here.
    pub forward: Option<u16>,
    /// Nobody answers on the network.
    pub silent_network: bool,
    pub cmdline: &'static str,
    pub memory: u32,
    /// Other files than those of the image: kernel and initramfs.
    pub files: Option<(PathBuf, PathBuf)>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { seed: None, scsi: false, forward: None, silent_network: false, cmdline: "", memory: 128, files: None }
    }
}

/// A running guest; ended when dropped.
pub struct Guest {
    qemu: Child,
    folder: tempfile::TempDir,
    console: Arc<Mutex<String>>,
    agent: Option<BufReader<UnixStream>>,
    port: u16,
}

impl Guest {
    pub fn boot(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (kernel, initramfs) = setup.files.unwrap_or_else(|| (image().kernel.clone(), image().initramfs.clone()));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args("-accel tcg -machine pc,usb=off -nodefaults -no-user-config -display none -serial stdio -no-reboot -m".split(' '));
        qemu.arg(setup.memory.to_string()).arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        qemu.arg("-append").arg(format!("console=ttyS0 quiet panic=1 mitigations=off {}", setup.cmdline));
        if setup.silent_network {
            qemu.args("-netdev hubport,hubid=0,id=a -device virtio-net-pci,netdev=a,romfile=".split(' '));
        } else {
            let forward = setup.forward.map(|to| format!(",hostfwd=tcp:127.0.0.1:{port}-10.0.2.10:{to}")).unwrap_or_default();
            qemu.args("-netdev user,id=a,net=10.0.1.0/24 -device virtio-net-pci,netdev=a,mac=02:00:00:00:00:01,romfile=".split(' '));
            qemu.arg("-netdev").arg(format!("user,id=b,net=10.0.2.0/24,host=10.0.2.1,dns=10.0.2.3{forward}"));
            qemu.args("-device virtio-net-pci,netdev=b,mac=02:00:00:00:00:02,romfile=".split(' '));
        }
        if let Some(seed) = &setup.seed {
            let iso = seed.write(folder.path());
            qemu.arg("-drive").arg(format!("if=none,id=seed,format=raw,readonly=on,file={}", iso.display()));
            let device =
                if setup.scsi { "-device virtio-scsi-pci -device scsi-cd,drive=seed" } else { "-device virtio-blk-pci,drive=seed" };
            qemu.args(device.split(' '));
        }
        qemu.arg("-chardev").arg(format!("socket,id=ga,server=on,wait=off,path={}/agent", folder.path().display()));
        qemu.args("-device virtio-serial-pci -device virtserialport,chardev=ga,name=org.qemu.guest_agent.0".split(' '));
        qemu.arg("-monitor").arg(format!("unix:{}/monitor,server=on,wait=off", folder.path().display()));
        let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("qemu-system-x86_64 is installed by ./setup.sh");
        let console = Arc::new(Mutex::new(String::new()));
        let (mut output, text) = (qemu.stdout.take().expect("a pipe"), console.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                text.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Guest { qemu, folder, console, agent: None, port }
    }

    fn console(&self) -> String {
        self.console.lock().expect("not poisoned").clone()
    }

    fn wait<T>(&mut self, what: &str, limit: Duration, mut attempt: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = attempt(self) {
                return found;
            }
            assert!(start.elapsed() < limit, "waited {limit:?} for {what}; the console says:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a text on the console.
    pub fn console_has(&mut self, text: &str, limit: Duration) {
        self.wait(&format!("{text:?} on the console"), limit, |guest| guest.console().contains(text).then_some(()));
    }

    /// Waits for QEMU to end by itself.
    pub fn ends(&mut self, why: &str, limit: Duration) {
        self.wait(&format!("the guest to end after {why}"), limit, |guest| guest.qemu.try_wait().expect("a child").map(|_| ()));
    }

    fn ask(&mut self, command: &str, arguments: Value, limit: Duration) -> std::io::Result<Value> {
        if self.agent.is_none() {
            let path = self.folder.path().join("agent");
            self.agent =
                Some(self.wait("the agent's socket", Duration::from_secs(10), |_| UnixStream::connect(&path).ok().map(BufReader::new)));
        }
        let agent = self.agent.as_mut().expect("connected");
        agent.get_ref().set_read_timeout(Some(limit))?;
        writeln!(agent.get_mut(), "{}", json!({"execute": command, "arguments": arguments}))?;
        let mut line = String::new();
        agent.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Asks the agent and waits for its answer.
    pub fn agent(&mut self, command: &str, arguments: Value, limit: Duration) -> Value {
        let answer = self.ask(command, arguments, limit);
        let answer =
            answer.unwrap_or_else(|error| panic!("waited {limit:?} for the agent to answer {command}: {error}\n{}", self.console()));
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["return"].clone()
    }

    /// Tells the agent what it cannot answer.
    pub fn agent_no_answer(&mut self, command: &str, arguments: Value) {
        let _answer = self.ask(command, arguments, Duration::from_millis(500));
    }

    /// Runs a program in the guest through the agent; it must succeed. What it wrote to its standard output.
    pub fn run(&mut self, program: &str, arguments: &[&str]) -> String {
        let limit = Duration::from_secs(20);
        let pid = self.agent("guest-exec", json!({"path": program, "arg": arguments, "capture-output": true}), limit)["pid"].clone();
        let status = self.wait(&format!("{program} {arguments:?} to end"), limit, |guest| {
            let status = guest.agent("guest-exec-status", json!({"pid": pid}), limit);
            (status["exited"] == true).then_some(status)
        });
        let text = |key: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(status[key].as_str().unwrap_or_default()).expect("base64");
            String::from_utf8(bytes).expect("UTF-8")
        };
        assert_eq!(status["exitcode"], 0, "{program} {arguments:?}: {}{}\n{}", text("out-data"), text("err-data"), self.console());
        text("out-data")
    }

    /// The answer to an HTTP request through the forwarded port, head and body.
    pub fn http_get(&mut self, path: &str, limit: Duration) -> String {
        let port = self.port;
        self.wait(&format!("an answer to GET {path}"), limit, |_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.").then_some(answer)
        })
    }

    /// Tells QEMU's monitor a command.
    pub fn monitor(&mut self, command: &str) {
        let mut stream = UnixStream::connect(self.folder.path().join("monitor")).expect("the monitor's socket");
        writeln!(stream, "{command}").expect("the monitor takes it");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
        let mut answer = String::new();
        let _read = stream.read_to_string(&mut answer);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _killed = self.qemu.kill();
        let _reaped = self.qemu.wait();
    }
}
