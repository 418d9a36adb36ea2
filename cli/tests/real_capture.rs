//! Captures of real guests' interfaces, read by tshark: named interfaces, flows in both directions, limits, a guest started anew.

mod lab;

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{Lab, Project};

const THREE: &str = r#"
machines:
  - {name: a, micro: {}, network: [{switch: lan, ip: 10.73.0.1}]}
  - {name: b, micro: {}, network: [{switch: lan, ip: 10.73.0.2}]}
  - {name: c, micro: {}, network: [{switch: lan, ip: 10.73.0.3, impairment: {delay_ms: 20}}]}
network: {ovn: {switches: {lan: {subnet: 10.73.0.0/24}}}}
"#;

fn sh(lab: &Lab, project: &Project, guest: &str, command: &str) -> String {
    lab.ok(&project.args(&["exec", guest, "--", "sh", "-c", command])).stdout
}

/// What tshark reads of a file, by fields; an error of its own fails.
fn fields(file: &Path, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(file).args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    names.iter().for_each(|name| {
        tshark.args(["-e", name]);
    });
    let output = tshark.stdin(Stdio::null()).output().expect("tshark");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !errors.contains("cut short") && !errors.contains("damaged"), "{errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.split('|').map(String::from).collect()).collect()
}

#[test]
fn three_guests_are_captured_into_one_file_while_iperf3_runs() {
    let mut lab = Lab::start();
    let project = lab.project("capture-real", THREE);
    lab.ok(&project.args(&["up"]));
    let file = project.folder.join("lab.pcapng");
    sh(&lab, &project, "b", "iperf3 -s -D </dev/null >/dev/null 2>&1");
    let capture = lab
        .command(&project.args(&["capture", "a:eth0", "b", "c", "--duration", "30", "-w", file.to_str().expect("UTF-8")]))
        .stderr(Stdio::piped())
        .spawn()
        .expect("testbed runs");
    lab::wait("the capture has begun", Duration::from_secs(20), || std::fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    sh(&lab, &project, "a", "iperf3 -c 10.73.0.2 -b 4M -t 3 >/dev/null");
    // The first packets between two may get lost while neighbours are found.
    sh(&lab, &project, "a", "ping -c 3 10.73.0.3");
    let pings = sh(&lab, &project, "a", "ping -c 5 -i 0.2 -s 777 10.73.0.3");
    assert!(pings.contains(" 5 packets received"), "{pings}");
    // As Ctrl-C does.
    lab::lines("kill", &["-INT", &capture.id().to_string()]);
    let output = capture.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("frames"), "{said}");

    let names: std::collections::BTreeSet<String> =
        fields(&file, "frame", &["frame.interface_name"]).into_iter().map(|line| line[0].clone()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a:eth0", "b:eth0", "c:eth0"]);
    // 1.5 MB from a to b, and acknowledgements back, seen at both.
    for port in ["a:eth0", "b:eth0"] {
        let of = |way: &str| fields(&file, &format!("frame.interface_name == \"{port}\" && tcp && {way}"), &["frame.len"]);
        let bytes: u64 = of("ip.src == 10.73.0.1").iter().map(|line| line[0].parse::<u64>().expect("a length")).sum();
        assert!((1_200_000..4_000_000).contains(&bytes), "{port}: {bytes} bytes from a to b");
        assert!(of("ip.src == 10.73.0.2").len() > 50, "{port}: b's acknowledgements");
    }
    // A shaped link is seen as its guest sees it: the echo leaves `a` some 20 ms before it comes to `c`.
    let times = |port: &str| -> Vec<f64> {
        let lines =
            fields(&file, &format!("frame.interface_name == \"{port}\" && icmp.type == 8 && data.len == 777"), &["frame.time_epoch"]);
        lines.iter().map(|line| line[0].parse().expect("a time")).collect()
    };
    let (sent, came) = (times("a:eth0"), times("c:eth0"));
    assert_eq!((sent.len(), came.len()), (5, 5), "{said}");
    let mut ways: Vec<f64> = sent.iter().zip(&came).map(|(sent, came)| (came - sent) * 1000.0).collect();
    ways.sort_by(f64::total_cmp);
    assert!((19.0..40.0).contains(&ways[1]), "{ways:?} ms");

    // Limits; a pipe; frames cut short.
    sh(&lab, &project, "a", "ping -i 0.05 10.73.0.2 >/dev/null 2>&1 </dev/null &");
    lab.ok(&project.args(&["capture", "a", "-c", "10", "--snaplen", "60", "-w", file.to_str().expect("UTF-8")]));
    let lengths = fields(&file, "frame", &["frame.len", "frame.cap_len"]);
    assert!(lengths.len() == 10 && lengths.iter().all(|line| line[1].parse::<u32>().is_ok_and(|kept| kept <= 60)), "{lengths:?}");
    let mut piped = lab.command(&project.args(&["capture", "b", "-w", "-"])).stdout(Stdio::piped()).spawn().expect("testbed runs");
    let mut some = vec![0; 4096];
    piped.stdout.as_mut().expect("a pipe").read_exact(&mut some).expect("frames as they pass");
    drop(piped.stdout.take());
    assert!(piped.wait().expect("it ends").success(), "whoever closes the pipe has seen enough");
    assert_eq!(some[..4], [0x0a, 0x0d, 0x0d, 0x0a]);

    // A guest that is started anew is heard on.
    let capture = lab
        .command(&project.args(&["capture", "b", "--duration", "60", "-w", file.to_str().expect("UTF-8")]))
        .stderr(Stdio::null())
        .spawn()
        .expect("testbed runs");
    lab::wait("frames pass", Duration::from_secs(20), || std::fs::metadata(&file).is_ok_and(|file| file.len() > 2000));
    lab::lines("virsh", &["-q", "destroy", "capture-real.b"]);
    lab.ok(&project.args(&["up"]));
    let before = std::fs::metadata(&file).expect("a file").len();
    lab::wait("frames pass again", Duration::from_secs(30), || std::fs::metadata(&file).is_ok_and(|file| file.len() > before + 4000));
    lab::lines("kill", &["-INT", &capture.id().to_string()]);
    assert!(capture.wait_with_output().expect("it ends").status.success());

    // Faults, none of which leaves a file.
    let none = project.folder.join("none.pcapng");
    for (port, status, word) in [("z", 3, "no interface"), ("a:eth7", 3, "no interface"), ("a:", 3, "no interface")] {
        let ran = lab.run(&project.args(&["capture", port, "-w", none.to_str().expect("UTF-8")]));
        assert!(ran.status == status && ran.stderr.contains(word), "{port}: {} {}", ran.status, ran.stderr);
    }
    lab::lines("virsh", &["-q", "destroy", "capture-real.c"]);
    let ran = lab.run(&project.args(&["capture", "c", "-w", none.to_str().expect("UTF-8")]));
    assert!(ran.status != 0 && ran.stderr.contains("does not run"), "{}", ran.stderr);
    assert!(!none.exists());
    lab.ok(&project.args(&["down"]));
    assert_eq!(lab.leftovers("capture-real"), Vec::<String>::new());
}
