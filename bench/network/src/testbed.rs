//! A generated testbed: guests spread over switches, routers in a star around the first switch.

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Guests, each with one interface.
    pub guests: usize,
    /// Switches, at least two.
    pub switches: usize,
    /// Routers; every switch but the first has one of them, and all stand on the first.
    pub routers: usize,
    /// Every second guest gets its address from a DHCP rule.
    pub dhcp: bool,
}

impl Size {
    /// The router of a switch.
    pub fn router_of(&self, switch: usize) -> usize {
        switch % self.routers
    }
}

/// The testbed file.
pub fn yaml(size: Size) -> String {
    let mut text = String::from("machines:\n");
    for guest in 0..size.guests {
        let (switch, place) = (guest % size.switches, guest / size.switches);
        let ip = match size.dhcp && place % 2 == 1 {
            false => format!("10.{switch}.{}.{}", 100 + place / 200, 2 + place % 200),
            true => "dynamic".to_string(),
        };
        text.push_str(&format!("  - {{name: g{guest}, micro: {{}}, network: [{{switch: s{switch}, ip: {ip}}}]}}\n"));
    }
    text.push_str("network:\n  ovn:\n    switches:\n");
    for switch in 0..size.switches {
        text.push_str(&format!("      s{switch}: {{subnet: 10.{switch}.0.0/16}}\n"));
    }
    text.push_str("    routers:\n");
    for router in 0..size.routers {
        let core = router + 1;
        text.push_str(&format!(
            "      r{router}:\n        ports:\n          - {{name: r{router}-s0, gateway_ip: 10.0.0.{core}/16, switch: s0}}\n"
        ));
        let own: Vec<usize> = (1..size.switches).filter(|switch| size.router_of(*switch) == router).collect();
        for switch in &own {
            text.push_str(&format!("          - {{name: r{router}-s{switch}, gateway_ip: 10.{switch}.0.1/16, switch: s{switch}}}\n"));
        }
        let routes: Vec<String> = (1..size.switches)
            .filter(|switch| size.router_of(*switch) != router)
            .take(5)
            .map(|switch| format!("{{prefix: 10.{switch}.0.0/16, nexthop: 10.0.0.{}}}", size.router_of(switch) + 1))
            .collect();
        text.push_str(&format!("        static_routes: [{}]\n", routes.join(", ")));
        if !size.dhcp {
            continue;
        }
        let rule = |switch: &usize| format!("{{switch: s{switch}, exclude_ips: {{from: 10.{switch}.100.0, to: 10.{switch}.255.254}}}}");
        let first = [0];
        let rules: Vec<String> = first.iter().filter(|_| router == 0).chain(&own).map(rule).collect();
        text.push_str(&format!("        dhcp: [{}]\n", rules.join(", ")));
    }
    text
}
