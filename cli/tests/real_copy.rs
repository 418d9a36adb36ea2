//! Files into guests and out of them on the real parts: machines and containers, large and hostile ones.

mod containers;
mod lab;

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    time::Instant,
};

use containers::{IMAGE, image, left};
use lab::Lab;

fn yaml() -> String {
    format!(
        r#"
machines:
  - name: web
    micro: {{memory_mb: 768}}
    network: [{{switch: lan}}]
  - name: box
    docker: {{image: {IMAGE}, command: [sleep, "1000000"]}}
    network: [{{switch: lan}}]
network: {{ovn: {{switches: {{lan: {{subnet: 10.69.0.0/24}}}}}}}}
"#
    )
}

/// Bytes that do not compress, made the same again from the same seed.
fn noise(file: &mut impl std::io::Write, bytes: u64) {
    let (mut state, mut left) = (0x9E37_79B9_7F4A_7C15u64, bytes);
    let mut chunk = vec![0u8; 1 << 20];
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let count = left.min(chunk.len() as u64) as usize;
        file.write_all(&chunk[..count]).expect("written");
        left -= count as u64;
    }
}

fn same(one: &Path, other: &Path) {
    let status = std::process::Command::new("cmp").args([one, other]).status().expect("cmp");
    assert!(status.success(), "{} and {} differ", one.display(), other.display());
}

/// A folder with what folders have.
fn site(folder: &Path) {
    let site = folder.join("site");
    fs::create_dir_all(site.join("deep/er")).expect("made");
    fs::write(site.join("index.html"), "hello").expect("written");
    fs::write(site.join("deep/er/-odd name\u{e9}"), "odd").expect("written");
    fs::write(site.join("run.sh"), "#!/bin/sh\necho ran\n").expect("written");
    fs::set_permissions(site.join("run.sh"), fs::Permissions::from_mode(0o751)).expect("set");
    symlink("../nowhere", site.join("link")).expect("linked");
    let mut sparse = File::create(site.join("sparse")).expect("made");
    sparse.seek(SeekFrom::Start(40 << 20)).expect("sought");
    sparse.write_all(b"end").expect("written");
    let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    File::options().write(true).open(site.join("index.html")).expect("opened").set_times(time).expect("set");
}

fn is_the_site(site: &Path) {
    let seen = |name: &str| fs::symlink_metadata(site.join(name)).expect("there");
    assert_eq!(fs::read_to_string(site.join("deep/er/-odd name\u{e9}")).expect("there"), "odd");
    assert_eq!((seen("run.sh").mode() & 0o7777, seen("index.html").mtime()), (0o751, 1_000_000_000));
    assert_eq!(fs::read_link(site.join("link")).expect("a link"), Path::new("../nowhere"));
    assert!(seen("sparse").len() == (40 << 20) + 3 && seen("sparse").blocks() * 512 < 1 << 20, "{:?}", seen("sparse").blocks());
    let mut end = String::new();
    let mut sparse = File::open(site.join("sparse")).expect("there");
    sparse.seek(SeekFrom::End(-3)).expect("sought");
    sparse.read_to_string(&mut end).expect("read");
    assert_eq!(end, "end");
}

#[test]
fn files_go_both_ways_whole_and_never_beside_their_target() {
    image();
    let mut lab = Lab::start();
    let project = lab.project("copy-real", &yaml());
    lab.ok(&project.args(&["up"]));
    let here = tempfile::tempdir().expect("a folder");
    let path = |name: &str| here.path().join(name).display().to_string();
    let cp = |lab: &Lab, from: &str, to: &str| lab.run(&["-p", "copy-real", "cp", from, to]);
    let sh = |lab: &Lab, guest: &str, script: &str| lab.ok(&["-p", "copy-real", "exec", guest, "--", "sh", "-c", script]).stdout;
    site(here.path());

    for guest in ["web", "box"] {
        let there = |path: &str| format!("{guest}:{path}");
        let ok = |lab: &Lab, from: &str, to: &str| {
            let ran = cp(lab, from, to);
            assert_eq!(ran.status, 0, "{from} {to}: {}", ran.stderr);
            ran.stdout
        };
        sh(&lab, guest, "mkdir -p /srv/into");
        // Into a folder that is there, under a new name, without the folder itself.
        let said = ok(&lab, &path("site"), &there("/srv/into"));
        assert!(said.contains("5 files"), "{said}");
        ok(&lab, &path("site"), &there("/srv/other"));
        ok(&lab, &(path("site") + "/."), &there("/srv/into"));
        ok(&lab, &path("site/index.html"), &there("/srv/page"));
        let seen = sh(
            &lab,
            guest,
            "cd /srv; cat into/site/index.html other/index.html into/index.html page; other/run.sh; stat -c '%a %Y %u' other/run.sh other/index.html page",
        );
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[0], "hellohellohellohelloran", "{seen}");
        assert!(lines[1].starts_with("751 ") && lines[2].ends_with(" 1000000000 0") && lines[3].ends_with(" 1000000000 0"), "{seen}");
        // And back: into a folder that is there, and under a new name.
        fs::create_dir(here.path().join(guest)).expect("made");
        ok(&lab, &there("/srv/other"), &path(guest));
        is_the_site(&here.path().join(guest).join("other"));
        ok(&lab, &there("/srv/into/site"), &path(&format!("{guest}/renamed")));
        is_the_site(&here.path().join(guest).join("renamed"));
        ok(&lab, &there("/srv/page"), &path(guest));
        // A second time it takes the first one's place.
        sh(&lab, guest, "echo new >/srv/page");
        ok(&lab, &there("/srv/page"), &path(&format!("{guest}/page")));
        assert_eq!(fs::read_to_string(here.path().join(guest).join("page")).expect("there"), "new\n");

        // What cannot be is told, and leaves nothing.
        for (from, to, status, words) in [
            (there("/none"), path("x"), 3, "there is no `/none`"),
            (path("none"), there("/srv"), 3, "cannot be read"),
            (path("site"), there("/none/x"), 3, "there is no `/none`"),
            (path("site"), there("/srv/page"), 4, "is a file"),
            (there("/srv/other"), path("none/x"), 3, "there is no folder"),
            (there("/srv/page/"), path("x"), 3, "there is no"),
            (path("site"), there("srv"), 2, "no path in a guest"),
            (there("/etc"), there("/srv"), 2, "both are in guests"),
        ] {
            let ran = cp(&lab, &from, &to);
            assert!(ran.status == status && ran.stderr.contains(words), "{from} {to}: {} {}", ran.status, ran.stderr);
        }
        assert!(!here.path().join("x").exists());
    }
    assert_eq!(cp(&lab, &path("site"), "nobody:/srv").status, 3);

    // A link that stands where a file comes is replaced, never written through; what hostile archives may try is tested beside the code.
    fs::write(here.path().join("mine"), "mine").expect("written");
    symlink(here.path().join("mine"), here.path().join("web/hostname")).expect("linked");
    assert_eq!(cp(&lab, "web:/etc/hostname", &path("web")).status, 0);
    assert_eq!(fs::read_to_string(here.path().join("mine")).expect("there"), "mine");
    assert_eq!(fs::read_to_string(here.path().join("web/hostname")).expect("there"), "web\n");

    // Large ones, over a disk; the guest's memory is its limit here.
    let big = here.path().join("big");
    noise(&mut File::create(&big).expect("made"), 200 << 20);
    let began = Instant::now();
    assert_eq!(cp(&lab, &path("big"), "web:/srv/big").status, 0);
    let up = began.elapsed();
    let began = Instant::now();
    assert_eq!(cp(&lab, "web:/srv/big", &path("back")).status, 0);
    println!("200 MiB: in {:.1} s, out {:.1} s", up.as_secs_f64(), began.elapsed().as_secs_f64());
    same(&big, &here.path().join("back"));
    // A guest without room says so, and the copy after it works.
    fs::rename(here.path().join("back"), here.path().join("more")).expect("renamed");
    File::options().append(true).open(here.path().join("more")).expect("opened").set_len(900 << 20).expect("longer");
    let ran = cp(&lab, &path("more"), "web:/srv/more");
    assert!(ran.status == 1 && (ran.stderr.contains("No space left") || ran.stderr.contains("is there room?")), "{}", ran.stderr);
    sh(&lab, "web", "rm -f /srv/more /srv/big");
    assert_eq!(cp(&lab, &path("site"), "web:/srv/last").status, 0);
    // Nothing of it stays: no disk in the guest, no file on the server.
    assert_eq!(sh(&lab, "web", "ls /dev/vd*"), "/dev/vda\n");
    assert_eq!(fs::read_dir(lab.data().join("deployments/copy-real/copies")).expect("there").count(), 0);
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    lab.ok(&project.args(&["down"]));
    assert_eq!(left(&lab, "copy-real"), Vec::<String>::new());
}
