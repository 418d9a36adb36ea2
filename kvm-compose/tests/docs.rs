//! The documentation says what the code says. `UPDATE_DOCS=1` writes the generated pages anew.

use std::path::PathBuf;

use kvm_compose::{
    error::Code,
    names::DeploymentName,
    topology::{self, Leases},
};

fn docs(page: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(page)
}

#[test]
fn the_error_page_is_the_table_of_codes() {
    let mut page = "# Error codes\n\nGenerated from `kvm-compose/src/error.rs` by the test `docs`.\n\n\
        Every error has one of these codes: in the body of an HTTP response, in `<name>-logs.json` as `error_code` (the\n\
        number; 0 is success), and as the exit status of `testbed`. Faults of a testbed file have codes of their own, listed in\n\
        [yaml.md](yaml.md#codes).\n\n| code | `error_code` | HTTP | exit | meaning |\n| --- | ---: | ---: | ---: | --- |\n"
        .to_string();
    for code in Code::ALL {
        let meaning = code.meaning().trim();
        page.push_str(&format!("| `{code}` | {} | {} | {} | {meaning} |\n", code.number(), code.http_status(), code.exit_status()));
    }
    page.push_str(
        "\n## Exit status of `testbed`\n\n| status | meaning |\n| ---: | --- |\n| 0 | success |\n| 1 | the action failed |\n\
        | 2 | wrong use or an invalid file |\n| 3 | not found |\n| 4 | busy or conflict |\n| 5 | the server cannot be reached |\n\
        | 6 | not allowed |\n| 7 | checks failed |\n| 130 | cancelled |\n\n`testbed exec` ends with the status of the command it ran.\n\n\
        ## Failures with `-o json` and `-o ndjson`\n\nStandard output holds results only; a failure is one line of JSON on standard \
        error, and nothing else stands there\nbut warnings (`{\"warning\": …}`, one a line):\n\n```json\n\
        {\"code\":\"not_found\",\"message\":\"deployment `lab` does not exist\",\"hint\":\"`testbed list` shows those that do; \
        `testbed up` makes one\"}\n```\n\n`code` and `message` are always there; `hint`, `causes` (a list, outermost first), `at` \
        (`file`, `line`, `column`) and\n`diagnostics` (the faults of a testbed file) are left out when empty. An action that failed also has \
        its record on standard\noutput, with the same problem in `entry.problem`.\n",
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(docs("errors.md"), &page).expect("written");
    }
    assert_eq!(std::fs::read_to_string(docs("errors.md")).expect("docs/errors.md"), page, "run the test with UPDATE_DOCS=1");
}

#[test]
fn every_example_of_the_language_page_loads() {
    let page = std::fs::read_to_string(docs("yaml.md")).expect("docs/yaml.md");
    let page = page + &std::fs::read_to_string(docs("checks.md")).expect("docs/checks.md");
    let page = page + &std::fs::read_to_string(docs("outside.md")).expect("docs/outside.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3);
    let readme = std::fs::read_to_string(docs("../README.md")).expect("README.md");
    let first = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    for block in blocks.into_iter().chain([first]) {
        let loaded = topology::load("docs", block, &DeploymentName::new("docs").expect("valid"), &Leases::new());
        assert!(loaded.is_ok(), "{block}\n{loaded:#?}");
    }
}

#[test]
fn every_fault_code_in_the_source_is_on_the_language_page() {
    let page = std::fs::read_to_string(docs("yaml.md")).expect("docs/yaml.md");
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            for code in source.split('"').filter(|part| {
                part.len() == 4 && (part.starts_with('E') || part.starts_with('W')) && part[1..].chars().all(|c| c.is_ascii_digit())
            }) {
                found += 1;
                assert!(page.contains(&format!("| {code} |")), "{code} of {} is not in docs/yaml.md", path.display());
            }
        }
    }
    assert!(found > 30);
}
