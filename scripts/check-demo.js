/** Reads what `npm run demo -- --json` printed and fails unless it shows that the main job was done. */
import assert from 'node:assert/strict'
import { text } from 'node:stream/consumers'

const { credential_worked, refused, open_session_cut_ms, login_after_end, emergency, crash } = JSON.parse(await text(process.stdin))

assert.equal(credential_worked, true, 'the credential did not work')
for (const what of ['wrong_agent', 'wrong_role', 'forged_token'])
  assert.ok(typeof refused[what] === 'string' && refused[what] !== 'accepted', `${what} was not refused: ${refused[what]}`)
assert.ok(open_session_cut_ms >= 0, 'the open session was not cut')
assert.equal(login_after_end, 'refused', 'a login was possible after the task had ended')
assert.ok(emergency.matched > 0 && emergency.revoked === emergency.matched, `emergency: ${emergency.revoked} of ${emergency.matched} revoked`)
assert.equal(crash.killed, true, 'the broker was not killed')
assert.equal(crash.orphans, 0, `${crash.orphans} orphans after the crash`)
