import { setTimeout as pause } from 'node:timers/promises'
import { answered, type Case, refusedWith, Unmet } from '../trial.js'
import { MINTS, VERIFIES } from './minting.js'

export const REVOKES = 'a revoke takes back what was minted'
const TWICE = 'revoking twice is success'
const BEFORE = 'revoking before the mint is success'
const TOO_LATE = 'a mint that comes after its revoke makes nothing'
const DURING = 'a revoke during the mint leaves nothing'
const ROUNDS = 10
const STEP_MS = 2
const HANG_UP_AFTER_MS = [1, 5, 15, 40]

const revocable: Case['unless'] = ({ revocation }) =>
  revocation === 'at-expiry' ? 'it says that nothing can be taken back before it expires' : undefined

/** Idempotent, and safe before, during and after the mint. */
export const revoking: readonly Case[] = [
  {
    name: REVOKES,
    after: [MINTS, VERIFIES],
    unless: revocable,
    async run(trial) {
      const { name } = await trial.mint()
      if ((await trial.revoke(name)) !== 'revoked') throw new Unmet('the revoke of what was just minted was answered "absent"')
      if (trial.description.verifiable) await trial.dead(name, 'it was revoked')
    },
  },
  {
    name: BEFORE,
    after: [MINTS],
    unless: revocable,
    async run(trial) {
      const outcome = await trial.revoke(trial.mintBody().name)
      if (trial.description.revocation !== 'immediate') return
      if (outcome !== 'absent') throw new Unmet('the revoke of a name that was never minted was answered "revoked"')
      trial.absenceTells = true
    },
  },
  {
    name: TWICE,
    after: [REVOKES, BEFORE],
    unless: revocable,
    async run(trial) {
      const { name } = await trial.mint()
      await trial.revoke(name)
      for (const time of ['second', 'third']) {
        const outcome = await trial.revoke(name)
        // A deny-list holds what it was told: there is nothing whose absence could be seen.
        if (trial.description.revocation === 'immediate' && outcome !== 'absent')
          throw new Unmet(`the ${time} revoke of one name was answered "revoked": by then it is "absent", or it was not gone before`)
      }
    },
  },
  {
    name: 'four revokes at once are success on each side',
    after: [TWICE],
    unless: revocable,
    async run(trial) {
      const { name } = await trial.mint()
      const outcomes = await Promise.all([1, 2, 3, 4].map(() => trial.revoke(name)))
      if (!outcomes.includes('revoked')) throw new Unmet('of four revokes at once of what was minted none was answered "revoked"')
      if (trial.description.verifiable) await trial.dead(name, 'it was revoked from four sides')
    },
  },
  {
    name: TOO_LATE,
    after: [BEFORE],
    unless: revocable,
    async run(trial) {
      const body = trial.mintBody()
      await trial.revoke(body.name)
      refusedWith('a mint of a name that was revoked before', await trial.send('mint', body))
      await trial.nothingOf(body.name, 'a mint of a name that was revoked before')
      const minted = trial.mintBody()
      await trial.mint(minted)
      await trial.revoke(minted.name)
      refusedWith('a second mint, after the first was revoked,', await trial.send('mint', minted))
    },
  },
  {
    name: DURING,
    after: [TWICE, TOO_LATE],
    unless: revocable,
    async run(trial) {
      for (let round = 0; round < ROUNDS; round++) {
        const body = trial.mintBody()
        const minting = trial.send('mint', body)
        const revoked = pause(round * STEP_MS, undefined, { signal: trial.signal }).then(() => trial.revoke(body.name))
        const [answer, outcome] = await Promise.all([minting, revoked])
        if (answer.status === 200) answered('mint', answer)
        else refusedWith('a mint that a revoke overtook', answer)
        if (trial.description.revocation === 'immediate' && answer.status === 200 && outcome === 'absent')
          throw new Unmet(
            'a revoke came during the mint and was answered "absent", and then the mint was answered with a credential: look once more after the last wait',
          )
        await trial.revoke(body.name)
        if (trial.description.verifiable) await trial.dead(body.name, 'it was revoked during its mint and once more after it')
      }
    },
  },
  {
    name: 'a mint whose answer nobody hears can be revoked',
    after: [DURING],
    unless: revocable,
    async run(trial) {
      for (const hangUpAfterMs of HANG_UP_AFTER_MS) {
        const body = trial.mintBody()
        await trial.send('mint', body, { hangUpAfterMs }).catch(() => undefined)
        await trial.revoke(body.name)
        if (trial.description.verifiable) await trial.dead(body.name, 'its caller hung up during the mint, it was revoked')
        refusedWith('a mint, once its first caller had hung up and it was revoked,', await trial.send('mint', body))
      }
    },
  },
]
