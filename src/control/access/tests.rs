use super::*;

/// The letter of a permission in the table below.
fn letter(permission: Permission) -> char {
    match permission {
        Permission::Granted => '+',
        Permission::Denied => '-',
        Permission::Hidden => '.',
    }
}

fn user(projects: Option<&[&str]>, admin: bool) -> Caller {
    let projects = projects.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    Caller::User(CallingUser {
        name: "alice".to_owned(),
        admin,
        read_only: false,
        projects,
    })
}

#[test]
fn each_caller_has_the_rights_of_the_table() {
    let (shop, wiki): (ProjectName, ProjectName) =
        ("shop".parse().unwrap(), "wiki".parse().unwrap());
    let (id, name) = ("monday".parse().unwrap(), "testdb".parse().unwrap());
    let snapshot = |project| Resource::Snapshot { id: &id, project };
    let job = |project| Resource::Job {
        id: JobId::FIRST,
        project,
    };
    let instance = |project, created_by| Resource::Instance {
        name: &name,
        project,
        created_by,
    };
    let connection = |user| Resource::Connection {
        id: ConnectionId(1),
        user,
    };
    let callers = [
        Caller::Administrator,
        user(Some(&[]), true),
        user(None, false),
        user(Some(&["shop"]), false),
        user(None, true).limited_to(Scope::Use),
        user(None, true).limited_to(Scope::Read),
    ];
    // A letter for each caller above: + granted, - denied, . hidden.
    for (resource, view, change) in [
        (Resource::Daemon, "++++++", "++----"),
        (Resource::Machine, "++----", "++----"),
        (Resource::Project(&shop), "++++++", "++----"),
        (Resource::Project(&wiki), "+++-++", "++----"),
        (snapshot(&shop), "++++++", "++----"),
        (snapshot(&wiki), "+++.++", "++-.--"),
        (job(&shop), "++++++", "++----"),
        (job(&wiki), "+++.++", "++-.--"),
        (instance(&shop, "alice"), "++++++", "+++++-"),
        (instance(&wiki, "alice"), "+++.++", "+++.+-"),
        (instance(&shop, "bob"), "++....", "++...."),
        (Resource::Instances, "++++++", "+++++-"),
        (Resource::Quarantine, "++----", "++----"),
        (connection("alice"), "++++++", "+++++-"),
        (connection("bob"), "++....", "++...."),
    ] {
        for (action, expected) in [(Action::View, view), (Action::Change, change)] {
            let permissions = callers.iter().map(|c| permission(c, action, resource));
            let letters: String = permissions.map(letter).collect();
            assert_eq!(letters, expected, "{action:?} {resource:?}");
        }
    }
}

#[test]
fn plain_user_sees_only_its_own_instances() {
    assert_eq!(user(None, false).sees_instances_of(), Some("alice"));
    assert_eq!(user(None, true).sees_instances_of(), None);
    let limited = user(None, true).limited_to(Scope::Use);
    assert_eq!(limited.sees_instances_of(), Some("alice"));
    assert_eq!(user(None, true).limited_to(Scope::Admin), user(None, true));
    assert_eq!(Caller::Administrator.sees_instances_of(), None);
}

#[test]
fn hidden_resource_is_reported_as_missing() {
    let (project, name) = ("shop".parse().unwrap(), "testdb".parse().unwrap());
    let of_bob = Resource::Instance {
        name: &name,
        project: &project,
        created_by: "bob",
    };
    let alice = user(None, false);
    let error = authorize(&alice, Action::Change, of_bob, "stop instances").unwrap_err();
    assert_eq!(error.code(), "no_such_instance");
    let denied = authorize(&alice, Action::Change, Resource::Daemon, "reload users");
    let denied = denied.unwrap_err();
    assert_eq!(denied.code(), "denied");
    assert_eq!(denied.to_string(), "user \"alice\" may not reload users");
    let reading = alice.limited_to(Scope::Read);
    let denied = authorize(
        &reading,
        Action::Change,
        Resource::Instances,
        "create instances",
    );
    let said = "user \"alice\" with a token to read may not create instances";
    assert_eq!(denied.unwrap_err().to_string(), said);
}
