//! A transaction on Open vSwitch's database that is over when ovs-vswitchd(8) has carried it out, as ovs-vsctl(8) does it.
//!
//! Must not know what is changed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ovsdb::{Refusal, Session};
use crate::{
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

/// How long ovs-vswitchd may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Runs operations as one transaction and waits until the switch has taken it up; or the first refusal.
pub fn commit(session: &mut Session, mut operations: Vec<Value>, cancel: &Cancel) -> Result<Result<(), Refusal>, Problem> {
    cancel.check()?;
    operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}));
    operations.push(json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}));
    let results = match session.transact(operations)? {
        Ok(results) => results,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let target = results.last().and_then(|result| result["rows"][0]["next_cfg"].as_i64()).unwrap_or(0);
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]});
        let now = session.read(vec![select])?[0]["rows"][0]["cur_cfg"].as_i64().unwrap_or(0);
        if now >= target {
            return Ok(Ok(()));
        }
        if begun.elapsed() >= LIMIT {
            let limit = LIMIT.as_secs();
            return Err(Problem::new(Code::Ovn, format!("Open vSwitch did not take up a change within {limit} s"))
                .cause(format!("it is at {now} of {target}"))
                .hint("is ovs-vswitchd running? See `testbed doctor`"));
        }
        if cancel.wait(pause) {
            cancel.check()?;
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
