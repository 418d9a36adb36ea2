//! The main job on the real parts: up, use, change, down.

mod lab;

use std::time::{Duration, Instant};

use lab::{Lab, QUICKSTART, domains, rows, running};

#[test]
fn the_quickstart_comes_up_works_changes_and_goes_down() {
    let mut lab = Lab::start();
    let project = lab.project("qs-real", QUICKSTART);
    lab.ok(&project.args(&["up"]));

    // Real domains, a real network.
    let first: Vec<_> = running("qs-real");
    assert_eq!(first.len(), 2, "{first:?}");
    let network = lab::lines("ovn-nbctl", &["show"]).join("\n");
    for word in ["qs-real.clients", "qs-real.servers", "qs-real.r1"] {
        assert!(network.contains(word), "{network}");
    }
    let rows_before = rows("qs-real");

    // A guest knows its name; the exit status is the command's own; output is byte for byte.
    assert_eq!(lab.ok(&["-p", "qs-real", "exec", "client", "--", "cat", "/etc/hostname"]).stdout, "client\n");
    assert_eq!(lab.run(&["-p", "qs-real", "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]).status, 42);
    let both = lab.run(&["-p", "qs-real", "exec", "web", "--", "sh", "-c", "printf 'a b'; printf 'x\\ny' >&2"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("a b", "x\ny"));
    assert_eq!(lab.run(&["-p", "qs-real", "exec", "nobody", "--", "true"]).status, 3);

    // Through the router: ping, and a page, which only arrives when TCP works.
    lab.ok(&["-p", "qs-real", "exec", "client", "--", "ping", "-c", "3", "-W", "2", "10.0.2.10"]);
    let page = lab.ok(&["-p", "qs-real", "exec", "client", "--", "wget", "-q", "-O", "-", "http://10.0.2.10/"]);
    assert!(page.stdout.contains("web"), "{}", page.stdout);
    // The environment, and the lease of the DHCP range.
    let greeting = lab.ok(&["-p", "qs-real", "exec", "web", "--", "sh", "-c", ". /etc/testbedos/environment; echo $GREETING"]);
    assert_eq!(greeting.stdout, "hello from the testbed\n");
    let address = lab.ok(&["-p", "qs-real", "exec", "client", "--", "ip", "-4", "-o", "addr", "show", "eth0"]);
    assert!(address.stdout.contains("10.0.1.100/24"), "{}", address.stdout);
    lab.ok(&["-p", "qs-real", "exec", "web", "--", "ping", "-c", "2", "-W", "2", "10.0.1.100"]);
    // 4 MiB through the router, whole.
    lab.ok(&["-p", "qs-real", "exec", "web", "--", "sh", "-c", "dd if=/dev/urandom of=/srv/www/blob bs=1M count=4 2>/dev/null"]);
    let sum = |guest: &str, command: &str| lab.ok(&["-p", "qs-real", "exec", guest, "--", "sh", "-c", command]).stdout;
    let sent = sum("web", "md5sum < /srv/www/blob");
    assert_eq!(sum("client", "wget -q -O - http://10.0.2.10/blob | md5sum"), sent);

    // A second up: an empty plan, quickly, nothing touched.
    assert_eq!(lab.json(&project.args(&["plan"]))["steps"], serde_json::json!([]));
    let began = Instant::now();
    lab.ok(&project.args(&["up"]));
    assert!(began.elapsed() < Duration::from_secs(5), "a no-op up took {:?}", began.elapsed());
    assert_eq!((running("qs-real"), rows("qs-real")), (first.clone(), rows_before.clone()));

    // A guest's name that is mistyped is refused before an action is on record, so the testbed does not read as failed.
    let typo = lab.run(&project.args(&["up", "clint"]));
    assert!(typo.status == 3 && typo.stderr.contains("did you mean `client`?"), "{}", typo.stderr);
    assert_eq!(lab.json(&["-p", "qs-real", "info"])["state"], "up");

    // A guest more: exactly that.
    let more = QUICKSTART.replace("network:\n  ovn:", "  - name: extra\n    micro: {}\n    network: [{switch: clients}]\nnetwork:\n  ovn:");
    let project = lab.project("qs-real", &more);
    let plan = lab.json(&project.args(&["plan"]));
    let ids: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["id"].as_str()).collect();
    assert_eq!(ids, ["network", "seed/extra", "start/extra", "ready/extra"]);
    let network: Vec<&str> = plan["network"].as_array().expect("rows").iter().filter_map(|row| row.as_str()).collect();
    let [port, names] = network[..] else { panic!("{network:?}") };
    assert!(port.starts_with("+ port/extra/0 ") && port.ends_with(" 10.0.1.101"), "{network:?}");
    assert!(names.starts_with("~ dns records: ") && names.contains("extra=10.0.1.101"), "{network:?}");
    assert_eq!(lab.json(&["-p", "qs-real", "info"])["phase"], "up", "a plan of another file changes nothing");
    lab.ok(&project.args(&["up"]));
    let now = running("qs-real");
    assert!(first.iter().all(|guest| now.contains(guest)) && now.len() == 3, "{first:?} {now:?}");
    assert_eq!(lab.ok(&["-p", "qs-real", "exec", "extra", "--", "hostname"]).stdout, "extra\n");

    // And one less: exactly that.
    let project = lab.project("qs-real", QUICKSTART);
    let plan = lab.json(&project.args(&["plan"]));
    let ids: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["id"].as_str()).collect();
    assert!(ids.contains(&"remove/extra") && ids.iter().all(|id| id.contains("extra") || *id == "network"), "{ids:?}");
    lab.ok(&project.args(&["up"]));
    assert_eq!((running("qs-real"), rows("qs-real")), (first, rows_before));

    // What is killed behind our back is shown and brought back, alone.
    lab::lines("virsh", &["-q", "destroy", "qs-real.client"]);
    let state = lab.json(&["-p", "qs-real", "ps"]);
    assert!(state.to_string().contains("shut off"), "{state}");
    let ids = lab.json(&project.args(&["plan"]))["steps"].to_string();
    assert!(ids.contains("start/client") && !ids.contains("start/web"), "{ids}");
    lab.ok(&project.args(&["up"]));

    // Down leaves nothing; images stay; the record and the logs too.
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("qs-real"), Vec::<String>::new());
    assert!(domains("qs-real").is_empty());
    assert!(lab.data().join("deployments/qs-real.json").exists() && lab.data().join("deployments/qs-real-logs.json").exists());
    let logs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.data().join("deployments/qs-real-logs.json")).expect("the index")).expect("JSON");
    for entry in logs.as_object().expect("an object").values() {
        assert!(std::path::Path::new(entry["log_path"].as_str().expect("a path")).exists());
        assert!(entry["error_code"].is_number(), "{entry}");
    }
    // And again, from nothing, and a second down has nothing to do.
    lab.ok(&project.args(&["down"]));
}
