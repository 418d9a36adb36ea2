//! Waiting until OVN has carried a change to every chassis, by its sequence numbers (ovn-nb(5), `NB_Global`).
//!
//! Must not know rows or deployments.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::ovsdb::{Database, Session};
use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long OVN may take.
const LIMIT: Duration = Duration::from_secs(15);
/// After this time, hosts are asked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// OVN's sequence numbers: what was asked, what ovn-northd has done, what every chassis has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// `nb_cfg`.
    pub nb: i64,
    /// `sb_cfg`.
    pub sb: i64,
    /// `hv_cfg`.
    pub hv: i64,
}

/// Reads the sequence numbers.
pub fn counters(session: &mut Session) -> Result<Counters, Problem> {
    let columns = ["nb_cfg", "sb_cfg", "hv_cfg"];
    let results = session.read(vec![json!({"op": "select", "table": "NB_Global", "where": [], "columns": columns})])?;
    let row = &results[0]["rows"][0];
    let number = |name: &str| row[name].as_i64();
    match (number("nb_cfg"), number("sb_cfg"), number("hv_cfg")) {
        (Some(nb), Some(sb), Some(hv)) => Ok(Counters { nb, sb, hv }),
        _ => Err(no_row()),
    }
}

/// OVN's tools make the row when they set the database up.
pub fn no_row() -> Problem {
    Problem::new(Code::Ovn, "OVN's northbound database has no row in `NB_Global`").hint("`ovn-nbctl init` makes it")
}

/// Each chassis with the sequence number it has reached.
pub fn chassis(southbound: &Path) -> Result<Vec<(String, i64)>, Problem> {
    let mut session = Database::southbound(southbound).open()?;
    let select = json!({"op": "select", "table": "Chassis_Private", "where": [], "columns": ["name", "nb_cfg"]});
    let results = session.read(vec![select])?;
    let rows = results[0]["rows"].as_array().into_iter().flatten();
    Ok(rows.filter_map(|row| Some((row["name"].as_str()?.to_string(), row["nb_cfg"].as_i64()?))).collect())
}

/// Chassis that are known to be away: OVN itself never notices, so nobody waits for them.
pub type Away = BTreeSet<String>;

/// Waits until every chassis that is not away has reached `target`. A database that goes away meanwhile may come back.
pub fn wait(
    northbound: &Database,
    southbound: Option<&Path>,
    target: i64,
    away: &dyn Fn() -> Away,
    cancel: &Cancel,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), Problem> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut session = None;
    let mut said = false;
    loop {
        let now = look(northbound, &mut session);
        if matches!(now, Ok(now) if now.hv >= target) {
            return Ok(());
        }
        let away = away();
        if (begun.elapsed() >= PATIENCE || !away.is_empty()) && matches!(now, Ok(now) if now.sb >= target) {
            let hosts = southbound.map(chassis).and_then(Result::ok);
            if hosts.iter().flatten().all(|(name, at)| *at >= target || away.contains(name)) && hosts.is_some() {
                // What is left to wait for does not answer, or there is no chassis at all.
                return Ok(());
            }
            if !said && begun.elapsed() >= PATIENCE {
                say(&format!("waiting for {} to take up the network", behind(hosts.as_deref(), target)));
                said = true;
            }
        }
        if begun.elapsed() >= LIMIT {
            return Err(late(southbound, target, now?));
        }
        if cancel.wait(pause) {
            return cancel.check();
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Reads the sequence numbers over an open session, or over a new one when it broke.
fn look(northbound: &Database, session: &mut Option<Session>) -> Result<Counters, Problem> {
    let mut open = match session.take() {
        Some(open) => open,
        None => northbound.open()?,
    };
    let now = counters(&mut open)?;
    *session = Some(open);
    Ok(now)
}

fn late(southbound: Option<&Path>, target: i64, now: Counters) -> Problem {
    let limit = LIMIT.as_secs();
    if now.sb < target {
        return Problem::new(Code::Ovn, format!("ovn-northd did not take up the network within {limit} s"))
            .cause(format!("it is at {} of {target}", now.sb))
            .hint("is ovn-northd running? See `testbed doctor`");
    }
    let hosts = southbound.map(chassis).and_then(Result::ok);
    Problem::new(Code::Ovn, format!("{} did not take up the network within {limit} s", behind(hosts.as_deref(), target)))
        .cause(format!("the slowest chassis is at {} of {target}", now.hv))
        .hint("is ovn-controller running there? A chassis that is gone for good is removed with `ovn-sbctl chassis-del`")
}

fn behind(hosts: Option<&[(String, i64)]>, target: i64) -> String {
    let late: Vec<String> = hosts
        .unwrap_or_default()
        .iter()
        .filter(|(_, at)| *at < target)
        .map(|(name, at)| format!("`{name}` (at {at} of {target})"))
        .collect();
    if late.is_empty() { "a chassis".to_string() } else { format!("chassis {}", late.join(", ")) }
}
