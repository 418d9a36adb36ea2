//! What checks came to, as the JUnit XML that Jenkins, GitLab and their like read.
//!
//! One `testsuite`, a `testcase` a check; `failure` for what is not as expected, `error` for what could not be asked. Written by an
//! XML writer, after characters that XML 1.0 does not have are taken out: whatever a guest printed stays text.

use std::io;

use chrono::{DateTime, Utc};
use kvm_compose::{
    api::{CheckOutcome, CheckReport, Checked},
    error::Problem,
    spec::checks::Expect,
};
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

/// The report as a document.
pub fn document(report: &CheckReport, started: DateTime<Utc>) -> Result<String, Problem> {
    let bytes = write(report, started).map_err(|error| Problem::internal("the report cannot be made").cause(error))?;
    String::from_utf8(bytes).map_err(|error| Problem::internal("the report is not UTF-8").cause(error))
}

fn write(report: &CheckReport, started: DateTime<Utc>) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let seconds = |millis: u64| format!("{:.3}", millis as f64 / 1000.0);
    let counts = [
        ("name", report.deployment.to_string()),
        ("tests", report.checks.len().to_string()),
        ("failures", report.failed.to_string()),
        ("errors", report.errors.to_string()),
    ];
    let pairs = |attributes: &[(&'static str, String)]| attributes.to_vec();
    let suites = [pairs(&counts), vec![("time", seconds(report.millis))]].concat();
    let suite =
        [suites.clone(), vec![("skipped", "0".to_string()), ("timestamp", started.format("%Y-%m-%dT%H:%M:%S").to_string())]].concat();
    writer.create_element("testsuites").with_attributes(borrowed(&suites)).write_inner_content(|writer| {
        writer
            .create_element("testsuite")
            .with_attributes(borrowed(&suite))
            .write_inner_content(|writer| report.checks.iter().try_for_each(|check| case(writer, report, check, seconds(check.millis))))?;
        Ok(())
    })?;
    writer.write_event(Event::Text(BytesText::new("\n")))?;
    Ok(writer.into_inner())
}

fn borrowed<'a>(attributes: &'a [(&'static str, String)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    attributes.iter().map(|(key, value)| (*key, value.as_str()))
}

fn case(writer: &mut Writer<Vec<u8>>, report: &CheckReport, check: &Checked, time: String) -> io::Result<()> {
    let attributes = [
        ("name", plain(&check.name)),
        ("classname", format!("{}.{}", report.deployment, plain(&check.kind))),
        ("time", time),
        ("file", plain(&check.at.file)),
        ("line", check.at.line.to_string()),
    ];
    let element = writer.create_element("testcase").with_attributes(borrowed(&attributes));
    let (word, kind) = match check.outcome {
        CheckOutcome::Passed => return element.write_empty().map(drop),
        CheckOutcome::Failed => ("failure", "checks_failed"),
        CheckOutcome::Error => ("error", "not_asked"),
    };
    let expected = if check.expect == Expect::Fail { " (expected to fail)" } else { "" };
    let (message, text) = (plain(&check.seen), plain(&format!("{}{expected}: {}\nat {}", check.asked, check.seen, check.at)));
    element.write_inner_content(|writer| {
        let attributes = [("message", message.as_str()), ("type", kind)];
        writer.create_element(word).with_attributes(attributes).write_text_content(BytesText::new(&text)).map(drop)
    })?;
    Ok(())
}

/// Only characters that a document of XML 1.0 may hold (section 2.2).
fn plain(text: &str) -> String {
    let is_char = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if is_char(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use kvm_compose::{error::Place, names::DeploymentName};

    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let awkward = "]]><x a=\"1\">&amp;\u{0}\u{1b}[2J\u{ffff}</testcase>";
        let checked = |outcome| Checked {
            name: awkward.to_string(),
            kind: "ping".to_string(),
            guest: "a".parse().expect("a name"),
            asked: awkward.to_string(),
            expect: Expect::Pass,
            outcome,
            seen: awkward.to_string(),
            millis: 1234,
            at: Place { file: awkward.to_string(), line: 3, column: 5 },
        };
        let report = CheckReport {
            deployment: DeploymentName::new("lab").expect("a name"),
            passed: 1,
            failed: 1,
            errors: 1,
            millis: 2000,
            checks: vec![checked(CheckOutcome::Passed), checked(CheckOutcome::Failed), checked(CheckOutcome::Error)],
        };
        let text = document(&report, DateTime::UNIX_EPOCH).expect("a document");
        let (mut names, mut messages, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        let mut reader = quick_xml::Reader::from_str(&text);
        reader.config_mut().check_comments = true;
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) => {
                    names.push(element.name().as_ref().to_string());
                    for attribute in element.attributes() {
                        let attribute = attribute.expect("well-formed");
                        if attribute.key.as_ref() == "message" {
                            let value = attribute.value.to_string();
                            messages.push(quick_xml::escape::unescape(&value).expect("escaped").into_owned());
                        }
                    }
                }
                Event::Text(text) => texts.push(text.to_string()),
                _ => {}
            }
        }
        assert_eq!(names, ["testsuites", "testsuite", "testcase", "testcase", "failure", "testcase", "error"]);
        assert_eq!(messages, vec!["]]><x a=\"1\">&amp;\u{fffd}\u{fffd}[2J\u{fffd}</testcase>"; 2]);
        assert!(texts.iter().all(|text| !text.contains('\u{1b}') && !text.contains('<')));
        assert!(text.contains("time=\"1.234\"") && text.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{text}");
    }
}
