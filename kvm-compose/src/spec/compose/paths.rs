//! Where a file lies that another one names.
//!
//! Pure: text only. What links lead to is the reading's to see.

/// The longest path, in bytes.
const LONGEST: usize = 4096;

/// The path from the project's folder of a file that `from` names; the error is a hint.
pub fn resolve(from: &str, written: &str) -> Result<String, &'static str> {
    const INSIDE: &str = "name a file of the project's folder, from the folder of the file that names it on: `net/lan.yaml`";
    if written.is_empty() || written.len() > LONGEST || written.contains(char::is_control) {
        return Err("write a path of 1 to 4096 bytes without control characters");
    }
    let (mut parts, rest): (Vec<&str>, &str) = match written.strip_prefix("${PWD}/") {
        Some(rest) => (Vec::new(), rest),
        None => (from.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(), written),
    };
    if rest.starts_with('/') || rest.ends_with('/') {
        return Err(INSIDE);
    }
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or(INSIDE)?),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { Err(INSIDE) } else { Ok(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_from_the_file_that_names_it_and_never_out() {
        for (from, written, path) in [
            ("kvm-compose.yaml", "net.yaml", "net.yaml"),
            ("kvm-compose.yaml", "./net//lan.yaml", "net/lan.yaml"),
            ("net/lan.yaml", "wan.yaml", "net/wan.yaml"),
            ("net/lan.yaml", "../base.yaml", "base.yaml"),
            ("net/lan.yaml", "${PWD}/base.yaml", "base.yaml"),
            ("a", "x/../../a/../b", ""),
        ] {
            match resolve(from, written) {
                Ok(found) => assert_eq!(found, path),
                Err(_) => assert_eq!(path, "", "{written}"),
            }
        }
        for written in ["", "/etc/passwd", "..", "../x", "a/../..", "net/", ".", "a\nb", "${PWD}/../x", "${PWD}//etc/passwd"] {
            assert!(resolve("kvm-compose.yaml", written).is_err(), "{written}");
        }
    }
}
