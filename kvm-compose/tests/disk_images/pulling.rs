//! Downloads, and what stands in their way.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use kvm_compose::{
    api::{ImageSource, event::EventKind},
    backend::images::disks::{Disks, Settings},
    error::Code,
    orchestrate::host::Cancel,
};

use crate::{
    lab::{Lab, Said, noise, operation, published, settings, sha256, sha512},
    publisher::{Deed, Publisher},
};

/// A publisher with one good image, and its sums.
fn publisher(lab: &Lab) -> (Publisher, Vec<u8>) {
    let (publisher, image) = (Publisher::start(), lab.qcow2(1));
    publisher.put("/disk.qcow2", &image);
    publisher.put("/SUMS", format!("{}  other.qcow2\n{} *disk.qcow2\n", "0".repeat(128), sha512(&image)).as_bytes());
    (publisher, image)
}

#[test]
fn a_pulled_image_is_verified_named_and_readable_and_is_not_fetched_twice() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    let (url, sums) = (publisher.url("/disk.qcow2"), publisher.url("/SUMS"));
    let (pulled, said) = lab.pull("debian", &url, &sums);
    let pulled = pulled.expect("pulled");
    assert_eq!((pulled.digest.as_str(), pulled.size_bytes, pulled.virtual_bytes), (sha256(&image).as_str(), image.len() as u64, 1 << 20));
    assert_eq!(pulled.user.as_deref(), Some("me"));
    assert_eq!(pulled.source, ImageSource::Published { url: url.clone(), sum: format!("sha512:{}", sha512(&image)) });
    let path = lab.disks.path(&pulled);
    assert_eq!(std::fs::read(&path).expect("the content"), image);
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o444);
    for folder in path.ancestors().skip(1).take(2) {
        assert_eq!(std::fs::metadata(folder).expect("there").permissions().mode() & 0o005, 0o005, "{}", folder.display());
    }
    let events = said.0.lock().expect("the words").clone();
    let whole = image.len() as u64;
    assert!(events.iter().any(|event| matches!(event, EventKind::Progress { done, total, .. } if *done == whole && *total == Some(whole))));
    assert_eq!(lab.list().iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), ["debian"]);
    assert!(lab.parts().is_empty(), "{:?}", lab.parts());

    let (again, said) = lab.pull("debian", &url, &sums);
    assert!(again.is_ok_and(|again| again == pulled) && said.text().contains("up to date"), "{}", said.text());
    let (other, said) = lab.pull("same", &url, &sums);
    assert!(other.is_ok() && said.text().contains("is there already, as `debian`"), "{}", said.text());
    assert_eq!(publisher.asked("/disk.qcow2").len(), 1);

    // The publisher has a newer one: the name goes over to it, the old content stays until it is pruned.
    let newer = lab.qcow2(2);
    publisher.put("/disk.qcow2", &newer);
    publisher.put("/SUMS", format!("{}\n", sha256(&newer)).as_bytes());
    assert_eq!(lab.pull("debian", &url, &sums).0.expect("pulled").digest, sha256(&newer));
    lab.disks.remove("same", &lab.deployments(), &Cancel::new()).expect("removed");
    assert_eq!(lab.list().len(), 1);
}

#[test]
fn a_cut_connection_is_gone_on_with_where_it_ended() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Cut(1000), Deed::Status(503), Deed::Cut(70_000)]);
    let (pulled, said) = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    assert_eq!(pulled.expect("pulled").digest, sha256(&image));
    let asked = publisher.asked("/disk.qcow2");
    let ranges: Vec<_> = asked.iter().map(|asked| asked.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-"), Some("bytes=1000-"), Some("bytes=71000-")]);
    assert!(asked[1].headers.get("if-range").is_some_and(|tag| tag.starts_with('"')), "{asked:?}");
    assert!(said.text().contains("trying again") && said.text().contains("going on"), "{}", said.text());
}

#[test]
fn a_download_that_failed_is_gone_on_with_by_the_next_server() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Cut(5000), Deed::Cut(0), Deed::Cut(0), Deed::Cut(0)]);
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("cut");
    assert!(problem.code == Code::DownloadFailed && problem.hint.as_deref().is_some_and(|hint| hint.contains("goes on")), "{problem:?}");
    assert!(lab.list().is_empty() && lab.parts().len() == 2, "{:?}", lab.parts());

    let next = Disks::new(&lab.path("images"), settings());
    let image_of = published(&publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    let before = publisher.asked("/disk.qcow2").len();
    let pulled = next.pull("it", &image_of, &operation(&Said::default(), &Cancel::new())).expect("pulled");
    assert_eq!(pulled.digest, sha256(&image));
    let asked = publisher.asked("/disk.qcow2");
    assert_eq!(asked[before].headers.get("range").map(String::as_str), Some("bytes=5000-"));
    assert!(lab.parts().is_empty());
}

#[test]
fn a_publisher_without_ranges_sends_all_of_it_again() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Cut(5000), Deed::WithoutRange]);
    let (pulled, said) = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    assert_eq!(pulled.expect("pulled").digest, sha256(&image));
    assert!(said.text().contains("sends all of it again"), "{}", said.text());
}

#[test]
fn pieces_of_two_contents_do_not_become_an_image() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    // The part says that it can be gone on with, and has something else in it.
    publisher.then("/disk.qcow2", &[Deed::Cut(5000), Deed::Cut(0), Deed::Cut(0), Deed::Cut(0)]);
    lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("cut");
    let part = lab.parts().into_iter().find(|name| name.ends_with(".part")).expect("a part");
    std::fs::write(lab.path("images/disks/parts").join(part), vec![7; 5000]).expect("damaged");
    let (pulled, said) = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    assert_eq!(pulled.expect("pulled").digest, sha256(&image));
    assert!(said.text().contains("do not fit together"), "{}", said.text());
    // The publisher replaces the file behind the same sum's back: If-Range tells, and the sum has the last word.
    publisher.put("/disk.qcow2", &noise(9));
    lab.disks.remove("it", &lab.deployments(), &Cancel::new()).expect("removed");
    publisher.then("/disk.qcow2", &[Deed::Cut(5000)]);
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("replaced");
    assert_eq!(problem.code, Code::SumMismatch);
}

#[test]
fn what_is_not_what_the_publisher_promised_gets_no_name() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.put("/BAD", format!("{}  disk.qcow2\n", sha256(b"another")).as_bytes());
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/BAD")).0.expect_err("a wrong sum");
    assert_eq!(problem.code, Code::SumMismatch);
    assert!(problem.causes.iter().any(|cause| cause.contains(&sha256(&image))) && problem.hint.is_some(), "{problem:?}");
    assert!(lab.list().is_empty() && lab.parts().is_empty(), "{:?}", lab.parts());
    // A promise that is too short cuts the image off.
    publisher.then("/disk.qcow2", &[Deed::Promise(5000)]);
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("cut off");
    assert_eq!(problem.code, Code::SumMismatch);
    // A promise that is too long is never kept; what came is kept for the next attempt, which finds that it is all.
    publisher.then("/disk.qcow2", &[Deed::Promise(image.len() + 5000)]);
    let pulled = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0;
    assert_eq!(pulled.expect("all of it came").digest, sha256(&image));
}

#[test]
fn a_silent_publisher_is_asked_again_and_one_that_stays_silent_is_given_up() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Stall(5000)]);
    let (pulled, said) = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    assert_eq!(pulled.expect("pulled").digest, sha256(&image));
    assert!(said.text().contains("nothing came for too long"), "{}", said.text());
    lab.disks.remove("it", &lab.deployments(), &Cancel::new()).expect("removed");
    publisher.then("/disk.qcow2", &[Deed::Stall(0), Deed::Stall(0), Deed::Stall(0)]);
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("silent");
    assert!(problem.code == Code::DownloadFailed && problem.causes[0].contains("nothing came"), "{problem:?}");
}

#[test]
fn redirects_are_followed_and_circles_are_not() {
    let lab = Lab::start();
    let (publisher, image) = publisher(&lab);
    publisher.put("/latest/disk.qcow2", b"elsewhere");
    publisher.then("/latest/disk.qcow2", &[Deed::Redirect("/disk.qcow2".to_string())]);
    let pulled = lab.pull("it", &publisher.url("/latest/disk.qcow2"), &publisher.url("/SUMS")).0.expect("pulled");
    assert_eq!(pulled.digest, sha256(&image));
    publisher.put("/circle/disk.qcow2", b"nowhere");
    publisher.then("/circle/disk.qcow2", &vec![Deed::Redirect("/circle/disk.qcow2".to_string()); 50]);
    lab.disks.remove("it", &lab.deployments(), &Cancel::new()).expect("removed");
    let problem = lab.pull("it", &publisher.url("/circle/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("a circle");
    assert!(problem.code == Code::DownloadFailed && problem.causes[0].contains("more than 5 times"), "{problem:?}");
    assert!(publisher.asked("/circle/disk.qcow2").len() < 10);
    for (to, said) in [("ftp://a/b", "no web address"), ("file:///etc/passwd", "302")] {
        publisher.then("/latest/disk.qcow2", &[Deed::Redirect(to.to_string())]);
        let problem = lab.pull("it", &publisher.url("/latest/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err(to);
        let words = problem.causes.join(" ");
        assert!(problem.code == Code::DownloadFailed && words.contains(said), "{to}: {problem:?}");
    }
}

#[test]
fn what_is_missing_is_said_at_once() {
    let lab = Lab::start();
    let (publisher, _) = publisher(&lab);
    publisher.put("/BYTES", &[0xff; 100]);
    publisher.put("/LONG", &vec![b'a'; (1 << 20) + 1]);
    for (image, sums, said) in [
        ("/none/disk.qcow2", "/SUMS", "does not have it (404"),
        ("/disk.qcow2", "/NONE", "does not have it (404"),
        ("/disk.qcow2", "/BYTES", "not text"),
        ("/disk.qcow2", "/LONG", "larger than 1 MiB"),
        ("/third.qcow2", "/SUMS", "do not name `third.qcow2`"),
    ] {
        let problem = lab.pull("it", &publisher.url(image), &publisher.url(sums)).0.expect_err(said);
        let words = format!("{problem} {}", problem.causes.join(" "));
        assert!(problem.code == Code::DownloadFailed && words.contains(said) && words.contains("http://"), "{said}: {problem:?}");
    }
    publisher.then("/disk.qcow2", &[Deed::Status(403)]);
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("refused");
    assert!(problem.hint.is_some_and(|hint| hint.contains("proxy")));
}

#[test]
fn what_is_too_large_is_not_taken_whether_it_says_so_or_not() {
    let lab = Lab::start();
    let (publisher, _) = publisher(&lab);
    let large = vec![1; 9 << 20];
    publisher.put("/large/disk.qcow2", &large);
    publisher.then("/large/disk.qcow2", &[Deed::Gate, Deed::Endless]);
    publisher.open_gate();
    for _ in 0..2 {
        let problem = lab.pull("it", &publisher.url("/large/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("too large");
        assert!(problem.code == Code::TooLarge && problem.hint.is_some(), "{problem:?}");
        let kept: u64 = lab.parts().iter().map(|name| lab.path("images/disks/parts").join(name).metadata().expect("there").len()).sum();
        assert!(kept < 1000, "{kept} bytes are kept");
    }
}

#[test]
fn what_is_no_disk_gets_no_name_however_right_its_sum_is() {
    let lab = Lab::start();
    let publisher = Publisher::start();
    let page = b"<html><body>Please log in to the network of this hotel</body></html>";
    publisher.put("/disk.qcow2", page);
    publisher.put("/SUMS", sha256(page).as_bytes());
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("a page");
    assert!(problem.code == Code::ImageRefused && problem.message.contains("text"), "{problem:?}");
    assert!(lab.list().is_empty() && lab.parts().is_empty());
    // A raw disk becomes qcow2, and the publisher's sum is still known.
    let raw = noise(4);
    publisher.put("/disk.qcow2", &raw);
    publisher.put("/SUMS", sha256(&raw).as_bytes());
    let pulled = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect("pulled");
    assert!(std::fs::read(lab.disks.path(&pulled)).expect("there").starts_with(b"QFI\xfb") && pulled.virtual_bytes == 1 << 20);
    assert!(lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).1.text().contains("up to date"));
}

#[test]
fn many_waiters_are_one_download() {
    let lab = Lab::with(Settings { stall: Duration::from_secs(60), ..settings() });
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Gate]);
    let watching = AtomicUsize::new(0);
    let (url, sums) = (publisher.url("/disk.qcow2"), publisher.url("/SUMS"));
    thread::scope(|scope| {
        let one = || {
            watching.fetch_add(1, Ordering::SeqCst);
            lab.pull("it", &url, &sums).0.expect("pulled").digest
        };
        let all: Vec<_> = (0..12).map(|_| scope.spawn(one)).collect();
        while watching.load(Ordering::SeqCst) < 12 || publisher.asked("/disk.qcow2").is_empty() {
            thread::yield_now();
        }
        publisher.open_gate();
        assert!(all.into_iter().all(|one| one.join().expect("no panic") == sha256(&image)));
    });
    assert_eq!(publisher.asked("/disk.qcow2").len(), 1);
}

#[test]
fn a_pull_that_is_told_to_stop_stops_at_once_and_keeps_what_came() {
    let lab = Lab::with(Settings { stall: Duration::from_secs(60), ..settings() });
    let (publisher, image) = publisher(&lab);
    publisher.then("/disk.qcow2", &[Deed::Stall(5000)]);
    let (cancel, said) = (Cancel::new(), Said::default());
    let it = published(&publisher.url("/disk.qcow2"), &publisher.url("/SUMS"));
    thread::scope(|scope| {
        let pulling = scope.spawn(|| lab.disks.pull("it", &it, &operation(&said, &cancel)));
        while !lab.path("images/disks/parts").is_dir()
            || !lab.parts().iter().any(|name| {
                name.ends_with(".part") && lab.path("images/disks/parts").join(name).metadata().is_ok_and(|found| found.len() == 5000)
            })
        {
            thread::yield_now();
        }
        cancel.cancel();
        let ended = pulling.join().expect("no panic");
        assert_eq!(ended.map_err(|problem| problem.code), Err(Code::Cancelled));
    });
    assert_eq!(lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect("pulled").digest, sha256(&image));
    assert_eq!(publisher.asked("/disk.qcow2")[1].headers.get("range").map(String::as_str), Some("bytes=5000-"));
}

#[test]
fn a_mirror_and_a_proxy_are_asked_in_the_publishers_place() {
    let maker = Lab::start();
    let (publisher, image) = publisher(&maker);
    let mirrors = [("https://cloud.example/images/".to_string(), publisher.url("/"))].into();
    let lab = Lab::with(Settings { mirrors, ..settings() });
    let pulled = lab.pull("it", "https://cloud.example/images/disk.qcow2", "https://cloud.example/images/SUMS").0.expect("mirrored");
    assert_eq!(pulled.digest, sha256(&image));
    assert_eq!(
        pulled.source,
        ImageSource::Published { url: "https://cloud.example/images/disk.qcow2".to_string(), sum: format!("sha512:{}", sha512(&image)) }
    );
    let lab = Lab::with(Settings { proxy: Some(publisher.url("/")), ..settings() });
    lab.pull("it", "http://cloud.example/disk.qcow2", "http://cloud.example/SUMS").0.expect("through the proxy");
    assert!(publisher.asked("/disk.qcow2").iter().any(|asked| asked.target == "http://cloud.example/disk.qcow2"));
    let lab = Lab::with(Settings { proxy: Some("http://127.0.0.1:1".into()), no_proxy: Some("127.0.0.1".into()), ..settings() });
    lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect("past the proxy");
    let lab = Lab::with(Settings { proxy: Some("http://127.0.0.1:1".into()), ..settings() });
    let problem = lab.pull("it", &publisher.url("/disk.qcow2"), &publisher.url("/SUMS")).0.expect_err("no proxy there");
    assert!(problem.hint.is_some_and(|hint| hint.contains("[images]")));
}
