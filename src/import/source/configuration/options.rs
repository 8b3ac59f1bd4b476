//! The options of a server's command line, as Postgres wrote them at its last start (`CreateOptsFile`).

use std::path::PathBuf;

use crate::runtime::conf_file;

/// The options of a server's command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) config_file: Option<PathBuf>,
    /// The settings, as they follow each other.
    pub(super) settings: Vec<(String, String)>,
}

/// The short options that have a value (`PostmasterMain`).
const WITH_VALUE: &str = "BCDNSWcdfhkprt-";

impl Options {
    /// Parses the `postmaster.opts` of a postmaster: the program, and each argument in quotes. Short options are as
    /// getopt has them: several in one argument, and a value behind its option or in the next argument.
    pub(super) fn parse(text: &str) -> Self {
        let mut options = Self::default();
        let line = text.lines().next().unwrap_or_default();
        let Some((_, arguments)) = line.split_once(" \"") else {
            return options;
        };
        let arguments = arguments.strip_suffix('"').unwrap_or(arguments);
        let mut arguments = arguments.split("\" \"");
        while let Some(argument) = arguments.next() {
            let Some(short) = argument.strip_prefix('-') else {
                continue;
            };
            let mut rest = short.chars();
            while let Some(option) = rest.next() {
                if !WITH_VALUE.contains(option) {
                    options.flag(option);
                    continue;
                }
                let value = match rest.as_str() {
                    "" => arguments.next().unwrap_or_default(),
                    value => value,
                };
                options.value(option, value);
                break;
            }
        }
        options
    }

    /// An option without a value.
    fn flag(&mut self, option: char) {
        let (name, value) = match option {
            'e' => ("datestyle", "euro"),
            'F' => ("fsync", "off"),
            'i' => ("listen_addresses", "*"),
            'l' => ("ssl", "on"),
            'O' => ("allow_system_table_mods", "on"),
            'P' => ("ignore_system_indexes", "on"),
            's' => ("log_statement_stats", "on"),
            // Of debugging, or without effect.
            _ => return,
        };
        self.set(name, value);
    }

    fn value(&mut self, option: char, value: &str) {
        let name = match option {
            'B' => "shared_buffers",
            'D' => "data_directory",
            'N' => "max_connections",
            'S' => "work_mem",
            'W' => "post_auth_delay",
            'h' => "listen_addresses",
            'k' => "unix_socket_directories",
            'p' => "port",
            'f' => return self.forbid_plan(value),
            'c' | '-' => {
                if let Some((name, value)) = value.split_once('=') {
                    self.set(&name.to_ascii_lowercase().replace('-', "_"), value);
                }
                return;
            }
            // Of debugging.
            _ => return,
        };
        self.set(name, value);
    }

    /// `-fh` and its kin (`set_plan_disabling_options`).
    fn forbid_plan(&mut self, plan: &str) {
        let name = match plan {
            "s" => "enable_seqscan",
            "i" => "enable_indexscan",
            "o" => "enable_indexonlyscan",
            "b" => "enable_bitmapscan",
            "t" => "enable_tidscan",
            "n" => "enable_nestloop",
            "m" => "enable_mergejoin",
            "h" => "enable_hashjoin",
            _ => return,
        };
        self.set(name, "off");
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "config_file" => self.config_file = Some(PathBuf::from(value)),
            "data_directory" => self.data_dir = Some(PathBuf::from(value)),
            _ if conf_file::is_name(name) => {
                self.settings.push((name.to_owned(), value.to_owned()))
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Vec<String> {
        let text = format!("/usr/bin/postgres \"{}\"\n", arguments.join("\" \""));
        let options = Options::parse(&text);
        let data_dir = options.data_dir.map(|path| format!("D={}", path.display()));
        let settings = options.settings.into_iter();
        let settings = settings.map(|(name, value)| format!("{name}={value}"));
        data_dir.into_iter().chain(settings).collect()
    }

    #[test]
    fn short_options_are_the_settings_that_they_stand_for() {
        for (arguments, expected) in [
            (&["-D", "/data"][..], &["D=/data"][..]),
            (
                &["-D/data", "-N", "300"],
                &["D=/data", "max_connections=300"],
            ),
            (
                &["-N300", "-B64", "-S", "8192"],
                &["max_connections=300", "shared_buffers=64", "work_mem=8192"],
            ),
            (
                &["-p", "5433", "-k", "/run", "-h", ""],
                &[
                    "port=5433",
                    "unix_socket_directories=/run",
                    "listen_addresses=",
                ],
            ),
            (
                &["-Fip5433", "-l"],
                &["fsync=off", "listen_addresses=*", "port=5433", "ssl=on"],
            ),
            (
                &["-eO", "-fh", "-f", "s"],
                &[
                    "datestyle=euro",
                    "allow_system_table_mods=on",
                    "enable_hashjoin=off",
                    "enable_seqscan=off",
                ],
            ),
            (
                &["-c", "Time-Zone=UTC", "-cx=a b", "--y-z=1=2"],
                &["time_zone=UTC", "x=a b", "y_z=1=2"],
            ),
            // A value is no option, regardless of its first bytes.
            (&["-d", "-N", "-r", "-c", "-N", "7"], &["max_connections=7"]),
            (
                &["-c", "config_file=/etc/x.conf", "-N"],
                &["max_connections="],
            ),
            (&["x", "-", "-c", "nothing", "-f?"], &[]),
        ] {
            assert_eq!(settings(arguments), expected, "{arguments:?}");
        }
    }
}
