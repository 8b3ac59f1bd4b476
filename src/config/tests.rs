use super::*;

fn parse(text: &str) -> Result<Loaded, ConfigFaults> {
    Loaded::parse(None, text)
}

fn faults(text: &str) -> String {
    let faults = parse(text).expect_err("the configuration is refused");
    let lines: Vec<_> = faults.faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A file with a value for most settings.
const EXAMPLE: &str = r#"
listen = ["127.0.0.1:6432", "[::1]:6432", "/run/multidb/.s.PGSQL.6432"]
root = "/srv/multidb"
admin_socket = "/run/multidb/admin.sock"

[runtime]
kind = "docker"
image = "registry.internal:5000/postgres:{major}-bookworm"
network = "private"
memory = "512MiB"
cpus = 1
user = "pg"

[clone]
method = "reflink"

[limits]
session_idle_timeout = "1m"
retention = "2days"
max_running = 3
memory_high_water = "80%"
disk_reserve = "100MiB"
disk_high_water = "90%"
max_instance_bytes = "20GiB"

[postgres.settings]
shared_buffers = "64MB"
work_mem = 4096
jit = false

[auth]
method = "trust"
default_user = "team"
[auth.users.team]
verifier = "SCRAM-SHA-256$4096:c2VjcmV0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
roles = ["app", "reader"]

[tls]
cert = "/etc/multidb/cert.pem"
key = "/etc/multidb/key.pem"
client_ca = "/etc/multidb/clients.pem"
required = true

[project.mathspace]
git = "https://robot:secret@git.internal/mathspace.git"
listing = "db/migrations.txt"
migrations = "django"
database = "mathspace_default"
role = "app"

[project.polls]
git = "/srv/git/polls.git"
migrations = { query = "select version from schema", database = "other" }
database = "polls"
"#;

#[test]
fn root_with_a_comma_is_refused() {
    let text = faults("root = \"/srv/a,b\"");
    assert!(
        text.starts_with("root (line 1): must not contain a comma"),
        "{text}"
    );
}

#[test]
fn an_empty_file_means_the_defaults() {
    let loaded = parse("").unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.settings.iter().all(|s| s.origin == Origin::Default));
    insta::assert_debug_snapshot!("defaults", loaded.config);
}

#[test]
fn each_setting_is_read() {
    insta::assert_debug_snapshot!("example", parse(EXAMPLE).unwrap().config);
}

#[test]
fn each_setting_is_shown_with_its_origin_and_without_passwords() {
    let settings = parse(EXAMPLE).unwrap().settings;
    let lines = settings
        .iter()
        .map(|s| format!("{} = {} ({:?})", s.key, s.value, s.origin));
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(!text.contains("secret") && !text.contains("c2Vjcm"));
    insta::assert_snapshot!("shown", text);
}

#[test]
fn all_faults_are_reported_together_with_their_keys() {
    let text = r#"
        listen = ["localhost:6432", "127.0.0.1:0", "relative.sock"]
        root = "relative"
        admin_socket = "/a/"
        colour = "red"
        [runtime]
        kind = "podman"
        image = "registry.internal:5000/postgres"
        network = "host"
        memory = "1MiB"
        cpus = 0
        [clone]
        method = "rsync"
        [limits]
        session_idle_timeout = "0s"
        retention = 30
        start_timeout = "soon"
        instance_idle_timeout = "200years"
        max_running = 0
        memory_high_water = 80
        max_connections = -1
        disk_reserve = "lots"
        disk_high_water = "101%"
        max_instance_bytes = "1MiB"
        patience = "1s"
        [postgres.settings]
        port = 5433
        Listen_Addresses = "*"
        "a b" = "c"
        shared_buffers = ["64MB"]
        [auth]
        method = "md5"
        [auth.users.staff]
        verifier = "x"
        [tls]
        cert = "/c"
        [project."a b"]
        git = "ftp://host/path"
        listing = "../up"
        migrations = "activerecord"
        database = ""
        [project.b]
        listing = "/etc/passwd"
        migrations = { sql = "select 1" }
        [project.c]
        listing = { dir = "..", pattern = "[" }
        ignore = ["auth.*", "["]
        [project.d]
        listing = { dir = "db", pattern = "(.*)\\.sql", glob = "*" }
        [project.e]
        listing = { dir = "db" }
        migrations = { query = "select 1" }
    "#;
    insta::assert_snapshot!("faults", faults(text));
}

#[test]
fn trust_is_refused_where_other_machines_can_connect() {
    let listen = r#"listen = ["0.0.0.0:6432", "127.0.0.1:6432"]"#;
    let trust = format!("{listen}\n[auth]\nmethod = \"trust\"");
    insta::assert_snapshot!(faults(&trust));
    for scram in [
        listen,
        &format!("{listen}\n[auth]\nmethod = \"scram-sha-256\""),
    ] {
        let loaded = parse(scram).unwrap();
        assert_eq!(loaded.config.auth.method, AuthMethod::ScramSha256);
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("no [tls]"), "{warnings:?}");
    }
}

#[test]
fn secrets_in_a_url_are_not_shown() {
    for (url, shown) in [
        ("https://robot:secret@host/a", "https://robot:***@host/a"),
        ("https://ghp_token@host/a", "https://***@host/a"),
        ("ssh://git@host/a", "ssh://git@host/a"),
        ("git@host:a", "git@host:a"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://a:b@c@host", "https://a:***@host"),
    ] {
        assert_eq!(project::without_secret(url), shown);
    }
}

#[test]
fn probable_mistakes_are_warnings() {
    let warnings = |text: &str| {
        let warnings = parse(text).unwrap().warnings;
        let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    assert_eq!(warnings("listen = [\"127.0.0.1:32767\"]"), "");
    insta::assert_snapshot!(
        warnings("root = \"/r\"\nlisten = [\"127.0.0.1:32768\"]"),
        @r#"listen (line 2): "127.0.0.1:32768" has a port that the system may use for outgoing connections, so it may be taken when multidb starts; ports below 32768 are not"#
    );
    insta::assert_snapshot!(
        warnings(EXAMPLE),
        @r#"auth.users (line 34): have no effect: with auth.method = "trust" no client is asked for a password, and all of them may log in as any role"#
    );
}

#[test]
fn a_repository_is_a_path_or_a_url_and_never_an_option() {
    let remote = |git: &str| {
        let text = format!(
            "[project.p]\ngit = {}\nmigrations = \"rails\"\ndatabase = \"d\"",
            toml::Value::from(git)
        );
        let config = parse(&text).ok()?.config;
        config.projects.into_values().next().map(|p| p.git)
    };
    for good in [
        "https://git.internal/a.git",
        "http://127.0.0.1:8080/a",
        "ssh://git@host:2222/a.git",
        "file:///srv/a.git",
        "git@github.com:team/app.git",
        "https://[::1]:8080/a",
    ] {
        assert_eq!(
            remote(good),
            Some(GitRemote::Remote(good.to_owned())),
            "{good}"
        );
    }
    let local = GitRemote::Local(PathBuf::from("/srv/my app.git"));
    assert_eq!(remote("/srv/my app.git"), Some(local));
    for bad in [
        "",
        "app.git",
        "../app",
        "ext::sh -c id",
        "ssh://-oProxyCommand=id/a",
        "ssh://a@-o/a",
        "-u@host:path",
        "git@-host:path",
        "git://host/a",
        "file://relative",
        "https:// a",
        "https://",
    ] {
        assert_eq!(remote(bad), None, "{bad}");
    }
}

#[test]
fn a_root_too_long_for_its_sockets_is_refused() {
    let root = |bytes: usize| format!("root = \"/{}\"", "r".repeat(bytes - 1));
    assert!(parse(&root(76)).is_ok());
    assert!(faults(&root(77)).contains("at most 76"));
    assert!(faults("root = \"/\"").contains("not /"));
}

#[test]
fn bad_toml_is_a_fault_that_shows_the_line() {
    let fault = faults("root = \"/a\"\nlisten = [");
    assert!(fault.contains("line 2"), "{fault}");
}

#[test]
fn a_missing_file_is_a_fault_only_if_it_was_named() {
    let missing = std::path::Path::new("/nonexistent/multidb.toml");
    let faults = Config::load(Some(missing)).unwrap_err().to_string();
    assert!(faults.contains("/nonexistent/multidb.toml has a fault:\n  cannot be read"));
}

#[test]
fn the_default_admin_socket_is_in_a_directory_that_the_user_can_write() {
    let at = |is_root, runtime_dir: Option<&str>| {
        let runtime_dir = runtime_dir.map(Path::new);
        let path = server::default_admin_socket(is_root, runtime_dir, Path::new("/data"));
        path.display().to_string()
    };
    assert_eq!(at(true, Some("/run/user/0")), "/run/multidb/admin.sock");
    assert_eq!(
        at(false, Some("/run/user/7")),
        "/run/user/7/multidb/admin.sock"
    );
    assert_eq!(at(false, Some("relative")), "/data/state/admin.sock");
    assert_eq!(at(false, None), "/data/state/admin.sock");
}

#[test]
fn preparations_keep_their_order_and_their_faults_have_a_line() {
    let project = "[project.p]\ngit = \"/git\"\nmigrations = \"django\"\ndatabase = \"d\"\n";
    let text = format!(
        "{project}[[project.p.prepare]]\nsql = \"/mask.sql\"\n\
         [[project.p.prepare]]\ncommand = [\"/bin/prune\", \"-x\"]\ntimeout = \"5m\"\n"
    );
    let loaded = parse(&text).unwrap();
    let project_of = |loaded: &Loaded| loaded.config.projects.values().next().cloned().unwrap();
    let command = vec!["/bin/prune".to_owned(), "-x".to_owned()];
    assert_eq!(
        project_of(&loaded).prepare,
        [
            Preparation {
                run: PreparationRun::Sql("/mask.sql".into()),
                timeout: None,
            },
            Preparation {
                run: PreparationRun::Command(command),
                timeout: Some(Duration::from_secs(300)),
            },
        ]
    );
    let text = format!(
        "{project}prepare = [{{ sql = \"mask.sql\" }}]\n[project.q]\n{}\
         [[project.q.prepare]]\n[[project.q.prepare]]\nsql = \"/a\"\ncommand = [\"/b\"]\n\
         [[project.q.prepare]]\ncommand = [\"prune\"]\nspeed = 3\n",
        &project["[project.p]\n".len()..]
    );
    assert_eq!(
        faults(&text),
        "project.p.prepare[1].sql (line 5): \"mask.sql\" is not an absolute path\n\
         project.q.prepare[1] (line 6): needs sql = \"/a/file.sql\" or command = [\"/a/program\"]\n\
         project.q.prepare[2] (line 12): has both sql and command: one preparation does one\n\
         project.q.prepare[3].command (line 15): \"prune\" is not an absolute path\n\
         project.q.prepare[3].speed (line 16): is not a known key; valid keys: sql, command, timeout"
    );
    let single = format!("{project}[project.p.prepare]\nsql = \"/mask.sql\"\n");
    assert_eq!(
        faults(&single),
        "project.p.prepare (line 5): is a section, but must be a list of sections: write \
         [[project.p.prepare]]"
    );
}

#[test]
fn a_key_that_is_misspelt_or_in_the_wrong_section_gets_advice() {
    let text = "[limits]\nretension = '3d'\nlisten = ['127.0.0.1:1']\n[project.p]\ngit = '/git'\n\
                migrations = 'django'\ndatabase = 'd'\nroot = '/r'\n[limts]\n";
    assert_eq!(
        faults(text),
        "limits.listen (line 3): belongs to no section, but TOML counts it to [limits], which begins above it: \
         move the line before the first section\n\
         limits.retension (line 2): is not a known key; did you mean retention?\n\
         project.p.root (line 8): belongs to no section, but TOML counts it to [project.p], which begins above it: \
         move the line before the first section\n\
         limts (line 9): is not a known key; did you mean limits?"
    );
    for key in section::TOP_KEYS {
        assert!(
            !faults(&format!("{key} = 1")).contains("not a known key"),
            "{key}"
        );
    }
}

#[test]
fn shown_values_have_their_types() {
    let loaded = parse("root = '/r'\n[limits]\nmax_running = 3\n[runtime]\ncpus = 1.5\n").unwrap();
    let value = |key: &str| {
        let setting = loaded.settings.iter().find(|setting| setting.key == key);
        serde_json::to_value(&setting.unwrap().value).unwrap()
    };
    assert_eq!(value("limits.max_running"), 3);
    assert_eq!(value("runtime.cpus"), 1.5);
    assert_eq!(value("dedup.enabled"), true);
    assert_eq!(value("root"), "/r");
    assert_eq!(value("listen"), serde_json::json!(["127.0.0.1:6432"]));
}

#[test]
fn api_is_offered_over_a_network_only_with_tls_and_passwords() {
    let scram = "[auth]\nmethod = \"scram-sha-256\"\n";
    let tls = "[tls]\ncert = \"/c\"\nkey = \"/k\"\n";
    let http = |addresses: &str| format!("[http]\nlisten = [{addresses}]\n");
    let loopback = http("\"127.0.0.1:6433\", \"[::1]:6433\"");
    let open = http("\"10.0.0.5:6433\"");
    let own = format!("{open}cert = \"/c\"\nkey = \"/k\"\n");
    let certificate = |text: &str| parse(text).unwrap().config.http.unwrap().certificate;
    assert_eq!(parse("").unwrap().config.http, None);
    assert_eq!(certificate(&loopback), None);
    assert!(certificate(&format!("{scram}{tls}{open}")).is_some());
    assert!(certificate(&format!("{scram}{own}")).is_some());
    for (text, expected) in [
        (
            format!("{scram}{open}"),
            "http.listen (line 4): \"10.0.0.5:6433\" can be reached from other machines, so it needs TLS",
        ),
        (
            own.clone(),
            "http.listen (line 2): \"10.0.0.5:6433\" can be reached from other machines, and with auth.method",
        ),
        (format!("{loopback}cert = \"/c\"\n"), "http.key"),
        (http(""), "http.listen (line 2): is empty"),
        (
            http("\"/run/http.sock\""),
            "http.listen (line 2): \"/run/http.sock\" is a Unix socket",
        ),
        ("[http]\n".to_owned(), "http.listen"),
    ] {
        let faults = faults(&text);
        assert!(faults.starts_with(expected), "{text}\n{faults}");
        assert_eq!(faults.lines().count(), 1, "{text}\n{faults}");
    }
}

#[test]
fn targets_of_notifications_are_read_and_their_secrets_hidden() {
    let text = "[[notify]]\non = ['expiring', 'disk_high']\nwebhook = 'https://chat.internal/hook/t0k3n?x=t0k3n'\n\
                secret = '0123456789abcdef'\n\
                [[notify]]\non = ['job_done']\ncommand = ['/bin/tell', '-x']\ntimeout = '1m'\n\
                [[notify]]\non = ['job_done']\nwebhook = 'http://10.0.0.1/'\nsecret_file = '/etc/key'\n\
                [[notify]]\non = ['job_done']\nwebhook = 'http://[::1]:8080/x'\n";
    let loaded = parse(text).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "notify[3].webhook (line 11): is not encrypted: names of instances and errors can be read on the network; use https://"
        ]
    );
    let targets = loaded.config.notify.iter();
    let targets: Vec<_> = targets.map(|one| one.target.to_string()).collect();
    assert_eq!(
        targets,
        [
            "https://chat.internal/***",
            "/bin/tell",
            "http://10.0.0.1/",
            "http://[::1]:8080/***"
        ]
    );
    let shown = format!("{:?} {:?}", loaded.settings, loaded.config);
    assert!(
        !shown.contains("t0k3n") && !shown.contains("0123456789abcdef"),
        "{shown}"
    );
}

#[test]
fn faults_of_notifications_say_what_was_meant() {
    let text = "[[notify]]\non = ['expirng', 'party']\nwebhook = 'chat.internal/hook'\n\
                [[notify]]\nwebhook = 'https://robot:pw@chat/'\ncommand = ['tell']\n\
                [[notify]]\non = []\nwebhok = 'https://chat/'\ntimeout = '1h'\n\
                [[notify]]\non = ['job_done']\ncommand = ['/bin/tell']\nsecret = 'short'\n";
    assert_eq!(
        faults(text),
        "notify[1].on (line 2): \"expirng\" is no event; did you mean \"expiring\"?; \"party\" is no event; events: \
         \"expiring\", \"pin_ending\", \"refresh_failed\", \"refresh_late\", \"disk_high\", \"job_done\", \"job_failed\", \
         \"instance_failed\"\n\
         notify[1].webhook (line 3): is not a URL such as \"https://chat.internal/hook\": it begins with https:// or http://\n\
         notify[2].on (line 5): is missing\n\
         notify[2].webhook (line 5): has a login, which is not sent; sign the messages by secret_file\n\
         notify[2] (line 5): has both webhook and command: write two [[notify]]\n\
         notify[2].command (line 6): \"tell\" is not an absolute path\n\
         notify[3].on (line 8): is empty, so nothing would be told\n\
         notify[3].timeout (line 10): must be between 1ms and 5m\n\
         notify[3] (line 8): needs webhook = \"https://…\" or command = [\"/a/program\"]\n\
         notify[3].webhok (line 9): is not a known key; did you mean webhook?\n\
         notify[4].secret (line 14): the key has 5 bytes, and at least 16 are needed; \"openssl rand -hex 32\" makes one"
    );
    let single = "[notify]\non = ['job_done']\n";
    assert_eq!(
        faults(single),
        "notify (line 1): is a section, but must be a list of sections: write [[notify]]"
    );
}
