//! Converts the settings of the configuration to the types of the parts, so that config does not import
//! them.

use std::collections::HashMap;

use multidb_actors::snapshot_index::decision::Ignored;
use multidb_actors::supervisor::ProjectSettings;
use multidb_store::ProjectName;

use crate::clone::Method;
use crate::config::{self, CloneMethod, Config, TlsConfig};
use crate::git::GitProject;
use crate::runtime::docker::Network;
use crate::tls::TlsFiles;

/// The method of clones.
pub fn clone_method(method: CloneMethod) -> Method {
    match method {
        CloneMethod::Auto => Method::Auto,
        CloneMethod::BtrfsSnapshot => Method::BtrfsSnapshot,
        CloneMethod::Reflink => Method::Reflink,
        CloneMethod::Copy => Method::Copy,
    }
}

/// The network of containers.
pub(super) fn network(network: &config::Network) -> Network {
    match network {
        config::Network::None => Network::None,
        config::Network::Private => Network::Private,
        config::Network::Named(name) => Network::Named(name.clone()),
    }
}

/// The files of TLS.
pub fn tls_files(tls: &TlsConfig) -> TlsFiles {
    TlsFiles {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
    }
}

/// The files of a certificate for servers that ask their clients for none.
pub fn certificate_files(certificate: &config::Certificate) -> TlsFiles {
    TlsFiles {
        cert: certificate.cert.clone(),
        key: certificate.key.clone(),
        client_ca: None,
    }
}

/// The repository of a project.
pub fn git_project(project: &config::Project) -> GitProject {
    GitProject {
        git: project.git.clone(),
        listing: project.listing.clone(),
        tool: project.migrations.preset(),
    }
}

/// The projects' repositories.
pub(super) fn git_projects(config: &Config) -> HashMap<ProjectName, GitProject> {
    let project =
        |(name, project): (&ProjectName, &config::Project)| (name.clone(), git_project(project));
    config.projects.iter().map(project).collect()
}

/// The applied migrations that each project does not compare.
///
/// # Errors
///
/// A glob is malformed.
pub(super) fn ignored(config: &Config) -> anyhow::Result<HashMap<ProjectName, Ignored>> {
    let ignored = |(name, project): (&ProjectName, &config::Project)| {
        Ok((name.clone(), Ignored::new(&project.ignore)?))
    };
    config.projects.iter().map(ignored).collect()
}

/// The projects' settings for sessions.
pub(super) fn project_settings(config: &Config) -> HashMap<ProjectName, ProjectSettings> {
    let settings = |(name, project): (&ProjectName, &config::Project)| {
        let database = project.database.clone();
        let role = project.role.clone();
        let idle = project.idle;
        let settings = ProjectSettings {
            database,
            role,
            idle,
        };
        (name.clone(), settings)
    };
    config.projects.iter().map(settings).collect()
}
