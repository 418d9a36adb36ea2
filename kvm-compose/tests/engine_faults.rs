//! The engine's fault matrix: for every example, fail, crash, cancel and repeat at every step.

mod fake;

use fake::{FakeHost, Fault, World, blueprint, down, steps, up};
use kvm_compose::{api::UpOptions, error::Code, orchestrate::host::Host};

/// Every project under `examples/`, and one that has what they have not: disks and scripts.
fn examples() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut examples: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("examples/")
        .map(|entry| entry.expect("an entry").path().join("kvm-compose.yaml"))
        .filter(|path| path.exists())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("readable")))
        .collect();
    assert!(!examples.is_empty());
    examples.push(("disks and scripts".to_string(), DISKS_AND_SCRIPTS.to_string()));
    let two_hosts = DISKS_AND_SCRIPTS
        .replace("network: [{switch: lan, ip: 10.9.0.5}]", "network: [{switch: lan, ip: 10.9.0.5}]\n    placement: {host: h1}");
    assert_ne!(two_hosts, DISKS_AND_SCRIPTS);
    examples.push(("a disk on another host".to_string(), two_hosts));
    let moved = DISKS_AND_SCRIPTS.replace("micro: {setup_script: app.sh}", "micro: {setup_script: app.sh}\n    placement: {host: h1}");
    assert_ne!(moved, DISKS_AND_SCRIPTS);
    examples.push(("a micro guest on another host".to_string(), moved));
    examples.push(("clones".to_string(), CLONES.to_string()));
    let away = CLONES.replace("  - name: worker\n", "  - name: worker\n    placement: {host: h1}\n");
    assert_ne!(away, CLONES);
    examples.push(("clones on another host".to_string(), away));
    examples
}

const CLONES: &str = "
machines:
  - name: worker
    libvirt:
      cpus: 1
      memory_mb: 256
      libvirt_type: {existing_disk: {path: w.qcow2, driver_type: qcow2}}
      scaling:
        count: 2
        interfaces: {lan: {}, wan: {clones: [1]}}
        shared_setup: shared.sh
        clone_setup: [{script: first.sh, clones: [0]}]
        clone_run: [{script: all.sh}]
  - name: server
    libvirt:
      cpus: 1
      memory_mb: 256
      libvirt_type: {cloud_image: {name: debian_12, context: files}}
      scaling: {count: 2, interfaces: {lan: {}}, shared_setup: other.sh}
network:
  ovn:
    switches: {lan: {subnet: 10.9.0.0/24}, wan: {subnet: 10.8.0.0/24}}
";

const DISKS_AND_SCRIPTS: &str = "
machines:
  - name: db
    libvirt:
      cpus: 1
      memory_mb: 256
      libvirt_type: {existing_disk: {path: db.qcow2, driver_type: qcow2, setup_script: setup.sh, run_script: run.sh, context: files}}
    network: [{switch: lan, ip: 10.9.0.5}]
  - name: app
    micro: {setup_script: app.sh}
    network: [{switch: lan}, {switch: wan, ip: 10.8.0.9}]
network:
  ovn:
    switches: {lan: {subnet: 10.9.0.0/24}, wan: {subnet: 10.8.0.0/24}}
    routers:
      r:
        ports: [{name: p1, gateway_ip: 10.9.0.1/24, switch: lan}, {name: p2, gateway_ip: 10.8.0.1/24, switch: wan}]
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.8.0.254}]
        dhcp: [{switch: lan}]
";

fn fault_free(text: &str) -> World {
    let host = FakeHost::default();
    up(&host, &blueprint(text, &World::default()), &UpOptions::default()).expect("it comes up");
    host.world.into_inner()
}

#[test]
fn a_failure_at_any_step_of_up_leaves_nothing_and_a_death_is_repaired_by_the_same_command() {
    let mut points = 0;
    for (name, text) in examples() {
        let wanted = blueprint(&text, &World::default());
        let finished = fault_free(&text);
        for step in steps(&FakeHost::default(), &wanted) {
            for fault in Fault::ALL {
                points += 1;
                let host = FakeHost::default();
                host.fail_at(&step.work, fault);
                let problem = up(&host, &wanted, &UpOptions::default()).expect_err("the fault is reported");
                let world = host.world.into_inner();
                if fault == Fault::Cancel {
                    assert_eq!(problem.code, Code::Cancelled, "{name}: {} {fault:?}", step.id);
                }
                if !fault.dies() {
                    assert_eq!(world.shape(), World::default(), "{name}: {} {fault:?} left something", step.id);
                }
                // The same command again, and all is well.
                let again = FakeHost::with(world.clone());
                up(&again, &wanted, &UpOptions::default()).unwrap_or_else(|p| panic!("{name}: {} {fault:?}: {p:?}", step.id));
                assert_eq!(again.world.into_inner().shape(), finished.shape(), "{name}: {} {fault:?}", step.id);
                // Or the other command, and nothing is left.
                let other = FakeHost::with(world);
                down(&other).expect("it goes down");
                assert_eq!(other.world.into_inner().shape(), World::default(), "{name}: {} {fault:?}", step.id);
            }
        }
    }
    assert!(points > 100, "the matrix has shrunk to {points} points");
}

#[test]
fn with_keep_on_failure_the_next_up_goes_on_and_starts_nothing_twice() {
    for (name, text) in examples() {
        let wanted = blueprint(&text, &World::default());
        for step in steps(&FakeHost::default(), &wanted) {
            let host = FakeHost::default();
            host.fail_at(&step.work, Fault::Before);
            up(&host, &wanted, &UpOptions { keep_on_failure: true, ..UpOptions::default() }).expect_err("the fault is reported");
            let again = FakeHost::with(host.world.into_inner());
            up(&again, &wanted, &UpOptions::default()).expect("it goes on");
            let world = again.world.into_inner();
            // A golden guest that was left half-made is made anew.
            let once = |(guest, starts): (&kvm_compose::names::GuestName, &u32)| {
                *starts == 1 || wanted.guests.iter().all(|own| own.name != *guest)
            };
            assert!(world.starts.iter().all(once), "{name}: {}: {:?}", step.id, world.starts);
        }
    }
}

#[test]
fn a_failure_or_death_at_any_step_of_down_is_repaired_by_down() {
    for (name, text) in examples() {
        let finished = fault_free(&text);
        let nothing = fake::nothing();
        for step in steps(&FakeHost::with(finished.clone()), &nothing) {
            for fault in Fault::ALL {
                let host = FakeHost::with(finished.clone());
                host.fail_at(&step.work, fault);
                let result = down(&host);
                let world = host.world.into_inner();
                match fault {
                    // Its work was done; the second pass finds nothing and that is what counts.
                    Fault::After => {}
                    _ => assert!(result.is_err(), "{name}: {} {fault:?}", step.id),
                }
                let again = FakeHost::with(world);
                down(&again).unwrap_or_else(|p| panic!("{name}: {} {fault:?}: {p:?}", step.id));
                assert_eq!(again.world.into_inner().shape(), World::default(), "{name}: {} {fault:?}", step.id);
            }
        }
    }
}

#[test]
fn every_step_and_every_undo_can_be_repeated() {
    let say = |_: &str| {};
    for (name, text) in examples() {
        let wanted = blueprint(&text, &World::default());
        let (once, twice) = (FakeHost::default(), FakeHost::default());
        let cancel = kvm_compose::orchestrate::host::Cancel::new();
        let deployment = fake::deployment();
        let on = |host| kvm_compose::orchestrate::host::Context {
            host,
            deployment: &deployment,
            operation: uuid::Uuid::nil(),
            cancel: &cancel,
            say: &say,
        };
        let steps = steps(&once, &wanted);
        for step in &steps {
            once.apply(&step.work, &on(&step.host)).expect("once");
            twice.apply(&step.work, &on(&step.host)).expect("twice, the first time");
            twice.apply(&step.work, &on(&step.host)).expect("twice, the second time");
        }
        assert_eq!(once.world.lock().shape(), twice.world.lock().shape(), "{name}");
        for step in steps.iter().rev() {
            for undo in step.undo.iter().chain(step.undo.iter()) {
                twice.apply(undo, &on(&step.host)).expect("undone");
            }
        }
        let mut left = twice.world.lock().shape();
        left.files.retain(|file| !file.what.to_string_lossy().contains("/deployments/lab/console/"));
        assert_eq!(left, World::default(), "{name}");
    }
}
