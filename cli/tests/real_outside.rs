//! Ways out of a testbed and into it, on real OVN: address translation, forwarding, hosts' bridges and interfaces.

mod cluster;
mod outside;

use cluster::{Cluster, Ran};
use outside::{Outside, PORT};

const NAT: &str = include_str!("../../examples/nat/kvm-compose.yaml");
const LOCALNET: &str = include_str!("../../examples/localnet/kvm-compose.yaml");

/// One project on a cluster.
struct Bed<'c> {
    cluster: &'c Cluster,
    words: Vec<String>,
}

impl<'c> Bed<'c> {
    fn of(cluster: &'c Cluster, name: &str, yaml: &str) -> Self {
        Bed { cluster, words: cluster.project(name, yaml).to_vec() }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let words: Vec<&str> = self.words.iter().map(String::as_str).chain(args.iter().copied()).collect();
        self.cluster.run(&words)
    }

    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "{args:?}\n{}\n{}\n{}", ran.stdout, ran.stderr, self.cluster.logs());
        ran.stdout
    }

    /// Ids of the steps that `up` would take.
    fn plan(&self) -> Vec<String> {
        let plan: serde_json::Value = serde_json::from_str(&self.ok(&["plan", "-o", "json"])).expect("JSON");
        plan["steps"].as_array().expect("steps").iter().map(|step| step["id"].as_str().expect("an id").to_string()).collect()
    }

    /// A command in a guest; the first packets may get lost while neighbours are found.
    fn sh(&self, guest: &str, command: &str) -> String {
        let all = ["exec", guest, "--", "sh", "-c", command];
        let ran = self.run(&all);
        if ran.status == 0 { ran.stdout } else { self.ok(&all) }
    }

    fn pings(&self, guest: &str, address: &str) {
        let said = self.ok(&["exec", guest, "--", "ping", "-c", "3", "-W", "5", address]);
        assert!(said.contains("bytes from"), "{guest} → {address}: {said}");
    }

    fn fetch(&self, guest: &str, url: &str) -> String {
        self.sh(guest, &format!("timeout 20 wget -q -O - {url}"))
    }
}

/// A neighbour on the bridge br-ex of a host.
fn neighbour(cluster: &Cluster, host: &str, address: &str) -> Outside {
    let pid = cluster.lab.host(host).expect("a host").pid.expect("it runs");
    let outside = Outside::beside(pid, address);
    cluster.lab.ok(host, &["ovs-vsctl", "add-port", "br-ex", &outside.cable]).expect("plugged");
    outside
}

/// 4 MB that are the same wherever they are made.
const BLOB: &str = "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 4000000 > /srv/www/blob";

fn blob() -> Vec<u8> {
    b"0123456789abcdefghijklmnopqrstuvwxyz\n".iter().copied().cycle().take(4_000_000).collect()
}

fn ids(cluster: &Cluster, host: &str) -> String {
    cluster.lab.ok(host, &["ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids"]).expect("ovs-vsctl")
}

#[test]
fn guests_go_out_behind_one_address_and_are_reached_from_outside() {
    let cluster = Cluster::alone(0);
    cluster.lab.ok("m", &["ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings=other:br-other"]).expect("set");
    let bed = Bed::of(&cluster, "nat", NAT);
    assert_eq!(bed.plan()[..2], ["uplink/public", "network"]);
    bed.ok(&["up"]);
    assert_eq!(bed.plan(), [""; 0]);
    assert!(ids(&cluster, "m").contains("ovn-bridge-mappings=\"other:br-other,public:br-ex\""), "{}", ids(&cluster, "m"));
    let outside = neighbour(&cluster, "m", "172.16.1.9/24");

    bed.ok(&["check"]);
    // Both subnets go out behind one address; the shop behind its own.
    for (guest, seen) in [("client", "172.16.1.200"), ("wiki", "172.16.1.200"), ("shop", "172.16.1.201")] {
        bed.pings(guest, "172.16.1.9");
        outside.page(guest);
        assert_eq!(bed.fetch(guest, &format!("http://172.16.1.9:{PORT}/{guest}")), format!("{guest} outside\n"));
        assert_eq!(outside.who_asked(guest).as_deref(), Some(seen), "{guest}");
    }
    // In again: an address of its own, and two guests behind one. 4 MB each, byte for byte.
    for (guest, url) in [("shop", "172.16.1.201"), ("wiki", "172.16.1.200:8080"), ("mail", "172.16.1.200:8081")] {
        bed.sh(guest, BLOB);
        let page = String::from_utf8_lossy(&outside.fetch(&format!("http://{url}/"))).into_owned();
        assert!(page.contains(guest), "{url}: {page}");
        assert!(outside.fetch(&format!("http://{url}/blob")) == blob(), "4 MB from {url}");
    }
    assert!(outside.pings("172.16.1.201") && outside.pings("172.16.1.200") && !outside.pings("172.16.1.202"));
    let closed = outside.command(&["timeout", "5", "busybox", "wget", "-q", "-O", "-", "http://172.16.1.200:8082/"]).status();
    assert!(!closed.expect("wget runs").success(), "a port that leads nowhere");
    // The same addresses from inside: from another subnet, from the same one, and from the guest itself.
    for guest in ["client", "mail", "wiki"] {
        assert!(bed.fetch(guest, "http://172.16.1.200:8080/").contains("wiki"), "{guest} → the wiki's port outside");
    }
    for guest in ["client", "mail"] {
        assert!(bed.fetch(guest, "http://172.16.1.201/").contains("shop"), "{guest} → the shop's address outside");
    }
    // The host, which is 172.16.1.1 on its own bridge.
    bed.pings("client", "172.16.1.1");
    let page = cluster.lab.ok("m", &["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://172.16.1.200:8081/"]).expect("a page");
    assert!(page.contains("mail"), "{page}");

    // A rule more touches no guest; a host's bridge that somebody broke is mended.
    let more = NAT.replace(
        "        dhcp:\n",
        "          - {nat_type: dnat, external_ip: 172.16.1.200, external_port: 8082, logical_ip: 10.72.2.11, logical_port: 80}\n        dhcp:\n",
    );
    let bed = Bed::of(&cluster, "nat", &more);
    cluster.lab.ok("m", &["ip", "addr", "flush", "dev", "br-ex"]).expect("flushed");
    assert_eq!(bed.plan(), ["uplink/public", "network"]);
    bed.ok(&["up"]);
    assert!(String::from_utf8_lossy(&outside.fetch("http://172.16.1.200:8082/")).contains("shop"));
    bed.pings("client", "172.16.1.1");

    // Another testbed with the same addresses out there would take this one off the network: it is refused, and leaves nothing.
    let twin = Bed::of(&cluster, "twin", NAT);
    let refused = twin.run(&["up"]);
    assert!(refused.status == 4 && refused.stderr.contains("`172.16.1.200`") && refused.stderr.contains("`nat`"), "{refused:?}");
    assert!(outside.pings("172.16.1.200") && outside.pings("172.16.1.201"));
    // With addresses of its own it goes out beside the first, and comes down without it.
    let beside = NAT.replace("172.16.1.200", "172.16.1.210").replace("172.16.1.201", "172.16.1.211").replace("10.72.", "10.82.");
    let twin = Bed::of(&cluster, "twin", &beside);
    twin.ok(&["up"]);
    twin.pings("client", "172.16.1.9");
    bed.pings("client", "172.16.1.9");
    twin.ok(&["down"]);
    assert!(outside.pings("172.16.1.200"));

    bed.ok(&["down"]);
    assert_eq!(cluster.leftovers(), [""; 0]);
    assert!(cluster.lab.ok("m", &["ovs-vsctl", "get", "Bridge", "br-ex", "external_ids"]).expect("it stays").contains("testbedos"));
    assert_eq!(bed.plan()[0], "network", "the host's bridge stays");

    // A network that the host does not have is refused at its line, before anything is touched.
    let bed = Bed::of(&cluster, "nat", &NAT.replace("network_name: public", "network_name: elsewhere"));
    let refused = bed.run(&["up"]);
    assert!(refused.status == 2 && refused.stderr.contains("elsewhere"), "{refused:?}");
    assert!(refused.stderr.contains("maps: public") && refused.stderr.contains("kvm-compose.yaml:45"), "{refused:?}");
    assert_eq!(cluster.leftovers(), [""; 0]);
}

/// The interface of the host among the deployment's guests.
fn interfaces(cluster: &Cluster) -> Vec<String> {
    let find = ["ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "external_ids:testbedos-deployment=localnet"];
    cluster.lab.ok("m", &find).expect("ovs-vsctl").split_whitespace().map(String::from).collect()
}

#[test]
fn a_guest_is_a_neighbour_of_the_host_s_network_and_the_host_one_of_guests() {
    let mut cluster = Cluster::alone(0);
    let bed = Bed::of(&cluster, "localnet", LOCALNET);
    assert_eq!(bed.plan()[..2], ["uplink/public", "network"]);
    bed.ok(&["up"]);
    assert_eq!(bed.plan(), [""; 0]);
    let outside = neighbour(&cluster, "m", "172.16.1.9/24");
    bed.ok(&["check"]);
    // One segment with what is on the host's bridge, both ways, by TCP too.
    assert!(outside.pings("172.16.1.50"));
    bed.sh("sensor", BLOB);
    assert!(outside.fetch("http://172.16.1.50/blob") == blob());
    outside.page("sensor");
    assert_eq!(bed.fetch("sensor", &format!("http://172.16.1.9:{PORT}/sensor")), "sensor outside\n");
    assert_eq!(outside.who_asked("sensor").as_deref(), Some("172.16.1.50"));
    bed.pings("sensor", "172.16.1.1");

    // The host's interface: its name, address, MAC and MTU; ping both ways, and TCP.
    let [interface] = interfaces(&cluster).try_into().expect("one interface");
    assert!(interface.starts_with("host-por-") && interface.len() <= 15, "{interface}");
    let shown = cluster.lab.ok("m", &["ip", "addr", "show", "dev", &interface]).expect("ip");
    for words in ["mtu 1442", "02:00:00:73:00:02", "10.73.0.2/24", ",UP"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    bed.pings("db", "10.73.0.2");
    cluster.lab.ok("m", &["busybox", "ping", "-c", "2", "-W", "5", "10.73.0.10"]).expect("the host reaches the guest");
    bed.sh("db", BLOB);
    let got = cluster.lab.ok("m", &["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://10.73.0.10/blob"]).expect("a page");
    assert!(got.as_bytes() == blob());

    // What somebody breaks is mended; another address is set in place; neither touches a guest.
    cluster.lab.ok("m", &["ip", "link", "set", "dev", &interface, "down"]).expect("down");
    assert_eq!(bed.plan(), ["plug/host-port"]);
    let bed = Bed::of(&cluster, "localnet", &LOCALNET.replace("ip: 10.73.0.2", "ip: 10.73.0.3"));
    bed.ok(&["up"]);
    assert_eq!((bed.plan(), interfaces(&cluster)), (Vec::new(), vec![interface.clone()]));
    bed.pings("db", "10.73.0.3");
    let shown = cluster.lab.ok("m", &["ip", "addr", "show", "dev", &interface]).expect("ip");
    assert!(!shown.contains("10.73.0.2/24"), "{shown}");

    // A server that is killed finds it again: another name is another interface, `down` leaves none. Meanwhile somebody made the
    // host a router for its networks: what is beyond it sees the host.
    cluster.kill("m");
    let file = cluster.data("m", "config/host.json");
    let text = std::fs::read_to_string(&file).expect("host.json");
    std::fs::write(&file, text.replace("\"masquerade\": false", "\"masquerade\": true")).expect("written");
    cluster.lab.ok("m", &["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).expect("set");
    cluster.start_master();
    let bed = Bed::of(&cluster, "localnet", &LOCALNET.replace("name: host-port", "name: other"));
    let plan = bed.plan();
    for step in ["uplink/public", "unplug/host-port", "plug/other"] {
        assert!(plan.iter().any(|id| id == step), "{step}: {plan:?}");
    }
    bed.ok(&["up"]);
    assert_eq!(bed.plan(), [""; 0]);
    let now = interfaces(&cluster);
    assert!(now.len() == 1 && now[0].starts_with("other-"), "{now:?}");
    bed.pings("db", "10.73.0.2");
    let pid = cluster.lab.host("m").expect("a host").pid.expect("it runs");
    let beyond = Outside::beside(pid, "198.51.100.9/24");
    cluster.lab.ok("m", &["ip", "addr", "add", "198.51.100.1/24", "dev", &beyond.cable]).expect("an address");
    beyond.page("sensor");
    assert_eq!(bed.fetch("sensor", &format!("http://198.51.100.9:{PORT}/sensor")), "sensor outside\n");
    assert_eq!(beyond.who_asked("sensor").as_deref(), Some("198.51.100.1"));
    assert!(ids(&cluster, "m").contains("testbedos-ip-forward=\"0\""), "{}", ids(&cluster, "m"));
    bed.ok(&["down"]);
    assert_eq!((cluster.leftovers(), interfaces(&cluster)), (Vec::new(), Vec::new()));

    // A network that the host has elsewhere is not torn from it.
    let refused = Bed::of(&cluster, "localnet", &LOCALNET.replace("10.73.0.", "198.51.100.")).run(&["up"]);
    assert!(refused.status == 4 && refused.stderr.contains("198.51.100.1/24 on"), "{refused:?}");
    assert_eq!(cluster.leftovers(), [""; 0]);
}

/// Two sites, each with a router, behind a router that has the way out; the host of that way is a member.
const CHAIN: &str = "
machines:
  - {name: a, micro: {services: {http: 80}}, network: [{switch: west, ip: 10.74.1.10, gateway: 10.74.1.1}], placement: {host: master}}
  - {name: b, micro: {services: {http: 80}}, network: [{switch: east, ip: 10.74.2.10, gateway: 10.74.2.1}], placement: {host: h1}}
network:
  ovn:
    switches:
      west: {subnet: 10.74.1.0/24}
      east: {subnet: 10.74.2.0/24}
      core: {subnet: 10.74.9.0/24}
      public: {subnet: 172.16.1.0/24, ports: [{name: way-out, localnet: {network_name: public}}]}
    routers:
      r-west:
        ports:
          - {name: west-in, gateway_ip: 10.74.1.1/24, switch: west}
          - {name: west-up, gateway_ip: 10.74.9.1/24, switch: core}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.74.9.3}, {prefix: 10.74.2.0/24, nexthop: 10.74.9.2}]
      r-east:
        ports:
          - {name: east-in, gateway_ip: 10.74.2.1/24, switch: east}
          - {name: east-up, gateway_ip: 10.74.9.2/24, switch: core}
        static_routes: [{prefix: 0.0.0.0/0, nexthop: 10.74.9.3}, {prefix: 10.74.1.0/24, nexthop: 10.74.9.1}]
      edge:
        ports:
          - {name: edge-in, gateway_ip: 10.74.9.3/24, switch: core}
          - {name: edge-out, gateway_ip: 172.16.1.200/24, switch: public, set_gateway_chassis: h1}
        static_routes:
          - {prefix: 10.74.1.0/24, nexthop: 10.74.9.1}
          - {prefix: 10.74.2.0/24, nexthop: 10.74.9.2}
          - {prefix: 192.0.2.0/24, nexthop: 172.16.1.9}
        nat:
          - {nat_type: snat, external_ip: 172.16.1.200, logical_ip: 10.74.0.0/16}
          - {nat_type: dnat_and_snat, external_ip: 172.16.1.202, logical_ip: 10.74.1.10}
          - {nat_type: dnat, external_ip: 172.16.1.203, external_port: 8080, logical_ip: 10.74.2.10, logical_port: 80}
";

#[test]
fn routers_behind_routers_leave_through_a_gateway_on_a_member() {
    let cluster = Cluster::up(1);
    let bed = Bed::of(&cluster, "chain", CHAIN);
    assert_eq!(bed.plan()[0], "uplink/public@h1");
    bed.ok(&["up"]);
    assert_eq!(bed.plan(), [""; 0]);
    assert!(ids(&cluster, "h1").contains("public:br-ex") && !ids(&cluster, "m").contains("public:br-ex"));
    let outside = neighbour(&cluster, "h1", "172.16.1.9/24");
    outside.ok(&["ip", "addr", "add", "192.0.2.7/24", "dev", "eth0"]);

    // Over two routers and two hosts, then out over a third, from both hosts; a static route leads further.
    bed.pings("a", "10.74.2.10");
    assert!(bed.fetch("b", "http://10.74.1.10/").contains('a'));
    for (guest, seen) in [("a", "172.16.1.202"), ("b", "172.16.1.200")] {
        bed.pings(guest, "172.16.1.9");
        bed.pings(guest, "192.0.2.7");
        outside.page(guest);
        assert_eq!(bed.fetch(guest, &format!("http://172.16.1.9:{PORT}/{guest}")), format!("{guest} outside\n"));
        assert_eq!(outside.who_asked(guest).as_deref(), Some(seen), "{guest}");
    }
    for (guest, url) in [("a", "172.16.1.202"), ("b", "172.16.1.203:8080")] {
        bed.sh(guest, BLOB);
        assert!(outside.fetch(&format!("http://{url}/blob")) == blob(), "4 MB from {url}");
    }
    assert!(bed.fetch("a", "http://172.16.1.203:8080/").contains('b'), "forwarded from inside, two routers away");
    bed.ok(&["down"]);
    assert_eq!(cluster.leftovers(), [""; 0]);
}

const SIX: &str = r#"
machines:
  - {name: client, micro: {}, network: [{switch: office, ip: "fd00:72:1::10", gateway: "fd00:72:1::1"}]}
  - {name: shop, micro: {services: {http: 80}}, network: [{switch: servers, ip: "fd00:72:2::11", gateway: "fd00:72:2::1"}]}
  - {name: wiki, micro: {services: {http: 80}}, network: [{switch: servers, ip: "fd00:72:2::12", gateway: "fd00:72:2::1"}]}
  - {name: mail, micro: {services: {http: 80}}, network: [{switch: servers, ip: "fd00:72:2::13", gateway: "fd00:72:2::1"}]}
network:
  ovn:
    switches:
      office: {subnet: "fd00:72:1::/64"}
      servers: {subnet: "fd00:72:2::/64"}
      public: {subnet: "fd00:16::/64", ports: [{name: ls-public, localnet: {network_name: public}}]}
    routers:
      edge:
        ports:
          - {name: edge-office, gateway_ip: "fd00:72:1::1/64", switch: office}
          - {name: edge-servers, gateway_ip: "fd00:72:2::1/64", switch: servers}
          - {name: edge-public, gateway_ip: "fd00:16::200/64", switch: public, set_gateway_chassis: main}
        nat:
          - {nat_type: snat, external_ip: "fd00:16::200", logical_ip: "fd00:72:1::/64"}
          - {nat_type: dnat_and_snat, external_ip: "fd00:16::201", logical_ip: "fd00:72:2::11"}
          - {nat_type: dnat, external_ip: "fd00:16::202", logical_ip: "fd00:72:2::12"}
          - {nat_type: dnat, external_ip: "fd00:16::200", external_port: 8081, logical_ip: "fd00:72:2::13", logical_port: 80}
          - {nat_type: dnat, external_ip: "fd00:16::200", external_port: 5201, logical_ip: "fd00:72:2::13", logical_port: 5201, protocol: tcp}
          - {nat_type: dnat, external_ip: "fd00:16::200", external_port: 5201, logical_ip: "fd00:72:2::13", logical_port: 5201, protocol: udp}
"#;

#[test]
fn ipv6_goes_out_and_comes_in_and_so_do_datagrams() {
    let cluster = Cluster::alone(0);
    let bed = Bed::of(&cluster, "six", SIX);
    bed.ok(&["up"]);
    let outside = neighbour(&cluster, "m", "fd00:16::9/64");
    bed.pings("client", "fd00:16::9");
    outside.page("client");
    assert_eq!(bed.fetch("client", &format!("http://[fd00:16::9]:{PORT}/client")), "client outside\n");
    assert_eq!(outside.who_asked("client").as_deref(), Some("fd00:16::200"));
    for (guest, url) in [("shop", "[fd00:16::201]"), ("wiki", "[fd00:16::202]"), ("mail", "[fd00:16::200]:8081")] {
        let page = String::from_utf8_lossy(&outside.fetch(&format!("http://{url}/"))).into_owned();
        assert!(page.contains(guest), "{url}: {page}");
    }
    // iperf3 talks by TCP and sends datagrams to the same port.
    bed.sh("mail", "iperf3 -s -1 -D </dev/null >/dev/null 2>&1");
    let said = outside.ok(&["timeout", "30", "iperf3", "-c", "fd00:16::200", "-u", "-b", "1M", "-l", "1000", "-t", "2", "-J"]);
    let sum = &serde_json::from_str::<serde_json::Value>(&said).expect("JSON")["end"]["sum"];
    let (sent, lost) = (sum["packets"].as_u64().expect("a number"), sum["lost_packets"].as_u64().expect("a number"));
    assert!(sent > 200 && lost < sent / 10, "{sent} datagrams, {lost} lost");
    bed.ok(&["down"]);
    assert_eq!(cluster.leftovers(), [""; 0]);
}
