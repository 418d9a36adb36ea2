//! Golden images: made once, for whoever needs them, and never under the disks of clones that are there.

mod fake;

use fake::{FakeHost, World, blueprint, down, steps, up};
use kvm_compose::{
    api::UpOptions,
    plan::{blueprint::Blueprint, step::Work},
};

fn text(count: usize, script: &str, more: &str) -> String {
    format!(
        "machines:
  - name: worker
    libvirt:
      cpus: 1
      memory_mb: 256
      libvirt_type: {{cloud_image: {{name: debian_12}}}}
      scaling: {{count: {count}, interfaces: {{lan: {{}}}}, shared_setup: {script}}}
{more}network: {{ovn: {{switches: {{lan: {{subnet: 10.9.0.0/24}}}}}}}}
"
    )
}

fn made(host: &FakeHost) -> usize {
    host.history.lock().iter().filter(|work| matches!(work, Work::KeepGolden { .. })).count()
}

fn ids(host: &FakeHost, wanted: &Blueprint) -> Vec<String> {
    steps(host, wanted).iter().map(|step| step.id.to_string()).collect()
}

#[test]
fn it_is_made_once_and_stays_for_clones_that_come_later() {
    let host = FakeHost::default();
    let wanted = blueprint(&text(2, "shared.sh", ""), &World::default());
    let plan = steps(&host, &wanted);
    let at = |id: &str| plan.iter().position(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("{id} in {plan:?}"));
    let order = ["disk/worker", "start/worker", "ready/worker", "setup/worker", "golden/worker", "disk/worker-0", "start/worker-0"];
    assert!(order.map(at).is_sorted(), "{plan:?}");
    up(&host, &wanted, &UpOptions::default()).expect("up");
    assert_eq!((made(&host), ids(&host, &wanted)), (1, Vec::new()));
    let guests: Vec<String> = host.world.lock().domains.keys().map(ToString::to_string).collect();
    assert_eq!(guests, ["worker-0", "worker-1"], "the golden guest is gone");
    // Another clone, all of them again, and another deployment's: one image.
    let three = blueprint(&text(3, "shared.sh", ""), &host.world.lock().clone());
    assert!(ids(&host, &three).contains(&"disk/worker-2".to_string()));
    up(&host, &three, &UpOptions::default()).expect("up");
    down(&host).expect("down");
    up(&host, &three, &UpOptions { provision: true, ..UpOptions::default() }).expect("up");
    assert_eq!(made(&host), 1);
    // Another script is another image, and its clones have other disks.
    let other = blueprint(&text(3, "other.sh", ""), &host.world.lock().clone());
    assert_ne!(other.goldens[0].key, wanted.goldens[0].key);
    up(&host, &other, &UpOptions::default()).expect("up");
    assert_eq!((made(&host), ids(&host, &other)), (2, Vec::new()));
}

#[test]
fn machines_that_differ_in_name_alone_share_one() {
    let more = "  - name: helper
    libvirt:
      cpus: 2
      memory_mb: 512
      libvirt_type: {cloud_image: {name: debian_12}}
      scaling: {count: 1, interfaces: {lan: {}}, shared_setup: shared.sh}
";
    let host = FakeHost::default();
    let wanted = blueprint(&text(1, "shared.sh", more), &World::default());
    up(&host, &wanted, &UpOptions::default()).expect("up");
    assert_eq!((made(&host), ids(&host, &wanted)), (1, Vec::new()));
}

#[test]
fn clones_whose_image_is_gone_are_made_anew_and_never_laid_over_another() {
    let host = FakeHost::default();
    let wanted = blueprint(&text(2, "shared.sh", ""), &World::default());
    up(&host, &wanted, &UpOptions::default()).expect("up");
    host.world.lock().goldens.clear();
    let wanted = blueprint(&text(2, "shared.sh", ""), &host.world.lock().clone());
    let plan = ids(&host, &wanted);
    for id in ["remove/worker-0", "remove/worker-1", "golden/worker", "disk/worker-0", "disk/worker-1"] {
        assert!(plan.contains(&id.to_string()), "{id}: {plan:?}");
    }
    assert_eq!(plan.iter().filter(|id| id.starts_with("file/disks/worker-")).count(), 2, "{plan:?}");
    up(&host, &wanted, &UpOptions::default()).expect("up");
    assert_eq!((made(&host), ids(&host, &wanted)), (2, Vec::new()));
    // A guest that is chosen alone leaves the others, and the golden guest leaves their interfaces to them.
    host.world.lock().goldens.clear();
    let wanted = blueprint(&text(2, "shared.sh", ""), &host.world.lock().clone());
    up(&host, &wanted, &UpOptions { guests: vec!["worker-1".parse().expect("valid")], ..UpOptions::default() }).expect("up");
    let starts = host.world.lock().starts.clone();
    let of = |name: &str| starts[&name.parse().expect("valid")];
    assert_eq!((of("worker-0"), of("worker-1"), made(&host)), (2, 3, 3));
}

#[test]
fn it_travels_once_to_each_host_whose_clones_need_it() {
    let yaml = text(3, "shared.sh", "").replace("name: worker\n", "name: worker\n    placement: {host: h1}\n");
    let host = FakeHost::default();
    let wanted = blueprint(&yaml, &World::default());
    let plan: Vec<String> = steps(&host, &wanted).iter().map(|step| format!("{} on {}", step.id, step.host)).collect();
    assert!(plan.contains(&"golden/worker on master".to_string()), "{plan:?}");
    assert_eq!(plan.iter().filter(|step| step.starts_with("fetch/golden-") && step.ends_with("@h1 on h1")).count(), 1, "{plan:?}");
    up(&host, &wanted, &UpOptions::default()).expect("up");
    assert_eq!((made(&host), ids(&host, &wanted)), (1, Vec::new()));
    // What the host has is enough: the master's may go.
    host.world.lock().goldens.clear();
    assert_eq!(ids(&host, &wanted), Vec::<String>::new());
}

#[test]
fn installers_and_limits_stand_in_the_definition_and_a_limit_of_memory_beside_it() {
    let yaml = |more: &str| {
        format!(
            "machines:
  - name: box
    resources: {{cpu_shares: 512, memory_low_mb: 100{more}, disk_iops: 900}}
    libvirt: {{cpus: 1, memory_mb: 200, libvirt_type: {{iso_guest: {{path: a.iso, expand_gigabytes: 3}}}}}}
    network: [{{switch: lan}}]
network: {{ovn: {{switches: {{lan: {{subnet: 10.9.0.0/24}}}}}}}}
"
        )
    };
    let of = |more: &str| blueprint(&yaml(more), &World::default()).guests[0].clone();
    let (plain, limited) = (of(""), of(", memory_max_mb: 400"));
    for part in [
        "<shares>512</shares>",
        "<soft_limit unit=\"MiB\">100</soft_limit>",
        "<total_iops_sec>900</total_iops_sec>",
        "<source file=\"/images/a.iso\"/>",
    ] {
        assert_eq!(plain.domain.xml.matches(part).count(), 1, "{part}: {}", plain.domain.xml);
    }
    let boots: Vec<&str> = plain.domain.xml.lines().filter(|line| line.contains("<boot ")).map(str::trim).collect();
    assert_eq!(boots, ["<boot dev=\"hd\"/>", "<boot dev=\"cdrom\"/>"]);
    assert_eq!((plain.volumes[0].base.as_ref(), plain.volumes[0].grown_to, plain.seed.is_none()), (None, Some(3 << 30), true));
    // A definition with it would have libvirt lock all of the guest's memory.
    assert!(!limited.domain.xml.contains("hard_limit"));
    assert_eq!((plain.domain.memory_max_mb, limited.domain.memory_max_mb), (None, Some(400)));
    assert_ne!(plain.domain.digest, limited.domain.digest);
}
