import { isDeepStrictEqual } from 'node:util'
import { answered, at, type Case, refusedWith, told, Unmet } from '../trial.js'
import { ACCEPTS } from './callers.js'

export const MINTS = 'a mint is answered with a credential'
export const VERIFIES = 'verify tells dead from alive'
export const LATE = 'a mint whose end has passed makes nothing'
const AGO_MS = 30_000

export const mint: Case = {
  name: MINTS,
  after: [ACCEPTS],
  async run(trial) {
    const body = trial.mintBody()
    const answer = await trial.send('mint', body)
    if (answer.kind === 'invalid')
      throw new Unmet(`mint was answered ${told(answer)}: give the suite parameters, and a scope if there must be one, that the service takes`)
    const { credential, expires_at, usable_until } = answered('mint', answer)
    const { env, shortest_life_seconds } = trial.description
    if (Object.keys(credential.fields).length === 0) throw new Unmet('the credential has no fields: there is nothing that an agent could use')
    if (Object.keys(credential.env).some((variable) => !env.includes(variable)))
      throw new Unmet('the credential sets an environment variable that "env" of describe does not name')
    if (expires_at !== undefined && (Date.parse(expires_at) > Date.parse(body.expires_at) || Date.parse(expires_at) <= Date.parse(body.issued_at)))
      throw new Unmet('expires_at of the answer is before issued_at or after the expires_at of the request; what ends later is told as usable_until')
    const latest = Math.max(Date.parse(body.expires_at), Date.parse(body.issued_at) + shortest_life_seconds * 1000)
    if (usable_until !== undefined && (Date.parse(usable_until) > latest || Date.parse(usable_until) < Date.parse(body.expires_at)))
      throw new Unmet('usable_until is before the expires_at of the request, or later than "shortest_life_seconds" of describe allows')
  },
}

export const verify: Case = {
  name: VERIFIES,
  after: [MINTS],
  unless: (description) => (description.verifiable ? undefined : 'it has no /verify, so that nobody can ask'),
  async run(trial) {
    if ((await trial.verify(trial.mintBody().name)) !== 'dead') throw new Unmet('verify of a name that was never minted was answered "alive"')
    const { name } = await trial.mint()
    if ((await trial.verify(name)) !== 'alive') throw new Unmet('verify of what was just minted was answered "dead"')
  },
}

/** One credential for one lease, in its time. */
export const minting: readonly Case[] = [
  {
    name: 'two leases get two credentials',
    after: [MINTS],
    async run(trial) {
      const [one, two] = [await trial.mint(), await trial.mint()]
      if (isDeepStrictEqual(one.credential, two.credential)) throw new Unmet('two leases got the same credential: to revoke one is to revoke both')
    },
  },
  {
    name: LATE,
    after: [MINTS],
    async run(trial) {
      const body = trial.mintBody({ until: at(Date.now() - AGO_MS) })
      refusedWith('a mint whose "until" is half a minute ago', await trial.send('mint', body))
      await trial.nothingOf(body.name, 'a mint whose "until" is half a minute ago')
    },
  },
  {
    name: 'a second mint of a lease makes no second credential',
    after: [MINTS],
    async run(trial) {
      const body = trial.mintBody()
      const first = await trial.ask('mint', body)
      const again = await trial.send('mint', body)
      if (again.status !== 200) return refusedWith('a second mint of the same lease', again)
      if (!isDeepStrictEqual(answered('mint', again).credential, first.credential))
        throw new Unmet('a second mint of the same lease was answered with another credential: refuse it, or answer the same')
    },
  },
  {
    name: 'four mints at once of one lease make one credential',
    after: ['a second mint of a lease makes no second credential'],
    async run(trial) {
      const body = trial.mintBody()
      const answers = await Promise.all([1, 2, 3, 4].map(() => trial.send('mint', body)))
      const [made, ...more] = answers.filter(({ status }) => status === 200).map((answer) => answered('mint', answer).credential)
      if (made === undefined) throw new Unmet('of four mints at once of one lease none was answered with a credential')
      if (more.some((other) => !isDeepStrictEqual(other, made)))
        throw new Unmet(
          'four mints at once of one lease were answered with different credentials: mark the name as taken before anything is waited for',
        )
      for (const answer of answers) if (answer.status !== 200) refusedWith('one of four mints at once of one lease', answer)
    },
  },
]
