//! A testbed as one file: there and back, and what is not what was exported.

use std::collections::BTreeMap;

use sha2::Digest as _;

use crate::lab::Lab;

const YAML: &str = "machines:\n  - {name: a, micro: {setup_script: scripts/setup.sh, memory_mb: \"${MEM}\"}, network: [{switch: lan}]}\n  \
                    - {name: b, docker: {image: x, volumes: [{source: ./site, target: /srv}]}, network: [{switch: lan}]}\n\
                    include: parts/net.yaml\n";
const NET: &str = "network: {ovn: {switches: {lan: {subnet: 10.0.0.0/24}}}}\n";

/// Paths and contents, in an archive's order.
type Files = Vec<(String, Vec<u8>)>;

fn files(archive: &[u8]) -> Files {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("whole");
        (path, content)
    };
    archive.entries().expect("an archive").map(read).collect()
}

fn archive(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_slice()).expect("appended");
    }
    builder.into_inner().expect("an archive")
}

/// A server with a deployment `lab` whose project lies in a folder of its own.
fn lab() -> (Lab, tempfile::TempDir) {
    let (lab, project) = (Lab::start(), tempfile::tempdir().expect("a folder"));
    for (path, text) in [
        ("scripts/setup.sh", "true\n"),
        ("site/a/index.html", "<p>"),
        ("site/b.bin", "\0\u{1}"),
        ("parts/net.yaml", NET),
        ("unnamed", "no"),
    ] {
        let path = project.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let made = serde_json::json!({"name": "lab", "project_location": project.path()}).to_string();
    lab.client().post("/api/deployments", &made).expect(201);
    let draft = serde_json::json!({
        "text": YAML, "file": "kvm-compose.yaml",
        "composition": {"files": {"parts/net.yaml": NET}, "variables": {"MEM": "128"}, "set": ["machines.a.micro.cpus=2"]}
    });
    lab.client().send("PUT", "/api/deployments/lab/yaml", "application/json", &[], draft.to_string().as_bytes()).expect(204);
    (lab, project)
}

#[test]
fn a_testbed_goes_to_another_server_whole() {
    let (one, project) = lab();
    let exported = one.get("/api/deployments/lab/export").expect(200).body;
    let listed = files(&exported);
    let names: Vec<&str> = listed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        names,
        [
            ".testbedos/export.json",
            ".testbedos/composition.json",
            "kvm-compose.yaml",
            "parts/net.yaml",
            "scripts/setup.sh",
            "site/a/index.html",
            "site/b.bin"
        ]
    );
    let other = Lab::start();
    let send =
        |name: &str, body: &[u8]| other.client().send("POST", &format!("/api/deployments?name={name}"), "application/x-tar", &[], body);
    send("copy", &exported).expect(201);
    assert_eq!(other.get("/api/deployments/copy/yaml").expect(200).text(), YAML);
    let folder = other.settings.data.root().join("deployments/copy/project");
    assert_eq!(std::fs::read(folder.join("site/b.bin")).expect("there"), b"\0\x01");
    assert!(!folder.join(".testbedos").exists());
    // Exported again it is the same, but for its name and the time: variables and `--set` came along.
    let again = files(&other.get("/api/deployments/copy/export").expect(200).body);
    assert_eq!(again[1..], listed[1..]);
    assert!(String::from_utf8_lossy(&again[1].1).contains("machines.a.micro.cpus=2"));
    // What it names and is not there is told at its line.
    std::fs::remove_file(project.path().join("scripts/setup.sh")).expect("removed");
    let refused = one.get("/api/deployments/lab/export").expect(422).json();
    assert!(refused["diagnostics"][0]["code"] == "E070" && refused["diagnostics"][0]["at"]["line"] == 2, "{refused}");
    one.get("/api/deployments/none/export").expect(404);
}

#[test]
fn what_is_not_what_was_exported_is_refused_and_leaves_nothing() {
    let (one, _project) = lab();
    let good = files(&one.get("/api/deployments/lab/export").expect(200).body);
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        archive(&files)
    };
    let described = |change: &dyn Fn(&mut serde_json::Value)| {
        changed(&|files| {
            let mut manifest = serde_json::from_slice(&files[0].1).expect("JSON");
            change(&mut manifest);
            files[0].1 = manifest.to_string().into_bytes();
        })
    };
    let whole = archive(&good);
    let other = Lab::start();
    let cases: BTreeMap<&str, (Vec<u8>, &str)> = BTreeMap::from([
        ("another content", (changed(&|files| files[4].1[0] ^= 1), "content has changed")),
        ("longer", (changed(&|files| files[4].1.push(b'x')), "content has changed")),
        ("one less", (changed(&|files| drop(files.remove(5))), "is missing")),
        ("one more", (changed(&|files| files.push(("extra".into(), vec![1]))), "does not say so")),
        ("a file twice", (changed(&|files| files.push(files[4].clone())), "twice")),
        ("a newer version", (described(&|manifest| manifest["version"] = 2.into()), "newer version")),
        ("no description", (changed(&|files| files[0].1 = b"{".to_vec()), "cannot be read")),
        (
            "a path out of it",
            (described(&|manifest| manifest["files"]["../x"] = manifest["files"]["kvm-compose.yaml"].clone()), "is missing"),
        ),
        (
            "variables that are none",
            (
                changed(&|files| {
                    files[1].1 = b"[1]".to_vec();
                    let mut manifest: serde_json::Value = serde_json::from_slice(&files[0].1).expect("JSON");
                    let sha: String = sha2::Sha256::digest(b"[1]").iter().map(|byte| format!("{byte:02x}")).collect();
                    manifest["files"][".testbedos/composition.json"] = serde_json::json!({"sha256": sha, "bytes": 3});
                    files[0].1 = manifest.to_string().into_bytes();
                }),
                "variables cannot be read",
            ),
        ),
        ("cut short", (whole[..whole.len() - 2000].to_vec(), "")),
    ]);
    for (what, (body, words)) in &cases {
        let answer = other.client().send("POST", "/api/deployments?name=copy", "application/x-tar", &[], body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert!(answer.text().contains(words), "{what}: {}", answer.text());
        let left = std::fs::read_dir(other.settings.data.root().join("deployments/copy")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{what}");
    }
    other.client().send("POST", "/api/deployments?name=copy", "application/x-tar", &[], &whole).expect(201);
}
