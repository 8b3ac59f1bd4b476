//! Command lines, parsed.

use clap::Parser;

use super::super::Cli;

fn parse(line: &str) -> Result<Cli, String> {
    let words = std::iter::once("multidb").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn documented_commands_parse() {
    for line in [
        "serve --config /etc/multidb/multidb.toml --log-format json",
        "config check",
        "config show --json",
        "doctor",
        "status --json --socket /run/a.sock",
        "snapshot import monday --project p --data-dir /d --taken-at 2026-03-01",
        "snapshot import monday --project p --dump f --postgres-major 15",
        "snapshot import monday --project p --from-url postgres://h/d",
        "snapshot import monday --project p --dump f --detach --json",
        "snapshot ls",
        "snapshot show monday",
        "snapshot rm monday --force",
        "snapshot explain --gitref main --project p",
        "instance ls --json",
        "instance ls --project p --state running --created-by staff --limit 5",
        "instance show a",
        "instance start a",
        "instance start a --without-alter-system",
        "instance stop a",
        "instance reset a",
        "instance rm a",
        "instance stop a --yes",
        "instance reset -y a",
        "instance rm a -y --json",
        "instance recover a",
        "instance recover a --uid 00000000002a --as b --json",
        "instance pin a --for 2d",
        "instance pin a",
        "instance unpin a",
        "instance logs a --lines 5",
        "--json connection ls",
        "connection kill 17",
        "job ls --json",
        "job show 7",
        "job wait 7",
        "job cancel 7",
        "listing django --project-dir . --python .venv/bin/python",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_usage_is_rejected() {
    for line in [
        "",
        "instance",
        "instance show ../etc",
        "instance ls --limit few",
        "instance ls --state asleep",
        "instance ls --project ../etc",
        "instance show",
        "instance recover a --uid 7",
        "instance recover a --as ../etc",
        "instance pin a --for 0s",
        "instance pin a --for soon",
        "snapshot import monday --project p",
        "snapshot import monday --project p --dump f --data-dir d",
        "snapshot import monday --dump f",
        "snapshot import a/b --project p --dump f",
        "snapshot import monday --project p --dump f --taken-at yesterday",
        "snapshot import monday --project p --dump f --taken-at 2026-03-01T10:00:00",
        "snapshot import monday --project p --dump f --postgres-major 15.3",
        "snapshot explain",
        "connection kill all",
        "job cancel all",
        "job wait",
        "serve --log-format xml",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn date_means_its_begin() {
    let cli = parse("snapshot import a --project p --dump f --taken-at 2026-03-01").unwrap();
    let text = format!("{cli:?}");
    assert!(text.contains("2026-03-01T00:00:00Z"), "{text}");
}
