//! What OVN itself says of a file's rules (`acl`), asked before anything is changed.
//!
//! OVN accepts any text as a rule's `match` and reads it long after: a wrong one is a line in a log and a rule without effect.
//! So the texts are put as logical flows into a scratch southbound database, and `ovn-trace` reads them; the running OVN is not
//! touched. All texts go into one run, and what came of it is kept. Where OVN's programs are not installed nobody is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    diagnostic::{Diagnostic, Severity, problem_of},
    error::{Code, Place, Problem},
    names::DeploymentName,
    orchestrate::host::Cancel,
    process::Call,
    spec::Sources,
    topology::{self, Acl, Topology},
};

/// Where OVN's packages put the schemas of its databases.
const FOLDERS: [&str; 2] = ["/usr/share/ovn", "/usr/local/share/ovn"];
/// How long one of OVN's programs may take.
const LIMIT: Duration = Duration::from_secs(15);
/// How much of a transaction is passed as one argument: execve(2) refuses 128 KiB.
const TRANSACTION: usize = 96 << 10;
/// Beside how many faults rules are judged.
const MOST_BESIDE: usize = 100;
/// How many answers are kept.
const KEPT: usize = 64;

/// Expression → OVN's words about it; those without fault are not in it.
type Words = BTreeMap<String, String>;

/// Answers by the digest of what was asked.
static ANSWERS: Mutex<BTreeMap<String, Words>> = Mutex::new(BTreeMap::new());

/// Asks OVN about every rule of a topology: faults in the file's order, or a warning where nobody could be asked. Fails only
/// when cancelled.
pub fn judge(topology: &Topology, cancel: &Cancel) -> Result<Vec<Diagnostic>, Problem> {
    let acls: Vec<&Acl> = topology.switches.iter().flat_map(|switch| &switch.acls).collect();
    let Some(first) = acls.iter().min_by_key(|acl| (acl.at.line, acl.at.column)) else { return Ok(Vec::new()) };
    let Some(folder) = FOLDERS.iter().map(Path::new).find(|folder| folder.join("ovn-sb.ovsschema").is_file()) else {
        return Ok(vec![unasked(first, "OVN is not installed here, so the rules' `match` was not checked", None)]);
    };
    let known = actions(&folder.join("ovn-nb.ovsschema"));
    let unknown = |acl: &&&Acl| !known.is_empty() && !known.contains(acl.action.word());
    let mut faults: Vec<Diagnostic> = acls.iter().filter(unknown).map(|acl| unknown_action(acl, &known)).collect();
    let asked: BTreeSet<String> = acls.iter().map(|acl| plain(&acl.matches)).collect();
    match answers(&asked, &folder.join("ovn-sb.ovsschema"), cancel) {
        Ok(words) => faults.extend(acls.iter().filter_map(|acl| Some(misread(acl, words.get(&plain(&acl.matches))?)))),
        Err(problem) if problem.code == Code::Cancelled => return Err(problem),
        Err(problem) => {
            let why = problem.causes.last().map_or_else(|| problem.to_string(), Clone::clone);
            faults.push(unasked(first, "OVN could not be asked about the rules' `match`", Some(why)));
        }
    }
    faults.sort_by_key(|fault| (fault.at.line, fault.at.column));
    Ok(faults)
}

/// The faults of a file that could not be used, and beside them what OVN says of those of its rules that could be read: all at
/// once. Where OVN cannot be asked, that is told when the file is otherwise right.
pub fn with_judged(problem: Problem, sources: &Sources, deployment: &DeploymentName, cancel: &Cancel) -> Problem {
    // A file whose faults are so many, or of which nothing was understood, is judged when these are mended.
    if problem.diagnostics.is_empty() || problem.diagnostics.len() > MOST_BESIDE {
        return problem;
    }
    let judged = topology::understood(sources, deployment).and_then(|topology| judge(&topology, cancel).ok());
    let judged = judged.into_iter().flatten().filter(|fault| fault.severity == Severity::Error);
    let mut all = problem.diagnostics.clone();
    all.extend(judged);
    all.sort_by_key(|fault| (fault.at.file != sources.file, fault.at.file.clone(), fault.at.line, fault.at.column));
    problem_of(&sources.file, all).unwrap_or(problem)
}

fn unasked(first: &Acl, message: &str, why: Option<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        code: "W011".to_string(),
        message: message.to_string(),
        at: first.at.clone(),
        width: 1,
        source: first.source.clone(),
        hint: why.or_else(|| Some("`up` asks, on the server's machine".to_string())),
    }
}

/// A text in which every control character is a space, which is the same to OVN: it stands on one line of its log.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn answers(asked: &BTreeSet<String>, schema: &Path, cancel: &Cancel) -> Result<Words, Problem> {
    let mut hash = Sha256::new();
    asked.iter().for_each(|text| hash.update(format!("{text}\0")));
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(words) = ANSWERS.lock().get(&digest) {
        return Ok(words.clone());
    }
    let words = ask(asked, schema, cancel)?;
    let mut kept = ANSWERS.lock();
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(digest, words.clone());
    Ok(words)
}

/// One run of `ovn-trace` on a database that holds all texts.
fn ask(asked: &BTreeSet<String>, schema: &Path, cancel: &Cancel) -> Result<Words, Problem> {
    let folder = tempfile::Builder::new().prefix("testbed-rules-").tempdir();
    let folder = folder.map_err(|error| Problem::io("making a folder for OVN's check of rules", &error))?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let doing = "asking OVN about rules";
    let (database, socket, control) = (path("sb.db"), path("sb.sock"), path("sb.ctl"));
    Call::new(["ovsdb-tool".to_string(), "create".to_string(), database.clone(), schema.to_string_lossy().into_owned()], LIMIT)
        .succeed(doing, cancel)?;
    for transaction in transactions(asked) {
        Call::new(["ovsdb-tool".to_string(), "transact".to_string(), database.clone(), transaction], LIMIT).succeed(doing, cancel)?;
    }
    // `ovsdb-server --run` gives the command to a shell; the folder's name is ours but for where it lies.
    let quoted = socket.replace('\'', r"'\''");
    let trace = format!(
        "exec ovn-trace '--db=unix:{quoted}' -vsyslog:off -vconsole:warn '-vPATTERN:console:rule %m' network0 'inport == \"port\"'"
    );
    let server = ["ovsdb-server", "--no-chdir", "-vsyslog:off", "-vconsole:off", &database].map(str::to_string);
    let rest = [format!("--remote=punix:{socket}"), format!("--unixctl={control}"), format!("--run={trace}")];
    let finished = Call::new(server.into_iter().chain(rest), LIMIT).succeed(doing, cancel)?;
    let said = format!("\n{}", String::from_utf8_lossy(&finished.stderr));
    Ok(asked.iter().filter_map(|text| Some((text.clone(), words_about(text, &said)?))).collect())
}

/// What `ovn-trace` said about a text.
fn words_about(text: &str, said: &str) -> Option<String> {
    let (_, rest) = said.split_once(&format!("\nrule {text}: parsing expression failed ("))?;
    let words = rest.lines().next()?.trim_end();
    Some(words.strip_suffix(')').unwrap_or(words).trim_end_matches('.').to_string())
}

/// Transactions that put the texts into the database, each short enough for an argument.
fn transactions(asked: &BTreeSet<String>) -> Vec<String> {
    let mut parts: Vec<(usize, Vec<&String>)> = vec![(0, Vec::new())];
    for text in asked {
        let length = json!(text).to_string().len() + 200;
        // One that is too long by itself cannot be asked about.
        match parts.last_mut() {
            Some((sum, part)) if *sum + length <= TRANSACTION => {
                *sum += length;
                part.push(text);
            }
            _ if length <= TRANSACTION => parts.push((length, vec![text])),
            _ => {}
        }
    }
    parts.iter().enumerate().map(|(index, (_, texts))| transaction(index, texts).to_string()).collect()
}

/// The texts as flows of a network of their own; the first transaction also makes the one that is traced, which has no flows:
/// `ovn-trace` reads all flows there are, and dies of one that it has to follow to a port it does not know.
fn transaction(index: usize, texts: &[&String]) -> Value {
    let network = |number: usize| {
        let ids = json!(["map", [["name", format!("network{number}")], ["logical-switch", uuid::Uuid::from_u128(1 + number as u128)]]]);
        json!({"op": "insert", "table": "Datapath_Binding", "uuid-name": format!("network{number}"),
            "row": {"tunnel_key": number + 1, "external_ids": ids}})
    };
    let port = json!({"op": "insert", "table": "Port_Binding",
        "row": {"datapath": ["named-uuid", "network0"], "logical_port": "port", "tunnel_key": 1}});
    let traced = if index == 0 { vec![network(0), port] } else { Vec::new() };
    let flow = |(priority, text): (usize, &&String)| {
        json!({"op": "insert", "table": "Logical_Flow",
            "row": {"logical_datapath": ["named-uuid", format!("network{}", index + 1)], "pipeline": "ingress", "table_id": 0,
                "priority": priority, "match": text, "actions": "next;"}})
    };
    let flows = texts.iter().enumerate().map(flow);
    Value::Array(std::iter::once(json!("OVN_Southbound")).chain(traced).chain([network(index + 1)]).chain(flows).collect())
}

/// The actions that the installed OVN knows; none when its schema cannot be read.
fn actions(schema: &Path) -> BTreeSet<String> {
    let schema: Option<Value> = std::fs::read(schema).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let words = schema.as_ref().and_then(|schema| schema.pointer("/tables/ACL/columns/action/type/key/enum/1")?.as_array());
    words.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_string)).collect()
}

fn unknown_action(acl: &Acl, known: &BTreeSet<String>) -> Diagnostic {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let word = acl.action.word();
    Diagnostic {
        severity: Severity::Error,
        code: "E043".to_string(),
        message: format!("the OVN that is installed has no action `{word}`"),
        at: acl.action_at.clone(),
        width: word.len() as u32,
        source: acl.action_source.clone(),
        hint: Some(format!("use one of: {}", known.join(", "))),
    }
}

/// The fault of a rule, at the word that OVN names where that can be found on the line.
fn misread(acl: &Acl, words: &str) -> Diagnostic {
    let Place { file, line, column } = acl.at.clone();
    let before = (column.max(1) - 1) as usize;
    let rest: String = acl.source.chars().skip(before).collect();
    if !rest.contains(&acl.matches) {
        let lines: Vec<&str> = std::iter::once(rest.as_str()).chain(acl.going_on.iter().map(String::as_str)).collect();
        match named_line(&lines, words) {
            Some((0, start, width)) => return told(words, Place { file, line, column: column + start - 1 }, width, acl.source.clone()),
            Some((index, column, width)) => {
                let at = Place { file, line: line + index as u32, column };
                return told(words, at, width, lines[index].to_string());
            }
            None => {}
        }
    }
    let (column, width) = match rest.find(&acl.matches) {
        Some(start) => {
            let start = column + rest[..start].chars().count() as u32;
            let whole = acl.matches.chars().count() as u32;
            match named_word(&acl.matches, words) {
                Some((offset, width)) => (start + offset, width),
                None if words.contains("end of input") => (start + whole, 1),
                None => (start, whole),
            }
        }
        // It goes over several lines, or is written with escapes.
        None => (column, 1),
    };
    told(words, Place { file, line, column }, width, acl.source.clone())
}

fn told(words: &str, at: Place, width: u32, source: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "E042".to_string(),
        message: format!("OVN cannot read this `match`: {words}"),
        at,
        width,
        source,
        hint: Some("ovn-sb(5) describes the language of matches: table Logical_Flow, column match".to_string()),
    }
}

/// The line of several, and the place in it, of the word that OVN quotes; none when it stands there twice.
fn named_line(lines: &[&str], words: &str) -> Option<(usize, u32, u32)> {
    let mut found = lines.iter().enumerate().filter_map(|(index, line)| Some((index, named_word(line, words)?)));
    let (index, (offset, width)) = found.next()?;
    let again = lines.iter().skip(index + 1).any(|line| quoted(words).is_some_and(|word| line.contains(word)));
    (!again).then_some((index, offset + 1, width))
}

/// The word that OVN quotes as `word'.
fn quoted(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once('`')?;
    rest.split_once('\'').map(|(word, _)| word)
}

/// Where the word that OVN quotes as `word' stands, in characters; none when it stands there twice.
fn named_word(text: &str, words: &str) -> Option<(u32, u32)> {
    let word = quoted(words)?;
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '@');
    let alone = |at: usize| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        let joined = |inside: Option<char>, outside: Option<char>| inside.is_some_and(part) && outside.is_some_and(part);
        !joined(word.chars().next(), before) && !joined(word.chars().next_back(), after)
    };
    let mut found = text.match_indices(word).map(|(at, _)| at).filter(|at| !word.is_empty() && alone(*at));
    let at = found.next()?;
    found.next().is_none().then(|| (text[..at].chars().count() as u32, word.chars().count() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::render::policy::{DENY_ALL, NEIGHBOURS};

    fn acl(matches: &str, source: &str) -> Acl {
        let at = |column| Place { file: "f".into(), line: 7, column };
        Acl {
            direction: crate::topology::AclDirection::ToLport,
            priority: 1,
            matches: matches.into(),
            action: crate::topology::AclAction::Drop,
            at: at(source.find("match: ").map_or(1, |start| start as u32 + 8)),
            source: source.into(),
            going_on: Vec::new(),
            action_at: at(1),
            action_source: source.into(),
        }
    }

    fn pointed(matches: &str, source: &str, words: &str) -> String {
        let fault = misread(&acl(matches, source), words);
        source.chars().skip(fault.at.column as usize - 1).take(fault.width as usize).collect()
    }

    #[test]
    fn the_word_that_ovn_names_is_pointed_at() {
        let line = "  - {match: \"tcp && ip4.srcx == 1\", action: drop}";
        assert_eq!(pointed("tcp && ip4.srcx == 1", line, "Syntax error at `ip4.srcx' expecting field name"), "ip4.srcx");
        assert_eq!(pointed("tcp && (", "  match: tcp && (", "Syntax error at end of input expecting constant"), "");
        let twice = "  match: foo == foo";
        assert_eq!(pointed("foo == foo", twice, "Syntax error at `foo' expecting field name"), "foo == foo");
        assert_eq!(pointed("ip && foo", "  match: >-", "Syntax error at `foo' expecting field name"), ">");
        assert_eq!(named_word("ip4.src && ip4", "at `ip4' x"), Some((11, 3)));
        assert_eq!(named_word("ä = 5", "at `=' x"), Some((2, 1)));
    }

    #[test]
    fn a_word_of_an_expression_over_several_lines_is_pointed_at_on_its_own_line() {
        let lines = ["      ip4 &&", "      tcp.dsst == 80", ""].map(String::from);
        let over = Acl { going_on: lines.to_vec(), ..acl("ip4 && tcp.dsst == 80", "    match: >-") };
        let fault = misread(&over, "Syntax error at `tcp.dsst' expecting field name");
        assert_eq!((fault.at.line, fault.at.column, fault.width, fault.source.as_str()), (9, 7, 8, "      tcp.dsst == 80"));
        let block =
            Acl { going_on: lines[1..].to_vec(), at: Place { column: 7, ..over.at.clone() }, ..acl("ip4 && tcp.dsst == 80", &lines[0]) };
        let fault = misread(&block, "Syntax error at `tcp.dsst' expecting field name");
        assert_eq!((fault.at.line, fault.at.column), (8, 7));
        let fault = misread(&block, "Syntax error at `ip4' expecting something");
        assert_eq!((fault.at.line, fault.at.column, fault.width), (7, 7, 3));
        let twice = Acl { going_on: vec!["  foo ||".to_string(), "  foo".to_string()], ..acl("foo || foo", "    match: >-") };
        assert_eq!(misread(&twice, "Syntax error at `foo' expecting field name").at.line, 7);
    }

    #[test]
    fn what_ovn_said_is_found_by_the_text_alone() {
        let said = "\nrule a: parsing expression failed (one (1).)\nrule b a: parsing expression failed (two)\n";
        assert_eq!(words_about("a", said).as_deref(), Some("one (1)"));
        assert_eq!(words_about("b a", said).as_deref(), Some("two"));
        assert_eq!(words_about("c", said), None);
    }

    #[test]
    fn many_texts_are_put_in_parts_and_one_that_fits_nowhere_is_left_out() {
        let texts: BTreeSet<String> = (0..3000).map(|n| format!("ip4.src == 10.0.{}.{}", n / 250, n % 250)).collect();
        let parts = transactions(&texts);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() < 128 << 10), "{}", parts.len());
        let flows: usize = parts.iter().map(|part| part.matches("Logical_Flow").count()).sum();
        assert_eq!(flows, 3000);
        assert!(!transactions(&BTreeSet::from(["x".repeat(200 << 10)]))[0].contains("xx"));
    }

    /// On OVN itself, where it is installed.
    #[test]
    fn ovn_names_the_faults_of_wrong_matches_and_takes_right_ones() {
        let schema = Path::new(FOLDERS[0]).join("ovn-sb.ovsschema");
        if !schema.is_file() {
            return;
        }
        let right = [
            "ip4 && tcp.dst == 80",
            "inport == \"web:eth0\"",
            "ip4.src == {10.0.0.1, 10.0.0.2}",
            "1",
            "ct.est",
            "arp || nd",
            DENY_ALL,
            NEIGHBOURS,
        ];
        let wrong = ["tcp.dst == 99999", "ip4.srcx == 1", "tcp && (", "ip4 = 5", "ip4.src == $set", "a\tb", "don't", "it's \"x\" 'y'", "❄"];
        let texts = right.iter().chain(&wrong).map(|text| plain(text)).collect();
        let words = ask(&texts, &schema, &Cancel::new()).expect("OVN answers");
        assert_eq!(words.keys().cloned().collect::<BTreeSet<_>>(), wrong.iter().map(|text| plain(text)).collect());
        assert!(words["tcp.dst == 99999"].contains("17-bit constant"), "{words:?}");
    }
}
