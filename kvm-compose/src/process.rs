//! The one way to run a program: argv without a shell, a clean environment, a limit, and an end with the action.
//!
//! Must not know what is run or why.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How much of each output is kept.
const KEPT: usize = 1 << 20;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Call {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The limit.
    pub limit: Duration,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run.
    pub argv: Vec<String>,
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of what it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of what it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// How a program that was watched came to its end.
#[derive(Debug)]
pub enum Watched {
    /// Its output held what was looked for; it was then killed.
    Seen,
    /// It ended by itself before.
    Ended(Finished),
    /// It was killed at the limit, with this output.
    Late(Vec<u8>),
}

impl Call {
    /// A call of `argv` with a limit.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>, limit: Duration) -> Self {
        Call { argv: argv.into_iter().map(Into::into).collect(), limit }
    }

    /// Runs the program to its end. A status other than 0 is for the caller to judge.
    pub fn run(&self, cancel: &Cancel) -> Result<Finished, Problem> {
        match self.watch(cancel, |_| false)? {
            Watched::Ended(finished) => Ok(finished),
            Watched::Seen | Watched::Late(_) => {
                let seconds = self.limit.as_secs();
                Err(Problem::new(Code::Timeout, format!("`{}` did not end within {seconds} s", self.shown())))
            }
        }
    }

    /// Runs the program to success. `doing` is the message when it fails, its last words the cause.
    pub fn succeed(&self, doing: &str, cancel: &Cancel) -> Result<Finished, Problem> {
        let finished = self.run(cancel)?;
        if finished.status.success() {
            return Ok(finished);
        }
        let words = String::from_utf8_lossy(&finished.stderr).trim().to_string();
        let full = words.contains("No space left on device") || words.contains("Disk quota exceeded");
        let problem = Problem::new(if full { Code::DiskFull } else { Code::Storage }, doing)
            .cause(format!("`{}` ended with {}", self.shown(), finished.status))
            .cause(words);
        Err(if full { problem.hint("free some space on the server's data folder, then run the command again") } else { problem })
    }

    /// Runs the program until `seen` accepts its standard output, it ends, or the limit is reached.
    pub fn watch(&self, cancel: &Cancel, seen: impl Fn(&[u8]) -> bool) -> Result<Watched, Problem> {
        cancel.check()?;
        let mut running = self.spawn()?;
        let deadline = Instant::now() + self.limit;
        let mut pause = Duration::from_millis(1);
        loop {
            let status = running.child.try_wait().map_err(|error| Problem::io(format!("cannot wait for `{}`", self.shown()), &error))?;
            if let Some(status) = status {
                // What is left of its group would keep the pipes open.
                running.kill();
                let (stdout, stderr) = running.outputs();
                return Ok(Watched::Ended(Finished { argv: self.argv.clone(), status, stdout, stderr }));
            }
            if seen(&running.stdout.text.lock()) {
                return Ok(Watched::Seen);
            }
            if Instant::now() >= deadline {
                running.kill();
                return Ok(Watched::Late(running.outputs().0));
            }
            if cancel.wait(pause) {
                running.kill();
                cancel.check()?;
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn spawn(&self) -> Result<Running, Problem> {
        let (program, arguments) = self.argv.split_first().ok_or_else(|| Problem::internal("a program without a name was to be run"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let problem = Problem::io(format!("cannot run `{program}`"), &error);
            if error.kind() == std::io::ErrorKind::NotFound { problem.hint("`./setup.sh` installs what is needed") } else { problem }
        })?;
        let stdout = Output::of(child.stdout.take());
        let stderr = Output::of(child.stderr.take());
        Ok(Running { child, stdout, stderr })
    }

    fn shown(&self) -> String {
        self.argv.join(" ").chars().take(200).collect()
    }
}

/// A child and everything it started; killed when dropped.
struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Running {
    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Gone already is what is wanted.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
    }

    fn outputs(&mut self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout.finish(), self.stderr.finish())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        self.child.wait().ok();
    }
}

/// One output of a child, read by a thread as it comes, so that a full pipe never stops the child.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = text.clone();
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut chunk = vec![0; 16 << 10];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    let mut kept = kept.lock();
                    let room = KEPT.saturating_sub(kept.len()).min(count);
                    kept.extend_from_slice(&chunk[..room]);
                }
            })
        });
        Output { text, reader }
    }

    fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        std::mem::take(&mut *self.text.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn status_and_outputs_are_kept_and_the_environment_is_clean() {
        let call = Call::new(["sh", "-c", "env; echo no >&2; exit 3"], LIMIT);
        let finished = call.run(&Cancel::new()).expect("it ran");
        assert_eq!(finished.status.code(), Some(3));
        let names: Vec<String> = String::from_utf8_lossy(&finished.stdout)
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_string()))
            .collect();
        assert!(names.iter().all(|name| ["PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name.as_str())), "{names:?}");
        let problem = call.succeed("cannot do it", &Cancel::new()).expect_err("status 3");
        assert_eq!((problem.code, problem.message.as_str(), problem.causes[1].as_str()), (Code::Storage, "cannot do it", "no"));
    }

    #[test]
    fn the_limit_ends_the_whole_group() {
        let begun = Instant::now();
        let call = Call::new(["sh", "-c", "sleep 600 & sleep 600"], Duration::from_millis(100));
        assert_eq!(call.run(&Cancel::new()).expect_err("late").code, Code::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn cancel_ends_it_at_once() {
        let cancel = Cancel::new();
        let (asked, begun) = (cancel.clone(), Instant::now());
        let asker = std::thread::spawn(move || asked.cancel());
        let problem = Call::new(["sleep", "600"], LIMIT * 10).run(&cancel).expect_err("cancelled");
        asker.join().expect("no panic");
        assert_eq!(problem.code, Code::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn much_output_is_cut_and_does_not_hang() {
        let call = Call::new(["head", "-c", "5000000", "/dev/zero"], LIMIT);
        assert_eq!(call.run(&Cancel::new()).expect("it ran").stdout.len(), KEPT);
    }

    #[test]
    fn a_word_in_the_output_ends_the_watch() {
        let call = Call::new(["sh", "-c", "echo ready; exec sleep 600"], LIMIT);
        let seen = call.watch(&Cancel::new(), |text| text.windows(5).any(|part| part == b"ready")).expect("it ran");
        assert!(matches!(seen, Watched::Seen));
    }

    #[test]
    fn a_missing_program_is_a_problem_with_a_hint() {
        let problem = Call::new(["/nonexistent/program"], LIMIT).run(&Cancel::new()).expect_err("missing");
        assert!(problem.hint.is_some());
    }
}
