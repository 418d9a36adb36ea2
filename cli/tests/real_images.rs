//! Images with the real server and the real command: a publisher on loopback, a server that is killed, a testbed that uses them.

mod lab;
#[path = "../../kvm-compose/tests/disk_images/publisher.rs"]
mod publisher;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use lab::Lab;
use publisher::{Deed, Publisher};

fn qemu_img(arguments: &[&str]) {
    let done = Command::new("qemu-img").args(arguments).output().expect("qemu-img");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A server with images of its own, that gives a silent publisher three seconds.
fn start() -> (Lab, PathBuf) {
    let folder = tempfile::Builder::new().prefix("tb-images").tempdir().expect("a folder").keep();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("opened");
    let mut lab = Lab::start_with(&["--images-dir", text(&folder)]);
    lab.kill();
    fs::write(lab.data().join("config/server.toml"), "[images]\nstall_s = 3\n").expect("settings");
    lab.boot();
    (lab, folder)
}

/// Publishes a disk of noise as `mine`; gives its bytes.
fn publish(lab: &Lab, publisher: &Publisher) -> Vec<u8> {
    let (raw, image) = (lab.folder.path().join("made.raw"), lab.folder.path().join("made.qcow2"));
    let noise: Vec<u8> = (0..1u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 32).to_le_bytes()).collect();
    fs::write(&raw, noise).expect("a disk");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
    let content = fs::read(&image).expect("an image");
    let sums = Command::new("sha512sum").arg(&image).output().expect("sha512sum").stdout;
    publisher.put("/mine.qcow2", &content);
    publisher.put("/SUMS", String::from_utf8_lossy(&sums).replace(text(&image), "mine.qcow2").as_bytes());
    let (url, sums) = (publisher.url("/mine.qcow2"), publisher.url("/SUMS"));
    let entry = format!("[mine]\nurl = \"{url}\"\nchecksums = \"{sums}\"\nuser = \"me\"\n");
    fs::write(lab.data().join("config/images.toml"), entry).expect("a catalogue");
    content
}

#[test]
fn an_image_is_pulled_although_the_server_is_killed_in_the_middle() {
    let (mut lab, images) = start();
    let publisher = Publisher::start();
    let content = publish(&lab, &publisher);
    let available = lab.ok(&["image", "list", "--available"]).stdout;
    assert!(available.lines().any(|line| line.starts_with("mine ") && line.contains(" no ")), "{available}");
    let typo = lab.run(&["image", "pull", "mien"]);
    assert!(typo.status == 3 && typo.stderr.contains("did you mean `mine`?"), "{}", typo.stderr);

    publisher.then("/mine.qcow2", &[Deed::Stall(1_000_000)]);
    let mut pulling = lab.command(&["image", "pull", "mine"]).spawn().expect("a command");
    let parts = images.join("disks/parts");
    let has_come = || fs::read_dir(&parts).is_ok_and(|all| all.flatten().any(|part| part.metadata().is_ok_and(|it| it.len() == 1_000_000)));
    lab::wait("a megabyte has come", Duration::from_secs(20), has_come);
    lab.kill();
    pulling.kill().expect("killed");
    pulling.wait().expect("gone");
    lab.boot();
    assert!(lab.ok(&["-q", "image", "list"]).stdout.is_empty(), "half an image has no name");

    // The same command again goes on from there.
    let before = publisher.asked("/mine.qcow2").len();
    let pulled = lab.ok(&["image", "pull", "mine"]);
    assert_eq!(pulled.stdout, "the image `mine` is ready\n");
    assert!(pulled.stderr.contains("going on") && pulled.stderr.contains("100 %"), "{}", pulled.stderr);
    let asked = publisher.asked("/mine.qcow2");
    assert_eq!(asked[before].headers.get("range").map(String::as_str), Some("bytes=1000000-"));
    assert_eq!(asked.len(), before + 1);
    let list = lab.json(&["image", "list"]);
    let file = list[0]["files"][0].as_str().expect("a path");
    assert!(fs::read(file).expect("the content") == content, "another content");
    assert_eq!(lab.json(&["image", "pull", "mine"])["entry"]["result"]["digest"], list[0]["digest"]);
    assert_eq!(publisher.asked("/mine.qcow2").len(), before + 1);

    // What fails says why and what to do, and ends with the code that stands in the documents.
    publisher.put("/SUMS", format!("{}  mine.qcow2\n", "a".repeat(64)).as_bytes());
    let wrong = lab.run(&["image", "pull", "mine"]);
    assert!(wrong.status == 1 && wrong.stderr.contains("not what its publisher's checksum says"), "{}", wrong.stderr);
    assert_eq!(lab.json(&["image", "list"])[0]["digest"], list[0]["digest"], "the good one keeps the name");
    lab.ok(&["image", "rm", "mine"]);
    assert_eq!(lab.run(&["image", "rm", "mine"]).status, 3);
    fs::remove_dir_all(&images).expect("removed");
}

#[test]
fn an_image_is_handed_over_by_whoever_can_read_it() {
    let (lab, images) = start();
    let (raw, vmdk) = (lab.folder.path().join("my disk.raw"), lab.folder.path().join("box.vmdk"));
    fs::write(&raw, vec![5; 3 << 20]).expect("a disk");
    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", text(&raw), text(&vmdk)]);
    let unnamed = lab.run(&["image", "import", text(&raw)]);
    assert!(unnamed.status == 2 && unnamed.stderr.contains("--name"), "{}", unnamed.stderr);
    lab.ok(&["image", "import", text(&raw), "--name", "from_raw"]);
    lab.ok(&["image", "import", text(&vmdk)]);
    assert_eq!(lab.ok(&["-q", "image", "list"]).stdout, "box\nfrom_raw\n");
    let both = lab.json(&["image", "list"]);
    assert_eq!((both[0]["virtual_bytes"].clone(), both[0]["source"]["file"].clone()), ((3 << 20).into(), "box.vmdk".into()));
    let page = lab.folder.path().join("page.qcow2");
    fs::write(&page, "<html>").expect("a page");
    let refused = lab.run(&["image", "import", text(&page)]);
    assert!(refused.status == 1 && refused.stderr.contains("it is text"), "{}", refused.stderr);
    assert_eq!(lab.run(&["image", "import", "/nowhere.raw"]).status, 3);
    assert_eq!(lab.ok(&["image", "prune"]).stdout, "nothing to remove\n");
    lab.ok(&["image", "rm", "box", "from_raw"]);
    fs::remove_dir_all(&images).expect("removed");
}

#[test]
fn a_testbed_gets_its_image_and_holds_on_to_it() {
    let (mut lab, images) = start();
    let publisher = Publisher::start();
    publish(&lab, &publisher);
    let machine = |name: &str, more: &str| {
        format!(
            "machines:\n  - name: box\n    ready: {{timeout_s: 3}}\n    libvirt: {{cpus: 1, memory_mb: 64, libvirt_type: \
             {{cloud_image: {{name: {name}, expand_gigabytes: 2{more}}}}}}}\n    network: [{{switch: lan, ip: 10.69.0.2}}]\n\
             network:\n  ovn:\n    switches: {{lan: {{subnet: 10.69.0.0/24}}}}\n"
        )
    };
    let project = lab.project("images-real", &machine("mine", ""));
    // A plan fetches nothing, and says what does.
    let plan = lab.run(&project.args(&["plan"]));
    assert!(plan.status == 1 && plan.stderr.contains("testbed image pull mine"), "{}", plan.stderr);
    assert!(publisher.asked("/mine.qcow2").is_empty());
    lab.ok(&project.args(&["plan", "--offline"]));

    // There is nothing on this disk that could become ready; all else is there.
    let up = lab.run(&project.args(&["up", "--keep-on-failure"]));
    assert!(up.status == 1 && up.stderr.contains("is not ready"), "{}", up.stderr);
    assert!(up.stderr.contains("the image `mine` is not on this server yet") && up.stderr.contains("100 %"), "{}", up.stderr);
    let image = lab.json(&["image", "list"])[0].clone();
    assert_eq!(image["used_by"], serde_json::json!(["images-real"]));
    let disks: Vec<_> = fs::read_dir(lab.data().join("deployments/images-real/disks")).expect("disks").flatten().collect();
    let [disk] = disks.as_slice() else { panic!("{disks:?}") };
    let told = Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(disk.path()).output().expect("qemu-img").stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!(told["full-backing-filename"], image["files"][0], "the disk lies over the image and copies nothing of it");
    assert_eq!(told["virtual-size"], image["virtual_bytes"].as_u64().expect("a number") + (2 << 30));
    assert!(disk.metadata().expect("there").len() < 1 << 20);
    assert_eq!(lab::running("images-real").len(), 1);

    // Whoever stands on it keeps it.
    let refused = lab.run(&["image", "rm", "mine"]);
    assert!(refused.status == 4 && refused.stderr.contains("`images-real`"), "{}", refused.stderr);
    assert_eq!(lab.ok(&["image", "prune"]).stdout, "nothing to remove\n");
    assert!(lab.json(&project.args(&["plan"]))["steps"].as_array().expect("steps").iter().all(|step| step["impact"] != "recreate"));
    lab.ok(&project.args(&["down"]));
    lab.ok(&["image", "rm", "mine"]);
    assert_eq!(lab.leftovers("images-real"), Vec::<String>::new());

    // An image that was imported is named like any other.
    lab.ok(&["image", "import", text(&lab.folder.path().join("made.qcow2")), "--name", "own"]);
    let project = lab.project("images-real", &machine("own", ""));
    let steps = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(steps.contains("disk/box"), "{steps}");
    let project = lab.project("images-real", &machine("nobodys", ""));
    assert!(lab.run(&project.args(&["plan"])).stderr.contains("error[E077]"));
    let project = lab.project("images-real", &machine("own", ", context: none"));
    let refused = lab.run(&project.args(&["up"]));
    assert!(refused.status == 1 && refused.stderr.contains("error[E070]"), "{}", refused.stderr);
    fs::remove_dir_all(&images).expect("removed");
}
