import { z } from 'zod'
import { deadline, within } from './deadline.js'
import { duration } from './duration.js'
import { upstreamName } from './name.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'
import { published, withdrawnList } from './published.js'
import { signCertificate } from './ssh-ca/certificate.js'
import { checkFolder, keepFile } from './ssh-ca/file.js'
import { newSubjectKey, readAuthorities, type Sshpk } from './ssh-ca/keys.js'
import { encodeKrl } from './ssh-ca/krl.js'
import { narrow, type Params, params, roleProblems } from './ssh-ca/params.js'

const DAY_SECONDS = 86_400
const options = z.strictObject({
  /** Private keys of the authority, one after another, as `ssh-keygen` writes them: the first signs, all are published. */
  keys: z.string().min(1).max(65_536),
  /** How often hosts fetch the revocation list. Absent: 60 s, or with `krl_file` not at all. */
  refresh: duration(1, DAY_SECONDS).optional(),
  /** Where each broker writes the revocation list, for an sshd that sees this file itself. */
  krl_file: z
    .string()
    .regex(/^\/[^\0]*[^\0/]$/, 'must be the absolute path of a file')
    .optional(),
  /** No certificate lives longer; what was withdrawn before its certificate was made is kept as long. */
  longest_life: duration(1, 30 * DAY_SECONDS).default(DAY_SECONDS),
})
type Options = z.infer<typeof options>
const handleShape = z.object({ key_id: z.string() })

const LIST = 'certificates'
const REFRESH_SECONDS = 60
/** Until a change is served by every broker and past caches (1 s and 5 s), and a fetch is over: `--max-time 8` of the page. */
const FETCH_SECONDS = 15
/** A broker looks this often whether another has revoked something. */
const FILE_EVERY_MS = 1000
const FILE_SECONDS = 2
/** They share reads and writes. */
const REVOKES_AT_ONCE = 100
/** How much a host's clock may be behind the ledger's for a new certificate to work. */
const CLOCK_DIFFERENCE_MS = 60_000
/** A host that is behind takes an expired certificate: the entry stays this much longer. */
const KEPT_AFTER_EXPIRY_MS = 600_000

/** An OpenSSH user certificate for one lease, revoked by a list that hosts read. `docs/providers/ssh-ca.md`. */
export const sshCa: ProviderModule<Options, Params> = {
  type: 'ssh-ca',
  options,
  params,
  secrets: ['keys'],
  checkRole: (_params, scope) => roleProblems(scope),
  target: () => 'in-process',

  async open(options, context) {
    const { default: sshpk } = await import('sshpk')
    return provider(sshpk, options, context)
  },
}

function provider(sshpk: Sshpk, options: Options, { instance, timeoutMs, register, now = Date.now }: ProviderContext): Provider<Params> {
  const { krl_file: file, longest_life: longest, refresh = file === undefined ? REFRESH_SECONDS : undefined } = options
  const authorities = readAuthorities(sshpk, options.keys)
  const [authority] = authorities
  const publicKeys = Buffer.from(authorities.map(({ key }) => `${key.toString('ssh')} mayfly-${instance}\n`).join(''))

  const list = withdrawnList(register, LIST, timeoutMs)
  const krl = published(list.read, ({ version, entries }) => encodeKrl({ version, keyIds: entries.map(({ id }) => id) }))
  const written = file === undefined || register === undefined ? undefined : keepFile(file, FILE_EVERY_MS, krl)

  return {
    type: 'ssh-ca',
    revocation: 'deny-policy',
    residualSeconds: refresh === undefined ? FILE_SECONDS : refresh + FETCH_SECONDS,
    inProcess: false,
    handle: 'planned',
    // sshd looks at a certificate when it is presented, and never again.
    cutsSessions: false,
    revokesAtOnce: REVOKES_AT_ONCE,
    sensitiveHandle: false,
    // What is open then goes on, after a revoke no less: past the expiry there is nothing left to take back.
    expiryEndsUse: true,
    documents: [
      { name: 'krl', contentType: 'application/octet-stream', read: krl },
      { name: 'ca.pub', contentType: 'text/plain; charset=utf-8', read: () => Promise.resolve(publicKeys) },
    ],

    plan: ({ id }) => ({ key_id: upstreamName(instance, id) }),

    async mint({ handle, params, lease, issuedAt, expiresAt, until, deadlineMs }) {
      if (until <= now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const { key_id: keyId } = handleShape.parse(handle)
      const left = narrow(params, lease.scope)
      if (expiresAt - issuedAt > longest * 1000)
        throw new ProviderError('invalid', `certificates of this provider live ${longest} s at most: lower the role's max_ttl, or raise longest_life`)
      const { key, privateKey } = await within(deadline(deadlineMs), () => newSubjectKey(sshpk))
      const subject = { key, keyId, params: left, validFrom: issuedAt - CLOCK_DIFFERENCE_MS, validUntil: expiresAt }
      const certificate = signCertificate(sshpk, authority, subject)
      const fields = { private_key: privateKey, certificate, principals: left.principals, key_id: keyId }
      return { credential: { type: 'ssh-ca', fields, env: { SSH_PRIVATE_KEY: privateKey, SSH_CERTIFICATE: certificate } } }
    },

    async revoke(handle, deadlineMs, about) {
      const time = deadline(deadlineMs)
      const { key_id: id } = handleShape.parse(handle)
      const usableUntil = about?.usableUntil ?? now() + longest * 1000
      await list.add({ id, until: usableUntil + KEPT_AFTER_EXPIRY_MS }, time.left())
      if (written) await within(time, written.write)
      return 'revoked'
    },

    async check() {
      if (register !== undefined) await krl()
      if (file !== undefined) await checkFolder(file)
      await written?.check()
    },

    async close() {
      await written?.close()
    },
  }
}
