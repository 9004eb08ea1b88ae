import pg from 'pg'
import { DEPENDENT_OBJECTS, LATE, POWERFUL, PREPARED, SLIPPED_IN } from './connection.js'

const { escapeIdentifier: name, escapeLiteral: text } = pg

/** Sessions that end take some milliseconds; looked at this often, seconds. */
const LOOK_AGAIN_SECONDS = 0.002
/** How long an attempt to lock a login out waits, before those who are in its way are ended. */
const IN_THE_WAY_MS = 10
/** Few enough for the server's table of locks, which all share. */
const GIVEN_AWAY_AT_ONCE = 50
/** Membership in itself is a role's own to give up to PostgreSQL 14. */
const OWN_ADMIN = `current_setting('server_version_num')::int < 150000`

export interface Login {
  readonly role: string
  readonly verifier: string
  readonly groups: readonly string[]
  readonly connectionLimit: number
  /** Group roles that may be more than groups, because the configuration says so. */
  readonly allowed: readonly string[]
  /** ms; ledger's clock. */
  readonly expiresAt: number
  readonly until: number
  readonly comment: string
}

/**
 * How each transaction begins. The search path keeps out functions that a tenant put where ours would be looked up; the timeout is the
 * server's own bound. Setting a lower-privileged role first is optional.
 */
export function begin(leftMs: number, adminRole?: string): string {
  const role = adminRole === undefined ? '' : `SET LOCAL ROLE ${name(adminRole)};`
  return `SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = ${Math.ceil(leftMs)}; ${role}`
}

/**
 * One DO block, so one statement with one timeout. The look at the clock comes last. A revoke that finds no such role tries to make it
 * itself, and so waits for a mint that has made its own and has not ended; one that makes it later looks at the clock later.
 */
export function createLogin(login: Login): string {
  return block(`
    IF EXISTS (${powerfulGroups(login.groups, login.allowed)}) THEN RAISE EXCEPTION 'powerful' USING ERRCODE = ${text(POWERFUL)}; END IF;
    CREATE ROLE ${name(login.role)} LOGIN PASSWORD ${text(login.verifier)} VALID UNTIL ${timestamp(login.expiresAt)}
      CONNECTION LIMIT ${login.connectionLimit} IN ROLE ${login.groups.map(name).join(', ')};
    COMMENT ON ROLE ${name(login.role)} IS ${text(login.comment)};
    IF clock_timestamp() >= to_timestamp(${seconds(login.until)}) THEN RAISE EXCEPTION 'late' USING ERRCODE = ${text(LATE)}; END IF;`)
}

/**
 * Which of the groups, or of the roles above them, are more than groups: a member could SET ROLE to them. Login roles and the broker's own
 * role are among them; predefined roles (`pg_*`) reach beyond the data of one application.
 */
export function powerfulGroups(groups: readonly string[], allowed: readonly string[]): string {
  return `
    WITH RECURSIVE up (id) AS (
      SELECT oid FROM pg_roles WHERE rolname = ANY (${list(groups)})
      UNION SELECT m.roleid FROM pg_auth_members m JOIN up ON m.member = up.id)
    SELECT r.rolname FROM up JOIN pg_roles r ON r.oid = up.id
    WHERE (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls OR r.rolcanlogin
      OR starts_with(r.rolname, 'pg_') OR r.rolname IN (CURRENT_USER, SESSION_USER))
      AND r.rolname <> ALL (${list(allowed)})`
}

/**
 * No further login, and the broker gets what it needs to end the role's sessions. Answers whether there is such a role.
 *
 * Whoever can log in can take any advisory lock, and holds its role's row by changing its own password. So nothing that an agent can hold is
 * waited for: the sessions are ended that are in the way. What no agent can hold is the name of a role that is not there, which keeps this in
 * order with a mint.
 */
export function disableLogin(role: string): string {
  return `${block(
    `
    PERFORM set_config('lock_timeout', '${IN_THE_WAY_MS}ms', true);
    LOOP
      again := false;
      SELECT oid INTO id FROM pg_roles WHERE rolname = ${text(role)};
      IF id IS NULL THEN
        BEGIN
          CREATE ROLE ${name(role)} NOLOGIN;
          RAISE EXCEPTION 'nobody' USING ERRCODE = 'MFNON';
        EXCEPTION
          WHEN SQLSTATE 'MFNON' THEN RETURN;
          WHEN lock_not_available OR duplicate_object OR unique_violation THEN CONTINUE;
        END;
      END IF;
      BEGIN
        ${joinLogin(role)}
      EXCEPTION WHEN lock_not_available OR internal_error OR unique_violation THEN again := true;
      END;
      shut := false;
      BEGIN
        IF EXISTS (${roleNamed(role)} AND rolcanlogin) THEN ALTER ROLE ${name(role)} NOLOGIN; END IF;
        shut := true;
      EXCEPTION WHEN lock_not_available OR internal_error THEN again := true;
      END;
      EXIT WHEN NOT again;
      PERFORM pg_stat_clear_snapshot();
      IF pg_has_role(CURRENT_USER, id, 'USAGE') OR pg_has_role(CURRENT_USER, 'pg_signal_backend', 'USAGE') THEN ${endSessions} END IF;
      -- What is done is committed; the rest is for whoever drops it.
      IF shut THEN EXIT WHEN EXISTS (${preparedOf(role)}); ELSE ${refusePrepared(role)} END IF;
    END LOOP;
    PERFORM set_config('mayfly.found', 'yes', true);`,
    'id oid; again boolean; shut boolean;',
  )}; SELECT current_setting('mayfly.found', true) = 'yes' AS found`
}

function joinLogin(role: string): string {
  return `IF NOT pg_has_role(CURRENT_USER, ${text(role)}, 'USAGE') THEN GRANT ${name(role)} TO CURRENT_USER; END IF;`
}

const endSessions = 'PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = id;'

/**
 * Ends the role's sessions until none is left, then drops it; the last look is for one whose login was under way when it was disabled. One
 * that has something is not tried, for the lock on it may be waited for; nor is one that lent itself to others.
 */
export function dropLogin(role: string): string {
  return block(
    `
    SELECT oid INTO id FROM pg_roles WHERE rolname = ${text(role)};
    IF id IS NULL THEN RETURN; END IF;
    LOOP
      ${endSessions}
      EXIT WHEN NOT FOUND;
      PERFORM pg_sleep(${LOOK_AGAIN_SECONDS});
      PERFORM pg_stat_clear_snapshot();
    END LOOP;
    ${refusePrepared(role)}
    IF EXISTS (SELECT 1 FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = id AND deptype = 'o')
      OR ${OWN_ADMIN} AND EXISTS (${borrowersOf(role)})
      THEN RAISE EXCEPTION 'has something' USING ERRCODE = ${text(DEPENDENT_OBJECTS)}; END IF;
    DROP ROLE IF EXISTS ${name(role)};
    PERFORM pg_stat_clear_snapshot();
    IF EXISTS (SELECT 1 FROM pg_stat_activity WHERE usesysid = id) THEN RAISE EXCEPTION 'slipped in' USING ERRCODE = ${text(SLIPPED_IN)}; END IF;`,
    'id oid;',
  )
}

function borrowersOf(role: string): string {
  return `SELECT member::regrole AS other FROM pg_auth_members
    WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = ${text(role)}) AND member <> (SELECT oid FROM pg_roles WHERE rolname = CURRENT_USER)`
}

/**
 * Prepared transactions (https://www.postgresql.org/docs/current/sql-prepare-transaction.html) that the role left: its own, and those that it
 * prepared as one of its groups and that hold its row, or what depends on it.
 */
function preparedOf(role: string): string {
  return `WITH RECURSIVE self AS (SELECT oid AS self_id FROM pg_roles WHERE rolname = ${text(role)}),
      up (up_id) AS (SELECT self_id FROM self UNION SELECT m.roleid FROM pg_auth_members m JOIN up ON m.member = up.up_id)
    SELECT p.gid, p.owner, p.database FROM pg_prepared_xacts p
    WHERE p.owner = ${text(role)} OR p.owner IN (SELECT r.rolname FROM up JOIN pg_roles r ON r.oid = up.up_id) AND EXISTS (
      SELECT 1 FROM pg_locks t JOIN pg_locks l ON l.virtualtransaction = t.virtualtransaction AND l.pid IS NULL
      WHERE t.pid IS NULL AND t.transactionid = p.transaction
        AND (l.classid = 'pg_authid'::regclass AND l.objid = (SELECT self_id FROM self)
          OR l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock'))`
}
function refusePrepared(role: string): string {
  // The first look spares the second its planning where there are none at all.
  return `IF EXISTS (SELECT 1 FROM pg_prepared_xact()) THEN
      IF EXISTS (${preparedOf(role)}) THEN RAISE EXCEPTION 'prepared' USING ERRCODE = ${text(PREPARED)}; END IF;
    END IF;`
}
/** Only who prepared them can undo them, so the broker becomes a member first. */
export function findPrepared(role: string): string {
  return `${block(`IF EXISTS (${roleNamed(role)}) THEN ${joinLogin(role)} END IF;`)}; ${preparedOf(role)}`
}
/** To be sent alone: https://www.postgresql.org/docs/current/sql-rollback-prepared.html */
export function undoPrepared(gid: string): string {
  return `ROLLBACK PREPARED ${text(gid)}`
}

/**
 * What the role made works with the role's rights for others, too (views, SECURITY DEFINER functions), so where nobody inherits it the rights
 * go first. As far as that can be had without waiting: once it is dropped, they are gone in any case.
 */
export function weaken(role: string, heir: string | undefined): string {
  const take = (from: string, statement: string) => `
    FOR other IN ${from} LOOP
      BEGIN
        EXECUTE format(${text(statement)}, other);
      EXCEPTION WHEN lock_not_available OR internal_error OR insufficient_privilege OR dependent_objects_still_exist THEN NULL;
      END;
    END LOOP;`
  const groups = `SELECT roleid::regrole FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = ${text(role)})`
  return block(
    `
    PERFORM set_config('lock_timeout', '1s', true);
    ${heir === undefined ? take(groups, `REVOKE %s FROM ${name(role)}`) : ''}
    IF ${OWN_ADMIN} THEN ${take(borrowersOf(role), `REVOKE ${name(role)} FROM %s`)} END IF;`,
    'other regrole;',
  )
}

/** Databases in which the role owns or was granted something. */
export function databasesOf(role: string): string {
  return `SELECT DISTINCT d.datname AS name FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = ${text(role)})`
}

/**
 * Gives what the role made to one of its group roles, never to the broker: a SECURITY DEFINER function of the agent's would run with the
 * broker's rights. Then drops what is left: privileges that it was granted.
 */
export function giveAway(role: string, heir: string | undefined): string {
  return `${heir === undefined ? '' : `REASSIGN OWNED BY ${name(role)} TO ${name(heir)};`} DROP OWNED BY ${name(role)}`
}

/**
 * The same for some of what the role made in this database, newest first and one by one, each as far as that goes without waiting: all at once
 * may need more locks than the server has, and the heir may lack CREATE where the thing is; then it is for another of the role's groups. What
 * is left is `giveAway`'s. Answers where to go on, or nothing.
 */
export function giveAwaySome(role: string, heir: string | undefined, before: string): string {
  const self = `(SELECT oid FROM pg_roles WHERE rolname = ${text(role)})`
  const groups = `SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = ${self}`
  const heirs = heir === undefined ? `ARRAY['']` : `ARRAY[${text(heir)}] || ARRAY(${groups} AND r.rolname <> ${text(heir)} ORDER BY 1)`
  const one =
    heir === undefined ? `format('DROP %s %s', made.kind, made.identity)` : `format('ALTER %s %s OWNER TO %I', made.kind, made.identity, heir)`
  return `${block(
    `
    PERFORM set_config('lock_timeout', '1ms', true);
    heirs := ${heirs};
    FOR made IN
      SELECT s.objid, i.identity, CASE i.type WHEN 'statistics object' THEN 'statistics' WHEN 'composite type' THEN 'type' ELSE i.type END AS kind
      FROM pg_shdepend s, LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) i
      WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ${self} AND s.deptype = 'o'
        AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.objid < ${text(before)}::oid
      ORDER BY s.objid DESC LIMIT ${GIVEN_AWAY_AT_ONCE}
    LOOP
      PERFORM set_config('mayfly.before', made.objid::text, true);
      FOREACH heir IN ARRAY heirs LOOP
        BEGIN
          IF made.kind = 'large object' AND heir = '' THEN PERFORM lo_unlink(made.objid); ELSE EXECUTE ${one}; END IF;
          EXIT;
        EXCEPTION
          WHEN insufficient_privilege THEN NULL;
          WHEN OTHERS THEN EXIT;
        END;
      END LOOP;
    END LOOP;`,
    'made record; heirs text[]; heir text;',
  )}; SELECT current_setting('mayfly.before', true) AS before`
}

export function extendLogin(role: string, expiresAt: number): string {
  return block(`ALTER ROLE ${name(role)} VALID UNTIL ${timestamp(expiresAt)};`)
}

export function lookFor(role: string): string {
  return `SELECT EXISTS (${roleNamed(role)}) OR EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = ${text(role)}) AS alive`
}

export function page(prefix: string, after: string, size: number): string {
  return `SELECT rolname AS role, shobj_description(oid, 'pg_authid') AS comment, extract(epoch FROM rolvaliduntil) * 1000 AS expires
    FROM pg_roles WHERE starts_with(rolname, ${text(prefix)}) AND rolname > ${text(after)} ORDER BY rolname LIMIT ${size}`
}

/** What the broker itself may do, and its clock against the server's. */
export const SELF = `SELECT current_setting('server_version_num')::int AS version, r.rolsuper AS super, r.rolcreaterole AS creates,
  r.rolinherit AS inherits, pg_has_role(CURRENT_USER, 'pg_signal_backend', 'USAGE') AS signals, extract(epoch FROM clock_timestamp()) * 1000 AS now FROM pg_roles r WHERE r.rolname = CURRENT_USER`

/** Of these group roles: which don't exist, and which the broker may not grant. */
export function groupsUnfit(groups: readonly string[]): string {
  return `SELECT g AS group, r.oid IS NULL AS missing FROM unnest(${list(groups)}) g LEFT JOIN pg_roles r ON r.rolname = g
    WHERE r.oid IS NULL OR NOT pg_has_role(CURRENT_USER, r.oid, 'MEMBER WITH ADMIN OPTION')`
}

function roleNamed(role: string): string {
  return `SELECT 1 FROM pg_roles WHERE rolname = ${text(role)}`
}
function block(body: string, declare = ''): string {
  return `DO LANGUAGE plpgsql ${text(`${declare === '' ? '' : `DECLARE ${declare} `}BEGIN ${body} END`)}`
}
function list(names: readonly string[]): string {
  return `ARRAY[${names.map(text).join(', ')}]::text[]`
}
function seconds(ms: number): string {
  return (ms / 1000).toFixed(3)
}
function timestamp(ms: number): string {
  return text(new Date(ms).toISOString())
}
