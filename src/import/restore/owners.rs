//! The owner of the objects of a dump without owners: the project's role, so that it can use and migrate it.

use multidb_actors::wire::sqlstate;

use super::RestoreTarget;
use crate::import::error::ImportError;
use crate::import::server::{SUPERUSER, server_error};
use crate::sql::{AnswerLimits, SearchPath, identifier};

/// As many objects as a large database has.
const LIMITS: AnswerLimits = AnswerLimits {
    time: None,
    rows: 1_000_000,
    bytes: 256 << 20,
};

/// The statements that give the superuser's objects to a role, before its name. Not the objects of extensions, objects
/// whose owner is always a superuser (event triggers, foreign data wrappers), and objects that follow another one:
/// sequences of columns, row types, indexes.
const QUERY: &str = "\
    WITH objects (class, id, owner) AS (
        SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, nspowner FROM pg_catalog.pg_namespace
        UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relowner FROM pg_catalog.pg_class AS c
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0)
        UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typowner FROM pg_catalog.pg_type AS t
            WHERE (t.typrelid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class AS c
                WHERE c.oid = t.typrelid AND c.relkind = 'c'))
            AND t.typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS e WHERE e.typarray = t.oid)
        UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, proowner FROM pg_catalog.pg_proc
        UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid, oprowner FROM pg_catalog.pg_operator
        UNION ALL SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass, oid, opcowner FROM pg_catalog.pg_opclass
        UNION ALL SELECT 'pg_catalog.pg_opfamily'::pg_catalog.regclass, oid, opfowner FROM pg_catalog.pg_opfamily
        UNION ALL SELECT 'pg_catalog.pg_collation'::pg_catalog.regclass, oid, collowner FROM pg_catalog.pg_collation
        UNION ALL SELECT 'pg_catalog.pg_conversion'::pg_catalog.regclass, oid, conowner FROM pg_catalog.pg_conversion
        UNION ALL SELECT 'pg_catalog.pg_ts_dict'::pg_catalog.regclass, oid, dictowner FROM pg_catalog.pg_ts_dict
        UNION ALL SELECT 'pg_catalog.pg_ts_config'::pg_catalog.regclass, oid, cfgowner FROM pg_catalog.pg_ts_config
        UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid, stxowner FROM pg_catalog.pg_statistic_ext
        UNION ALL SELECT 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid, srvowner FROM pg_catalog.pg_foreign_server
        UNION ALL SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass, oid, pubowner FROM pg_catalog.pg_publication
        UNION ALL SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass, oid, lomowner
            FROM pg_catalog.pg_largeobject_metadata)
    SELECT pg_catalog.format('ALTER %s %s OWNER TO ',
        CASE i.type WHEN 'statistics object' THEN 'STATISTICS' ELSE pg_catalog.upper(i.type) END, i.identity)
    FROM objects AS o, pg_catalog.pg_identify_object(o.class, o.id, 0) AS i
    WHERE o.owner = 10 AND o.id >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
        WHERE d.objid = o.id AND d.deptype = 'e' AND d.classid = o.class)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
        WHERE d.objid = o.id AND d.classid = o.class AND d.deptype = 'i')
    ORDER BY o.class, o.id";

/// Gives the superuser's objects in the project's database to the project's role.
pub(super) async fn give_to_role(target: &RestoreTarget<'_>) -> Result<(), ImportError> {
    let project = target.project;
    if project.role == SUPERUSER {
        return Ok(());
    }
    let connected = target
        .server
        .connect(SUPERUSER, &project.database, SearchPath::Catalog);
    let mut session = connected.await?;
    let failed = |error| server_error("give the dump's objects to the project's role", &error);
    let role = identifier(&project.role);
    let rows = session.query(QUERY, LIMITS).await.map_err(failed)?;
    for row in rows {
        let statement = format!("{}{role}", row.text(0).map_err(failed)?);
        match session.execute(&statement, None).await {
            // Its owner must be a superuser, such as that of a publication of all tables or of a schema.
            Err(error) if error.has_state(sqlstate::INSUFFICIENT_PRIVILEGE) => {}
            done => done.map_err(failed)?,
        }
    }
    session.close().await;
    Ok(())
}
