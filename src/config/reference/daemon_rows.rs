//! The settings of the daemon.

use super::{Row, SectionKind, SectionRows, setting};

/// The sections of the daemon, in the order of the documentation.
pub(super) const SECTIONS: &[SectionRows] = &[
    SectionRows {
        path: "",
        example_name: "",
        kind: SectionKind::Plain,
        about: "Above the first section.",
        rows: TOP,
    },
    SectionRows {
        path: "runtime",
        example_name: "",
        kind: SectionKind::Plain,
        about: "What runs Postgres.",
        rows: RUNTIME,
    },
    SectionRows {
        path: "clone",
        example_name: "",
        kind: SectionKind::Plain,
        about: "How snapshots are cloned.",
        rows: &[setting(
            "method",
            "`auto`, `btrfs-snapshot`, `reflink` or `copy`",
            "`auto` is the better one of the next two that works, and never a full copy.",
        )],
    },
    SectionRows {
        path: "dedup",
        example_name: "",
        kind: SectionKind::Plain,
        about: "How older snapshots come to share their blocks with the newest one.",
        rows: &[
            setting("enabled", "boolean", "Whether it begins by itself, after each import."),
            setting(
                "bandwidth",
                "size",
                "It reads at most so many bytes a second from the disk; at least 1MiB.",
            ),
        ],
    },
    SectionRows {
        path: "limits",
        example_name: "",
        kind: SectionKind::Plain,
        about: "Times, counts, and how full the disk may be.",
        rows: LIMITS,
    },
    SectionRows {
        path: "postgres.settings",
        example_name: "",
        kind: SectionKind::Plain,
        about: "Settings of every Postgres, over multidb's own.",
        rows: &[setting(
            "NAME",
            "text, number or boolean",
            "A setting of Postgres by its name, but for those that multidb itself needs, such as `port`.",
        )
        .else_("\"64MB\"", "Postgres' own, or multidb's")],
    },
    SectionRows {
        path: "auth",
        example_name: "",
        kind: SectionKind::Plain,
        about: "How clients log in.",
        rows: AUTH,
    },
    SectionRows {
        path: "auth.users.NAME",
        example_name: "alice",
        kind: SectionKind::OnDemand,
        about: "A user. `multidb user add` writes the same keys into the file of users.",
        rows: USER,
    },
    SectionRows {
        path: "tls",
        example_name: "",
        kind: SectionKind::OnDemand,
        about: "TLS for clients. Without the section it is not offered.",
        rows: TLS,
    },
    SectionRows {
        path: "http",
        example_name: "",
        kind: SectionKind::OnDemand,
        about: "The API over the network. Without the section nothing listens for it.",
        rows: HTTP,
    },
    SectionRows {
        path: "http.hooks.NAME",
        example_name: "mathspace",
        kind: SectionKind::OnDemand,
        about: "The webhook of a project's repository: a pull request that is closed removes its instances.",
        rows: HOOK,
    },
    SectionRows {
        path: "notify",
        example_name: "",
        kind: SectionKind::Item,
        about: "Who is told of which events.",
        rows: NOTIFY,
    },
];

const TOP: &[Row] = &[
    setting(
        "listen",
        "list of addresses",
        "Where clients connect: IP addresses with a port, and absolute paths of Unix sockets.",
    ),
    setting(
        "root",
        "path",
        "The directory of snapshots, instances, sockets and records, on one file system that can clone files.",
    ),
    setting("admin_socket", "path", "The Unix socket of the commands.").else_(
        "\"/run/multidb/admin.sock\"",
        "`/run/multidb/admin.sock`; for an ordinary user `$XDG_RUNTIME_DIR/multidb/admin.sock`, or `state/admin.sock` below the root",
    ),
];

const RUNTIME: &[Row] = &[
    setting(
        "kind",
        "`docker` or `process`",
        "A container for each instance, or a local server process.",
    )
    .else_(
        "\"process\"",
        "`docker` where an engine answers when the root is made, else `process`; and for ever",
    ),
    setting(
        "image",
        "text",
        "The image of a container; `{major}` stands for the major version of Postgres.",
    ),
    setting(
        "network",
        "`none`, `private` or a network's name",
        "The network of a container: a loopback that all share, one of its own, or a network of the Docker engine.",
    ),
    setting(
        "memory",
        "size",
        "The memory of one container; at least 6MiB.",
    ),
    setting("cpus", "number", "The processors of one container."),
    setting(
        "user",
        "text",
        "The user that Postgres runs as where the daemon is root.",
    ),
];

const LIMITS: &[Row] = &[
    setting(
        "session_idle_timeout",
        "time",
        "How long a session may wait for its client outside a transaction.",
    ),
    setting(
        "transaction_idle_timeout",
        "time",
        "How long a session may wait for its client inside a transaction.",
    ),
    setting(
        "listen_idle_timeout",
        "time",
        "How long a session that listens for notifications may be idle.",
    )
    .else_(
        "\"12h\"",
        "while other sessions of the instance do more than listen",
    ),
    setting(
        "copy_idle_timeout",
        "time",
        "How long a COPY may wait for its client.",
    )
    .else_("\"1h\"", "no limit"),
    setting(
        "active_timeout",
        "time",
        "How long a query may run without a byte.",
    )
    .else_("\"12h\"", "no limit"),
    setting(
        "replication_timeout",
        "time",
        "How long a session that replicates may be without a byte.",
    )
    .else_("\"1h\"", "no limit"),
    setting(
        "instance_idle_timeout",
        "time",
        "An instance without sessions stops after it.",
    ),
    setting(
        "retention",
        "time",
        "An instance that nobody used for so long, while the daemon ran, is marked as expired.",
    ),
    setting(
        "expiry_grace",
        "time",
        "An instance that is marked as expired is deleted after it, unless it is used.",
    ),
    setting(
        "start_timeout",
        "time",
        "How long a client waits for its instance's start, or for a free place.",
    ),
    setting("login_timeout", "time", "How long a login may take."),
    setting(
        "fetch_timeout",
        "time",
        "How long a fetch from a project's repository may take.",
    ),
    setting(
        "shutdown_grace",
        "time",
        "How long queries may go on when the daemon stops; zero ends them at once.",
    ),
    setting(
        "max_running",
        "count",
        "So many instances run at most; the least recently used one without sessions makes room.",
    ),
    setting(
        "memory_high_water",
        "share or `none`",
        "Above this share of the machine's memory no instance starts before another one stops.",
    ),
    setting(
        "max_connections",
        "count",
        "So many clients have a session at most.",
    ),
    setting(
        "max_unauthenticated",
        "count",
        "So many clients log in at the same time at most; by default as many as `max_connections`.",
    ),
    setting(
        "disk_reserve",
        "size",
        "A clone or an import must leave so much of the disk free.",
    ),
    setting(
        "disk_high_water",
        "share or `none`",
        "Above this share of the disk multidb makes room.",
    ),
    setting(
        "max_instance_bytes",
        "size or `none`",
        "The most bytes that an instance may have of its own; at least 64MiB.",
    ),
];

const AUTH: &[Row] = &[
    setting(
        "method",
        "`trust` or `scram-sha-256`",
        "Whether clients give a password. `trust` is refused where another machine can connect.",
    )
    .else_(
        "\"scram-sha-256\"",
        "`trust` where all of `listen` is loopback or Unix sockets, else `scram-sha-256`",
    ),
    setting(
        "default_user",
        "text",
        "The user of a client that names none.",
    ),
    setting(
        "users_file",
        "path",
        "The file of users, which `multidb user` writes.",
    ),
];

const USER: &[Row] = &[
    setting(
        "verifier",
        "text",
        "What Postgres stores of a password (`SCRAM-SHA-256$4096:…`); `multidb user add` makes one.",
    )
    .required(VERIFIER),
    setting("roles", "list of texts", "The roles of Postgres that the user may log in as.")
        .required("[\"postgres\"]"),
    setting("projects", "list of texts", "The projects that the user may use.")
        .else_("[\"mathspace\"]", "all"),
    setting("admin", "boolean", "Whether the user sees and changes the instances of all."),
    setting("max_instances", "count", "So many instances of the user exist at most.")
        .else_("20", "no limit"),
    setting(
        "creations_per_minute",
        "count",
        "So many instances the user makes in a minute at most.",
    )
    .else_("10", "no limit"),
    setting(
        "tokens",
        "table",
        "The tokens of the user by their ids, as `multidb user token add` writes them.",
    )
    .else_(TOKENS, "none"),
];

/// Of a secret that nobody knows.
const TOKENS: &str = "{ 3f9c2a10be7d = { \
    sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\", \
    scope = \"use\", created_at = \"2026-05-01T12:00:00Z\" } }";

/// Of a password that nobody knows.
const VERIFIER: &str = "\"SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"";

const TLS: &[Row] = &[
    setting(
        "cert",
        "path",
        "The certificate, followed by the intermediate ones, in PEM.",
    )
    .required("\"/etc/multidb/cert.pem\""),
    setting("key", "path", "Its private key, in PEM.").required("\"/etc/multidb/key.pem\""),
    setting(
        "client_ca",
        "path",
        "The authorities of clients' certificates, by which clients may log in without a password.",
    )
    .else_("\"/etc/multidb/clients.pem\"", "no certificate logs in"),
    setting(
        "required",
        "boolean",
        "Whether clients over TCP must use TLS.",
    ),
];

const NOTIFY: &[Row] = &[
    setting(
        "on",
        "list of texts",
        "The events: `expiring`, `pin_ending`, `refresh_failed`, `refresh_late`, `disk_high`, `job_done`, `job_failed`, `instance_failed`.",
    )
    .required("[\"refresh_failed\", \"disk_high\", \"expiring\"]"),
    setting("webhook", "URL", "Where they are posted to.")
        .else_("\"https://chat.internal/hook\"", "`command`"),
    setting(
        "command",
        "list of texts",
        "In place of a webhook: a program, by its absolute path, and its arguments.",
    )
    .else_("[\"/usr/local/bin/page\", \"--quiet\"]", "`webhook`")
    .alternative(),
    setting(
        "secret_file",
        "path",
        "The file of the key that signs what is posted.",
    )
    .else_("\"/etc/multidb/notify.key\"", "`secret`, or no signature"),
    setting("secret", "text", "In place of its file: the key itself.")
        .else_("\"0123456789abcdef\"", "`secret_file`, or no signature")
        .alternative(),
    setting(
        "timeout",
        "time",
        "How long an attempt may take, at most 5m.",
    )
    .else_("\"10s\"", "`\"10s\"`"),
];

const HTTP: &[Row] = &[
    setting(
        "listen",
        "list of addresses",
        "IP addresses with a port. Others than loopback's need a certificate, and passwords.",
    )
    .required("[\"127.0.0.1:6480\"]"),
    setting(
        "cert",
        "path",
        "The certificate, followed by the intermediate ones, in PEM.",
    )
    .else_("\"/etc/multidb/cert.pem\"", "the one of `[tls]`"),
    setting("key", "path", "Its private key, in PEM.")
        .else_("\"/etc/multidb/key.pem\"", "the one of `[tls]`"),
];

const HOOK: &[Row] = &[
    setting("repository", "text", "The repository, as GitHub or GitLab name it.")
        .required("\"acme/mathspace\""),
    setting(
        "secret_file",
        "path",
        "The file with the secret that they have, too, of at least 16 characters. It is read for each delivery.",
    )
    .required("\"/etc/multidb/mathspace.hook\""),
    setting("user", "text", "The user whose instances are removed.").required("\"ci\""),
    setting(
        "instances",
        "pattern",
        "The names of a pull request's instances: `{number}` stands for its number, and `*` at the end for anything that is not part of it.",
    ),
];
