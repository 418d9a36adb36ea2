//! The two engines held against each other: every page, with awkward words in it, compiled in and read from disk.

use chrono::Utc;
use kvm_compose::{
    api::{
        ActionState, Command, Composition, DeploymentState, DeploymentSummary, GuestState, ImageInfo, ImageSource, LogEntry, LogIndex,
        NicState, Phase, RunState, SnapshotInfo,
        cluster::{Member, MemberState, Members, Role},
    },
    diagnostic::{Diagnostic, Severity},
    error::{Code, Place, Problem},
    names::{DeploymentName, GuestName, HostName, SnapshotName},
};
use uuid::Uuid;

use super::{
    Chrome, Page,
    deployment::{Deployment, Told},
    edit::Edit,
    errors::{Login, Trouble},
    guest::Guest,
    home::{Deployments, Welcome},
    hosts::Hosts,
    images::Images,
    reference::{Front, docs_page},
    render::{compiled, development},
};

const AWKWARD: &str = "<b a=\"1\" c='2'>&amp; /ü{{ x }}{% y %}</b>";

#[track_caller]
fn same(page: &impl Page) {
    let lines =
        |text: String| -> Vec<String> { text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect() };
    let (compiled, read) = (compiled(page).expect("compiled"), development::text(page).expect("read"));
    assert!(!compiled.contains("<b a=") && !read.contains("<b a="), "{compiled}");
    assert_eq!(lines(compiled), lines(read));
}

fn chrome(active: &'static str) -> Chrome {
    Chrome::new(active, true)
}

fn problem() -> Problem {
    let mut problem = Problem::new(Code::Libvirt, AWKWARD).hint(AWKWARD).cause(AWKWARD);
    problem.diagnostics.push(Diagnostic {
        severity: Severity::Error,
        code: "E001".to_string(),
        message: AWKWARD.to_string(),
        at: Place { file: AWKWARD.to_string(), line: 1, column: 2 },
        width: 1,
        source: AWKWARD.to_string(),
        hint: Some(AWKWARD.to_string()),
    });
    problem
}

fn summary() -> DeploymentSummary {
    DeploymentSummary {
        name: DeploymentName::new("lab").expect("a name"),
        project_location: AWKWARD.to_string(),
        state: RunState::Failed,
        phase: Phase::Partial,
        failed_command: Some(Command::Up),
        last_action: None,
        created: Utc::now(),
        revision: 1,
    }
}

fn guest(name: &str) -> GuestState {
    let nic = |index: u8| NicState {
        name: format!("eth{index}"),
        switch: AWKWARD.to_string(),
        address: Some([10, 0, 0, index].into()),
        assignment: "dhcp".to_string(),
        mac: AWKWARD.to_string(),
        port: Uuid::nil(),
    };
    GuestState {
        name: GuestName::new(name).expect("a name"),
        kind: "micro".to_string(),
        wanted: false,
        state: AWKWARD.to_string(),
        ready: false,
        host: AWKWARD.to_string(),
        domain: AWKWARD.to_string(),
        uuid: Uuid::nil(),
        cpus: 2,
        memory_mb: 128,
        labels: Default::default(),
        nics: vec![nic(1), nic(2)],
        console_log: Some(AWKWARD.to_string()),
    }
}

fn index(state: ActionState) -> LogIndex {
    let entry = LogEntry {
        log_path: "/nowhere".to_string(),
        events_path: "/nowhere".to_string(),
        error_code: Some(60),
        command: Command::Up,
        started: Utc::now(),
        ended: (state != ActionState::Running).then(Utc::now),
        state,
        problem: Some(problem()),
        exit_status: None,
        result: None,
    };
    LogIndex([(Uuid::nil(), entry)].into())
}

fn snapshots() -> Vec<SnapshotInfo> {
    let name = |name| SnapshotName::new(name).expect("valid");
    let info = SnapshotInfo {
        name: name("a"),
        created: Utc::now(),
        whole: true,
        memory: true,
        pause_ms: 1,
        bytes: 1,
        guests: Vec::new(),
        fault: None,
    };
    vec![SnapshotInfo { name: name("b"), fault: Some(AWKWARD.to_string()), ..info.clone() }, info]
}

fn deployment(guests: Vec<GuestState>, yaml: Option<&str>, index: LogIndex) -> Deployment {
    let DeploymentSummary { name, state, phase, failed_command, last_action, .. } = summary();
    let warnings = vec![AWKWARD.to_string()];
    let state = DeploymentState { name, state, phase, failed_command, last_action, guests, rows_wanted: 2, rows_observed: 1, warnings };
    Deployment::new(
        chrome("deployments"),
        Told {
            summary: summary(),
            state,
            sources: yaml.map(|yaml| kvm_compose::spec::Sources::alone("f", yaml)),
            snapshots: if yaml.is_some() { snapshots() } else { Vec::new() },
            index,
            wanted: None,
        },
    )
}

#[test]
fn every_page_is_the_same_by_either_engine() {
    same(&Front::new());
    same(&docs_page());
    same(&Login::new(AWKWARD, "/gui/hosts?x=%22%3E"));
    same(&Trouble::new(problem()));
    same(&Welcome::new());
    same(&Deployments::new(chrome("deployments"), Vec::new()));
    same(&Deployments::new(chrome("deployments"), vec![summary(), summary()]));
    same(&deployment(Vec::new(), None, LogIndex::default()));
    same(&deployment(
        vec![guest("a"), guest("b")],
        Some(include_str!("../../../examples/quickstart/kvm-compose.yaml")),
        index(ActionState::Failed),
    ));
    same(&Edit::new(chrome("deployments"), "lab", AWKWARD, None, &Composition::default()));
    let composition = Composition {
        files: [(AWKWARD.to_string(), AWKWARD.to_string())].into(),
        variables: [(AWKWARD.to_string(), None)].into(),
        set: vec![AWKWARD.to_string()],
    };
    same(&Edit::new(chrome("deployments"), "lab", AWKWARD, Some(format!("{AWKWARD}</textarea>")), &composition));
    same(&Guest::new(chrome("deployments"), "lab", guest("a"), "nonce".to_string()));
    let member = |state| Member {
        name: HostName::new("vm").expect("a name"),
        role: Role::Client,
        state,
        address: Some(AWKWARD.to_string()),
        cpus: 1,
        memory_mb: 1,
        free_memory_mb: Some(1),
        version: AWKWARD.to_string(),
        guests: 2,
        last_seen: Some(Utc::now()),
    };
    same(&Hosts::new(chrome("hosts"), Members { members: vec![member(MemberState::Ready), member(MemberState::Lost)] }));
    let image = ImageInfo {
        name: AWKWARD.to_string(),
        digest: AWKWARD.to_string(),
        files: vec![AWKWARD.to_string(), AWKWARD.to_string()],
        size_bytes: 1,
        created: Utc::now(),
        source: ImageSource::Built,
        virtual_bytes: None,
        user: None,
        used_by: Vec::new(),
    };
    same(&Images::new(chrome("images"), Vec::new(), &LogIndex::default()));
    same(&Images::new(chrome("images"), vec![image], &index(ActionState::Running)));
}

#[test]
fn no_template_lets_words_through_unescaped_but_the_picture() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates");
    let mut trusted = Vec::new();
    for entry in std::fs::read_dir(folder).expect("templates").flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        trusted.extend(
            text.split("{{")
                .skip(1)
                .filter_map(|rest| rest.split("}}").next())
                .filter(|word| word.contains('|'))
                .map(str::trim)
                .map(String::from),
        );
        let handler = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).starts_with('=');
        let inline =
            text.contains("style=") || text.contains("<style") || text.contains("<script>") || text.split(" on").skip(1).any(handler);
        assert!(!inline, "{:?}: inline style or script", entry.path());
    }
    assert_eq!(trusted, ["picture|safe"]);
}
