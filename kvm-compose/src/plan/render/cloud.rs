//! What a cloud image is told to make of itself at its first boot (cloud-init's user-data).
//!
//! Pure. Written as JSON, which is YAML that no value can break out of.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

/// Prints a variable, in the guest; the same in micro guests.
const ENV_SH: &str = include_str!("../../backend/images/micro/guest/env.sh");

/// Who may log in.
#[derive(Default)]
pub struct Login<'a> {
    /// The user; the image's own when absent.
    pub username: Option<&'a str>,
    /// The user's password, for the console.
    pub password: Option<&'a str>,
    /// The public SSH key of whoever may.
    pub key: Option<&'a str>,
}

/// The user-data of a guest with these variables, as lines that a shell reads; `aside` are interfaces by which somebody is
/// reached beside their subnets.
pub fn user_data(environment: Option<&str>, login: &Login<'_>, aside: &[(&str, IpAddr)]) -> String {
    let Login { username, password, key } = *login;
    let mut files = vec![json!({"path": "/etc/nocloud/env.sh", "permissions": "0755", "content": ENV_SH})];
    files.extend(environment.map(|lines| json!({"path": "/etc/testbedos/environment", "permissions": "0600", "content": lines})));
    let mut data = BTreeMap::from([
        // A clone of an image has keys of its own.
        ("ssh_deletekeys", json!(true)),
        ("preserve_hostname", json!(false)),
        ("write_files", Value::Array(files)),
    ]);
    match (username, password) {
        (Some(name), password) => {
            let mut user = json!({"name": name, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": password.is_none()});
            if let Some(password) = password {
                user["plain_text_passwd"] = json!(password);
            }
            if let Some(key) = key {
                user["ssh_authorized_keys"] = json!([key]);
            }
            data.insert("users", json!(["default", user]));
        }
        (None, Some(password)) => {
            data.insert("password", json!(password));
        }
        (None, None) => {}
    }
    if let (None, Some(key)) = (username, key) {
        data.insert("ssh_authorized_keys", json!([key]));
    }
    if !aside.is_empty() {
        let routes = aside.iter().map(|(interface, server)| json!(["ip", "route", "replace", format!("{server}/32"), "dev", interface]));
        data.insert("bootcmd", routes.collect());
    }
    if password.is_some() {
        data.insert("chpasswd", json!({"expire": false}));
    }
    format!("#cloud-config\n{:#}\n", json!(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        serde_json::from_str(text.strip_prefix("#cloud-config\n").expect("the mark")).expect("JSON")
    }

    #[test]
    fn values_stay_values_whatever_they_hold() {
        let nasty = "A='x\ny: \"z\" # $HOME'\nB='it'\\''s'\n";
        let data =
            read(&user_data(Some(nasty), &Login { username: Some("me"), password: Some("p\"\n- w"), key: Some("ssh-ed25519 A b") }, &[]));
        assert_eq!(data["write_files"][1]["content"], nasty);
        assert_eq!((&data["users"][1]["name"], &data["users"][1]["plain_text_passwd"]), (&json!("me"), &json!("p\"\n- w")));
        assert_eq!(data["users"][1]["lock_passwd"], false);
        assert_eq!((&data["users"][1]["ssh_authorized_keys"], &data["ssh_authorized_keys"]), (&json!(["ssh-ed25519 A b"]), &Value::Null));
        assert_eq!(data["chpasswd"]["expire"], false);
    }

    #[test]
    fn without_a_name_the_password_is_the_images_own_users() {
        let data = read(&user_data(None, &Login { password: Some("secret"), ..Login::default() }, &[]));
        assert_eq!((&data["password"], &data["users"]), (&json!("secret"), &Value::Null));
        let plain = read(&user_data(None, &Login { key: Some("ssh-ed25519 A b"), ..Login::default() }, &[]));
        assert_eq!(plain["ssh_authorized_keys"], json!(["ssh-ed25519 A b"]));
        assert!(
            plain["password"].is_null() && plain["chpasswd"].is_null() && plain["write_files"].as_array().is_some_and(|all| all.len() == 1)
        );
    }
}
