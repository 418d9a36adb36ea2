//! `testbed link`

use kvm_compose::{
    api::{
        ActionRequest,
        link::{Carrier, LinkChange, LinkConditions, LinkDirection, LinkProbe, LinkReport, LinkTraffic, SetLink},
    },
    error::{Code, Problem},
    names::{GuestName, printable},
};

use super::{act, conclude};
use crate::{
    args::{Format, Link, SetLink as SetArgs, ShowLinks},
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

pub async fn run(session: &Session, command: Link) -> Outcome {
    match command {
        Link::Show(args) => show(session, &args).await,
        Link::Set(args) => set(session, &args).await,
    }
}

async fn show(session: &Session, args: &ShowLinks) -> Outcome {
    let wanted: Result<Vec<_>, Problem> = args.links.iter().map(|text| parse(text)).collect();
    let wanted = wanted?;
    let name = session.deployment()?;
    let all = session.client()?.links(&name, &args.links, !args.no_probe).await?;
    if let Some((guest, interface)) = wanted.iter().find(|wanted| !all.iter().any(|link| is_meant(link, wanted))) {
        let interface = interface.as_ref().map(|interface| format!(":{interface}")).unwrap_or_default();
        return Err(Problem::new(Code::NotFound, format!("the file of `{name}` has no link `{guest}{interface}`"))
            .hint("`testbed link show` lists all links"));
    }
    session.out.list(&all, |links| if session.global.quiet { names(links) } else { text(links) });
    Ok(Exit::SUCCESS)
}

fn is_meant(link: &LinkReport, (guest, interface): &(GuestName, Option<String>)) -> bool {
    link.guest == *guest && interface.as_ref().is_none_or(|interface| link.interface == *interface)
}

async fn set(session: &Session, args: &SetArgs) -> Outcome {
    let (guest, interface) = parse(&args.link)?;
    let interface = interface.ok_or_else(|| {
        Problem::new(Code::BadRequest, format!("`{guest}` names no interface")).hint(format!("name one, as in `{guest}:eth0`"))
    })?;
    let request = request(guest, interface, args)?;
    let name = session.deployment()?;
    let client = session.client()?;
    let Some(ended) = act(session, &client, &name, &ActionRequest::SetLink(Box::new(request))).await? else { return Ok(Exit::CANCELLED) };
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        let links = client.links(&name, std::slice::from_ref(&args.link), false).await?;
        session.out.line(text(&links).trim_end());
    }
    Ok(exit)
}

/// `GUEST` or `GUEST:IFACE`.
fn parse(text: &str) -> Result<(GuestName, Option<String>), Problem> {
    let (guest, interface) = match text.split_once(':') {
        Some((guest, interface)) => (guest, Some(interface)),
        None => (text, None),
    };
    let known = |name: &str| !name.is_empty() && name.len() <= 15 && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if interface.is_some_and(|name| !known(name)) {
        return Err(Problem::new(Code::InvalidName, format!("`{}` names no interface", printable(text)))
            .hint("write GUEST:IFACE, such as web:eth0"));
    }
    Ok((GuestName::new(guest)?, interface.map(str::to_string)))
}

fn request(guest: GuestName, interface: String, args: &SetArgs) -> Result<SetLink, Problem> {
    let (mut carrier, mut clear, mut change) = (None, false, LinkChange::default());
    for word in &args.changes {
        match word.as_str() {
            "up" => carrier = Some(Carrier::Up),
            "down" => carrier = Some(Carrier::Down),
            "clear" => clear = true,
            other => assign(&mut change, other)?,
        }
    }
    let none = LinkChange::default();
    let to_guest = if args.from_guest { none } else { change };
    let from_guest = if args.to_guest { none } else { change };
    Ok(SetLink { guest, interface, carrier, clear, to_guest, from_guest })
}

fn assign(change: &mut LinkChange, text: &str) -> Result<(), Problem> {
    const KEYS: &str = "up, down, clear, or one of delay_ms, jitter_ms, loss_percent, duplicate_percent, reorder_percent, rate_mbit with `=` \
                        and a number, such as delay_ms=25";
    let refused = |message: String| Err(Problem::new(Code::BadRequest, message).hint(KEYS));
    let Some((key, number)) = text.split_once('=') else { return refused(format!("`{}` is no change of a link", printable(text))) };
    let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0) else {
        return refused(format!("`{}` is no number of 0 or more", printable(number)));
    };
    let place = match key {
        "delay_ms" => &mut change.delay_ms,
        "jitter_ms" => &mut change.jitter_ms,
        "loss_percent" => &mut change.loss_percent,
        "duplicate_percent" => &mut change.duplicate_percent,
        "reorder_percent" => &mut change.reorder_percent,
        "rate_mbit" => &mut change.rate_mbit,
        _ => return refused(format!("a link has no `{}`", printable(key))),
    };
    *place = Some(value);
    Ok(())
}

fn names(links: &[LinkReport]) -> String {
    links.iter().map(|link| format!("{}:{}\n", link.guest, link.interface)).collect()
}

/// A line for what is asked of each direction, and below it what was measured.
fn text(links: &[LinkReport]) -> String {
    let rows: Vec<Vec<String>> = links.iter().flat_map(rows).collect();
    let mut text =
        table::table(&["link", "carrier", "direction", "", "delay ms", "loss %", "dup %", "reorder %", "Mbit/s"], rows, "no links");
    for link in links {
        let name = format!("{}:{}", link.guest, link.interface);
        if let Some(fault) = &link.fault {
            text.push_str(&format!("\n{name} does not pass frames: {fault}; `testbed up` mends it"));
        }
        if link.carrier == Some(Carrier::Down) {
            text.push_str(&format!("\n{name} passes nothing: its carrier is down; `testbed link set {name} up` plugs it in"));
        }
        if link.deviates {
            text.push_str(&format!("\n{name} is not as the file says; the next `testbed up` takes it back"));
        }
    }
    text
}

fn rows(link: &LinkReport) -> Vec<Vec<String>> {
    let carrier = match link.carrier {
        Some(Carrier::Up) => "up",
        Some(Carrier::Down) => "down",
        None => "-",
    };
    let mut rows = Vec::new();
    for (word, direction) in [("to guest", &link.to_guest), ("from guest", &link.from_guest)] {
        let first = [format!("{}:{}", link.guest, link.interface), carrier.to_string()];
        let head = if rows.is_empty() { first } else { Default::default() };
        rows.push([&head[..], &[word.to_string(), "asked".to_string()], &asked(&direction.set)].concat());
        let measured = [direction.probed.map(|probe| ("probe", probed(&probe))), direction.traffic.and_then(|traffic| passed(&traffic))];
        for (what, cells) in measured.into_iter().flatten() {
            rows.push([&[String::new(), String::new(), String::new(), what.to_string()][..], &cells].concat());
        }
    }
    let plain = |direction: &LinkDirection| direction.set == LinkConditions::default() && direction.probed.is_none();
    if plain(&link.to_guest) && plain(&link.from_guest) {
        rows.truncate(1);
        if let Some(row) = rows.first_mut() {
            row[2] = "both".to_string();
            row[3] = "plain".to_string();
        }
    }
    rows
}

fn asked(of: &LinkConditions) -> [String; 5] {
    let delay = if of.jitter_ms > 0.0 { format!("{} ± {}", of.delay_ms, of.jitter_ms) } else { shown(of.delay_ms) };
    [delay, shown(of.loss_percent), shown(of.duplicate_percent), shown(of.reorder_percent), of.rate_mbit.map_or("-".to_string(), shown)]
}

fn shown(value: f64) -> String {
    if value == 0.0 { "-".to_string() } else { value.to_string() }
}

fn probed(of: &LinkProbe) -> [String; 5] {
    [
        format!("{:.1} ± {:.1}", of.delay_ms, of.jitter_ms),
        format!("{:.1}", of.loss_percent),
        format!("{:.1}", of.duplicate_percent),
        format!("{:.1}", of.reorder_percent),
        of.rate_mbit.map_or("-".to_string(), |rate| format!("{rate:.2}")),
    ]
}

/// What the guest's own packets met lately; nothing when there were none.
fn passed(of: &LinkTraffic) -> Option<(&'static str, [String; 5])> {
    let delay = of.delay_ms.map_or_else(String::new, |delay| format!("{delay:.1}"));
    let cells = [delay, format!("{:.1}", of.loss_percent), String::new(), String::new(), format!("{:.2}", of.peak_mbit)];
    (of.peak_mbit > 0.0).then_some(("traffic", cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(changes: &[&str], to_guest: bool) -> SetArgs {
        SetArgs { link: "web:eth0".into(), changes: changes.iter().map(ToString::to_string).collect(), to_guest, from_guest: false }
    }

    fn of(changes: &[&str], to_guest: bool) -> Result<SetLink, Problem> {
        request(GuestName::new("web").expect("valid"), "eth0".into(), &args(changes, to_guest))
    }

    #[test]
    fn changes_are_read() {
        let both = of(&["delay_ms=25", "loss_percent=0.5", "up"], false).expect("read");
        assert_eq!((both.to_guest.delay_ms, both.from_guest.loss_percent, both.carrier), (Some(25.0), Some(0.5), Some(Carrier::Up)));
        let one = of(&["clear", "rate_mbit=10"], true).expect("read");
        assert_eq!((one.clear, one.to_guest.rate_mbit, one.from_guest), (true, Some(10.0), LinkChange::default()));
        for wrong in ["delay", "delay=5", "delay_ms=", "delay_ms=-1", "delay_ms=NaN", "delay_ms=1e999", "Up"] {
            let problem = of(&[wrong], false).expect_err("refused");
            assert!(problem.hint.is_some_and(|hint| hint.contains("delay_ms")), "{wrong}");
        }
    }

    #[test]
    fn links_are_named_by_guest_and_interface() {
        assert_eq!(parse("web:eth0").expect("a link").1.as_deref(), Some("eth0"));
        assert_eq!(parse("web").expect("a guest").1, None);
        for wrong in ["", "web:", ":eth0", "web:a b", "web:eth0:x", "../x:eth0", "web:a-name-that-is-far-too-long"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
