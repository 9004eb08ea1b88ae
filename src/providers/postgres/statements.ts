import pg from 'pg'
import { LATE, POWERFUL, SLIPPED_IN } from './connection.js'

const { escapeIdentifier: name, escapeLiteral: text } = pg

/** Sessions that end take some milliseconds; looked at this often, seconds. */
const LOOK_AGAIN_SECONDS = 0.002

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
 * One DO block, so one statement with one timeout. The lock comes before the look at the clock: a revoke that holds it, or waits for it
 * after `until`, knows that nothing can come afterwards.
 */
export function createLogin(login: Login): string {
  return block(`
    ${lock(login.role)};
    IF clock_timestamp() >= to_timestamp(${seconds(login.until)}) THEN RAISE EXCEPTION 'late' USING ERRCODE = ${text(LATE)}; END IF;
    IF EXISTS (${powerfulGroups(login.groups, login.allowed)}) THEN RAISE EXCEPTION 'powerful' USING ERRCODE = ${text(POWERFUL)}; END IF;
    CREATE ROLE ${name(login.role)} LOGIN PASSWORD ${text(login.verifier)} VALID UNTIL ${timestamp(login.expiresAt)}
      CONNECTION LIMIT ${login.connectionLimit} IN ROLE ${login.groups.map(name).join(', ')};
    COMMENT ON ROLE ${name(login.role)} IS ${text(login.comment)};`)
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

/** No further login, and the broker gets what it needs to end the role's sessions. Answers whether there is such a role. */
export function disableLogin(role: string): string {
  return `SELECT ${lockCall(role)};
    SELECT EXISTS (${roleNamed(role)}) AS found;
    ${block(`
    IF EXISTS (${roleNamed(role)}) THEN
      ALTER ROLE ${name(role)} NOLOGIN;
      IF NOT pg_has_role(CURRENT_USER, ${text(role)}, 'USAGE') THEN GRANT ${name(role)} TO CURRENT_USER; END IF;
    END IF;`)}`
}

/** Ends the role's sessions until none is left, then drops it; the last look is for one whose login was under way when it was disabled. */
export function dropLogin(role: string): string {
  return block(
    `
    ${lock(role)};
    SELECT oid INTO id FROM pg_roles WHERE rolname = ${text(role)};
    IF id IS NULL THEN RETURN; END IF;
    LOOP
      PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = id;
      EXIT WHEN NOT FOUND;
      PERFORM pg_sleep(${LOOK_AGAIN_SECONDS});
      PERFORM pg_stat_clear_snapshot();
    END LOOP;
    DROP ROLE ${name(role)};
    PERFORM pg_stat_clear_snapshot();
    IF EXISTS (SELECT 1 FROM pg_stat_activity WHERE usesysid = id) THEN RAISE EXCEPTION 'slipped in' USING ERRCODE = ${text(SLIPPED_IN)}; END IF;`,
    'id oid;',
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

export function extendLogin(role: string, expiresAt: number): string {
  return block(`${lock(role)}; ALTER ROLE ${name(role)} VALID UNTIL ${timestamp(expiresAt)};`)
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
  r.rolinherit AS inherits, extract(epoch FROM clock_timestamp()) * 1000 AS now FROM pg_roles r WHERE r.rolname = CURRENT_USER`

/** Of these group roles: which don't exist, and which the broker may not grant. */
export function groupsUnfit(groups: readonly string[]): string {
  return `SELECT g AS group, r.oid IS NULL AS missing FROM unnest(${list(groups)}) g LEFT JOIN pg_roles r ON r.rolname = g
    WHERE r.oid IS NULL OR NOT pg_has_role(CURRENT_USER, r.oid, 'MEMBER WITH ADMIN OPTION')`
}

function roleNamed(role: string): string {
  return `SELECT 1 FROM pg_roles WHERE rolname = ${text(role)}`
}
/** A lock per role, held to the end of the transaction: two revokes of one role would trip over each other's catalogue rows. */
function lock(role: string): string {
  return `PERFORM ${lockCall(role)}`
}
function lockCall(role: string): string {
  return `pg_advisory_xact_lock(hashtextextended(${text(`mayfly ${role}`)}, 0))`
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
