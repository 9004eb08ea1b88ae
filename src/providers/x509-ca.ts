import { createHash } from 'node:crypto'
import { z } from 'zod'
import { deadline, within } from './deadline.js'
import { duration } from './duration.js'
import { upstreamName } from './name.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule, type PublishedDocument } from './provider.js'
import { published, type Withdrawn, withdrawnList } from './published.js'
import { AuthorityProblem, readAuthorities } from './x509-ca/authorities.js'
import { newSubjectKey, signCertificate } from './x509-ca/certificate.js'
import { signCrl } from './x509-ca/crl.js'
import { type Encoder, type Issuer, issuerOf, pemOf } from './x509-ca/issuer.js'
import { namesOf, type Params, params, roleProblems } from './x509-ca/names.js'

const HOUR_SECONDS = 3_600
const DAY_SECONDS = 86_400
const pem = z.string().min(1).max(262_144)
const options = z
  .strictObject({
    /** Certificates of the authority as PEM, one after another: the first signs, all have their revocation list. */
    certificates: pem,
    /** Their private keys as PEM, in any order. */
    keys: pem,
    /** How long a revocation list is good for: `nextUpdate`. */
    crl_lifetime: duration(60, 30 * DAY_SECONDS).default(HOUR_SECONDS),
    /** How long relying parties use a list that they have fetched. Absent: as long as it is good for. */
    refresh: duration(1, DAY_SECONDS).optional(),
    /** Where relying parties find this provider's documents: written into each certificate, with the name of its authority's list. */
    crl_url: z
      .url({ protocol: /^https?$/ })
      .max(1024)
      .optional(),
    /** No certificate lives longer; what was withdrawn before its certificate was made is kept as long. */
    longest_life: duration(1, 30 * DAY_SECONDS).default(DAY_SECONDS),
  })
  .superRefine(({ certificates, keys, crl_lifetime: lifetime, refresh = 0 }, context) => {
    try {
      readAuthorities(certificates, keys)
    } catch (error) {
      if (!(error instanceof AuthorityProblem)) throw error
      context.addIssue(error.message)
    }
    // A list is signed anew when half of its life is over.
    if (refresh > lifetime / 2) context.addIssue('refresh: must not be longer than half of crl_lifetime, or lists would end while they are in use')
  })
type Options = z.infer<typeof options>
const handleShape = z.object({ serial: z.string().regex(/^[0-9a-f]{40}$/) })

const LIST = 'certificates'
/** Until a change is served by every broker and past caches (1 s and 5 s), and a fetch is over: `--max-time 8` of the page. */
const FETCH_SECONDS = 15
/** How much a relying party's clock may be behind the ledger's for a new certificate, or list, to count. */
const CLOCK_DIFFERENCE_MS = 60_000
/** One that is behind takes an expired certificate: its entry stays longer, and at least for one whole list (RFC 5280 §3.3). */
const KEPT_AFTER_EXPIRY_MS = 600_000
/** They share reads. */
const REVOKES_AT_ONCE = 100

/** A client certificate for one lease, revoked by lists that relying parties fetch. `docs/providers/x509-ca.md`. */
export const x509Ca: ProviderModule<Options, Params> = {
  type: 'x509-ca',
  options,
  params,
  secrets: ['keys'],
  checkRole: (params, scope) => roleProblems(params, scope),
  target: () => 'in-process',

  async open(options, context) {
    const [asn1, x509] = await Promise.all([import('@peculiar/asn1-schema'), import('@peculiar/asn1-x509')])
    return provider({ asn1, x509 }, options, context)
  },
}

function provider(encoder: Encoder, options: Options, { instance, timeoutMs, register, now = Date.now }: ProviderContext): Provider<Params> {
  const { crl_lifetime: lifetime, refresh = lifetime, longest_life: longest, crl_url: url } = options
  const [issuer, ...others] = readAuthorities(options.certificates, options.keys).map((one) => issuerOf(encoder, one))
  if (issuer === undefined) throw new ProviderError('invalid', 'certificates: holds none')
  const issuers = [issuer, ...others]
  const list = withdrawnList(register, LIST, timeoutMs)
  const lists = published(list.read, (withdrawn) => issuers.map((one) => listOf(encoder, one, withdrawn, lifetime, now())), (lifetime * 1000) / 2)

  return {
    type: 'x509-ca',
    revocation: 'deny-policy',
    residualSeconds: refresh + FETCH_SECONDS,
    inProcess: false,
    handle: 'planned',
    // A certificate is looked at when a connection is made.
    cutsSessions: false,
    revokesAtOnce: REVOKES_AT_ONCE,
    sensitiveHandle: false,
    // What is open then goes on, after a revoke no less: past the expiry there is nothing left to take back.
    expiryEndsUse: true,
    documents: documentsOf(issuers, lists),

    plan: ({ id }) => ({ serial: serialOf(upstreamName(instance, id)) }),

    async mint({ handle, params, lease, issuedAt, expiresAt, until, deadlineMs }) {
      if (until <= now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const { serial } = handleShape.parse(handle)
      const names = namesOf(params, lease, upstreamName(instance, lease.id))
      if (expiresAt - issuedAt > longest * 1000)
        throw new ProviderError('invalid', `certificates of this provider live ${longest} s at most: lower the role's max_ttl, or raise longest_life`)
      const { certificate: its } = issuer.authority
      // A certificate is good for no longer than that of who signed it.
      const validUntil = Math.min(expiresAt, Date.parse(its.validTo))
      if (validUntil <= issuedAt) throw new ProviderError('refused', 'the certificate of the authority has expired: give the provider a new one')
      const { publicKey, privateKey } = await within(deadline(deadlineMs), newSubjectKey)
      const crlUrl = url && `${url.replace(/\/$/, '')}/${listNameOf(issuer)}`
      const own = signCertificate(encoder, issuer, { publicKey, serial, names, validFrom: issuedAt - CLOCK_DIFFERENCE_MS, validUntil, crlUrl })
      // Who trusts the root alone needs what is between: RFC 8446 §4.4.2.
      const certificate = its.checkIssued(its) ? own : own + pemOf('CERTIFICATE', its.raw)
      const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
      const fields = { certificate, private_key: key, serial, common_name: names.commonName, dns: names.dns, uris: names.uris }
      const env = { TLS_CLIENT_CERTIFICATE: certificate, TLS_CLIENT_KEY: key }
      return { credential: { type: 'x509-ca', fields, env }, ...(validUntil < expiresAt && { expiresAt: validUntil }) }
    },

    async revoke(handle, deadlineMs, about) {
      const { serial: id } = handleShape.parse(handle)
      const usableUntil = about?.usableUntil ?? now() + longest * 1000
      await list.add({ id, until: usableUntil + Math.max(KEPT_AFTER_EXPIRY_MS, lifetime * 1000) }, deadlineMs)
      return 'revoked'
    },

    async check() {
      if (Date.parse(issuer.authority.certificate.validTo) <= now())
        throw new ProviderError('refused', 'the certificate of the authority that signs has expired: give the provider a new one')
      if (register !== undefined) await lists()
    },

    close: () => Promise.resolve(),
  }
}

/** RFC 5280 §4.1.2.2: positive and not longer than 20 octets. All of these have 20, and no bit of sign. */
function serialOf(name: string): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 20)
  bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f)
  return bytes.toString('hex')
}

/** Every authority's list holds everything: the register does not know which of them signed. */
function listOf(encoder: Encoder, issuer: Issuer, { version, entries }: Withdrawn, lifetimeSeconds: number, now: number): Buffer {
  const times = { thisUpdate: now - CLOCK_DIFFERENCE_MS, nextUpdate: now + lifetimeSeconds * 1000 }
  return signCrl(encoder, issuer, { version, serials: entries.map(({ id }) => id), ...times })
}

/** Each authority's own list, by a name that stays when another comes to sign. */
function listNameOf({ keyIdentifier }: Issuer): string {
  return `crl-${Buffer.from(keyIdentifier).subarray(0, 8).toString('hex')}.der`
}

function documentsOf(issuers: readonly Issuer[], lists: () => Promise<readonly Buffer[]>): PublishedDocument[] {
  // RFC 2585 §4.2
  const contentType = 'application/pkix-crl'
  const at = (index: number) => async () => (await lists())[index] ?? Buffer.alloc(0)
  const asPem = async () => Buffer.from((await lists()).map((der) => pemOf('X509 CRL', der)).join(''))
  const certificates = Buffer.from(issuers.map(({ authority }) => pemOf('CERTIFICATE', authority.certificate.raw)).join(''))
  return [
    { name: 'ca.pem', contentType: 'application/x-pem-file', read: () => Promise.resolve(certificates) },
    { name: 'crl.pem', contentType: 'application/x-pem-file', read: asPem },
    { name: 'crl.der', contentType, read: at(0) },
    ...issuers.map((issuer, index) => ({ name: listNameOf(issuer), contentType, read: at(index) })),
  ]
}
