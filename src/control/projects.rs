//! The projects of the configuration.

use super::access::Resource;
use super::model::ProjectView;
use super::{Caller, Control};

impl Control {
    /// Lists the projects that the caller may use, in the order of their names.
    pub fn list_projects(&self, caller: &Caller) -> Vec<ProjectView> {
        let projects = self.deps.config.projects.iter();
        let visible = projects.filter(|(name, _)| caller.may_view(Resource::Project(name)));
        let view =
            |(name, project): (&multidb_store::ProjectName, &crate::config::Project)| ProjectView {
                name: name.to_string(),
                database: project.database.clone(),
                role: project.role.clone(),
                refreshes: project.refresh.is_some(),
            };
        visible.map(view).collect()
    }
}
