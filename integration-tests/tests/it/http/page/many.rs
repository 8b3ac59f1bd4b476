//! A thousand instances on one page.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{Browser, eventually};
use serde_json::Value;

use crate::http::Served;

/// The instances beside the one that they are copies of.
const COPIES: usize = 999;

#[test]
fn page_of_a_thousand_instances_is_searched_and_kept_up_to_date() {
    let served = Served::secured(|daemon| daemon);
    drop(served.session("alice", "copied,gitref:main", "test"));
    served.daemon.cli(&["instance", "stop", "copied"]).ok();
    served.daemon.stop();
    copy(&served.daemon.root().join("instances"));
    // Its log names each of them, which its records lacked.
    served.daemon.expect_log("copy0");
    // The first start takes the copies into the records.
    served.daemon.start();

    let client = served.logged_in("alice");
    let answer = client.get("/instances");
    assert_eq!(answer.body.matches("<tr id=").count(), COPIES + 1);

    let browser = Browser::start();
    served.log_in(&browser, "alice");
    browser.wait_text("#count", "1000 instances");
    served.daemon.cli(&["instance", "pin", "copy0500"]).ok();
    eventually("the pin is shown", Duration::from_secs(60), || {
        let pinned = "return [...document.querySelectorAll('tbody tr')]
            .some(row => row.innerText.includes('copy0500') && row.innerText.includes('pinned'))";
        browser.script(pinned) == Value::Bool(true)
    });
    browser.fill("#q", "copy0007");
    browser.press("Show");
    browser.wait_text("#count", "1 of 1000 instances");
}

/// Copies the manifest of the only instance, under other names, with data that Postgres would refuse.
fn copy(instances: &Path) {
    let one = fs::read_dir(instances)
        .expect("the instances can be listed")
        .flatten()
        .find(|entry| entry.path().join("manifest.json").exists());
    let one = one.expect("there is an instance").path();
    let text = fs::read_to_string(one.join("manifest.json")).expect("it can be read");
    let manifest: Value = serde_json::from_str(&text).expect("it is JSON");
    let owner = fs::metadata(one.join("data")).expect("it has data");
    for number in 0..COPIES {
        let uid = format!("5{number:011x}");
        let mut manifest = manifest.clone();
        manifest["name"] = format!("copy{number:04}").into();
        manifest["uid"] = uid.as_str().into();
        let directory = instances.join(uid);
        let data = directory.join("data");
        let version = data.join("PG_VERSION");
        fs::create_dir(&directory)
            .and_then(|()| fs::write(directory.join("manifest.json"), manifest.to_string()))
            .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&data))
            .and_then(|()| fs::write(&version, "15\n"))
            .and_then(|()| chown(&data, Some(owner.uid()), Some(owner.gid())))
            .and_then(|()| chown(&version, Some(owner.uid()), Some(owner.gid())))
            .expect("an instance can be copied");
    }
}
