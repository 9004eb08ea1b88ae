import { setTimeout as pause } from 'node:timers/promises'
import type { Description } from '../../providers/http/wire.js'
import { answered, at, type Case, refusedWith, Unmet, within } from '../trial.js'
import { MINTS, VERIFIES } from './minting.js'
import { REVOKES } from './revoking.js'

const RENEWS = 'renew extends it'
const LONG_MS = 60_000
/** Clocks differ, and whole seconds are common. */
const LONGEST_WAIT_SECONDS = 1
const MARGIN_MS = 3_000
const AGO_MS = 30_000

const verifiable: Case['unless'] = (description) => (description.verifiable ? undefined : 'it has no /verify, so that nobody can ask')
const renewable: Case['unless'] = (description) => (description.renewable ? undefined : 'it has no /renew')
const shortLived = ({ shortest_life_seconds }: Description) =>
  shortest_life_seconds > LONGEST_WAIT_SECONDS
    ? `nothing lives shorter than ${shortest_life_seconds} s there, which is too long to wait for`
    : undefined
const revocable = ({ revocation }: Description) =>
  revocation === 'at-expiry' ? 'it says that nothing can be taken back before it expires' : undefined

export const lifetimes: readonly Case[] = [
  {
    name: 'it stops working at its expiry',
    after: [VERIFIES],
    unless: (description) =>
      verifiable(description) ?? shortLived(description) ?? (description.expiry_ends_use ? undefined : 'it says that its expiry ends nothing'),
    async run(trial) {
      const { name } = await trial.mint(trial.mintBody({ expires_at: at(Date.now() + trial.shortLifeMs) }))
      if (!(await within(trial.shortLifeMs + MARGIN_MS, trial.signal, async () => (await trial.verify(name)) === 'dead')))
        throw new Unmet(`${MARGIN_MS / 1000} s after its expires_at verify still answers "alive"`)
    },
  },
  {
    name: RENEWS,
    after: [MINTS, VERIFIES],
    unless: renewable,
    async run(trial) {
      const canWait = trial.description.verifiable && shortLived(trial.description) === undefined
      const { name } = await trial.mint(trial.mintBody({ expires_at: at(Date.now() + (canWait ? trial.shortLifeMs : LONG_MS)) }))
      const expires_at = at(Date.now() + 2 * LONG_MS)
      const renewed = await trial.ask('renew', { name, expires_at, until: at(Date.now() + LONG_MS) })
      if (Date.parse(renewed.expires_at) !== Date.parse(expires_at)) throw new Unmet('renew answered another expires_at than it was asked for')
      if (!canWait) return
      await pause(trial.shortLifeMs + STEP_MS, undefined, { signal: trial.signal })
      if ((await trial.verify(name)) !== 'alive') throw new Unmet('it was renewed, and died at its first expiry all the same')
    },
  },
  {
    name: 'renew revives nothing',
    after: [RENEWS, REVOKES],
    unless: (description) => renewable(description) ?? revocable(description),
    async run(trial) {
      const again = { expires_at: at(Date.now() + LONG_MS), until: at(Date.now() + LONG_MS) }
      const { name } = await trial.mint()
      await trial.revoke(name)
      refusedWith('a renew of what was revoked', await trial.send('renew', { name, ...again }))
      if (trial.description.verifiable) await trial.dead(name, 'a renew of what was revoked was refused')
      refusedWith('a renew of what was never minted', await trial.send('renew', { name: trial.mintBody().name, ...again }))
    },
  },
  {
    name: 'a renew whose end has passed extends nothing',
    after: [RENEWS],
    unless: renewable,
    async run(trial) {
      const { name } = await trial.mint()
      const late = { name, expires_at: at(Date.now() + LONG_MS), until: at(Date.now() - AGO_MS) }
      refusedWith('a renew whose "until" is half a minute ago', await trial.send('renew', late))
      answered('renew', await trial.send('renew', { ...late, until: at(Date.now() + LONG_MS) }))
    },
  },
]
/** Past the expiry, beyond doubt of rounding. */
const STEP_MS = 500
