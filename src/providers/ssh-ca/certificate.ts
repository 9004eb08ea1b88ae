import type sshpk from 'sshpk'
import { ProviderError } from '../provider.js'
import type { Authority, Sshpk } from './keys.js'
import { string } from './krl.js'
import type { Params } from './params.js'

export interface Subject {
  readonly key: sshpk.Key
  readonly keyId: string
  readonly params: Params
  /** Milliseconds since the epoch; the certificate counts whole seconds. */
  readonly validFrom: number
  readonly validUntil: number
}

/** CAs that don't number their certificates write zero: PROTOCOL.certkeys, `serial`. They are revoked by key id. */
const NO_SERIAL = Buffer.alloc(8)

/** A user certificate, as one line: https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys */
export function signCertificate(sshpk: Sshpk, authority: Authority, { key, keyId, params, validFrom, validUntil }: Subject): string {
  const certificate = new sshpk.Certificate({
    subjects: params.principals.map((name) => sshpk.identityForUser(name)),
    subjectKey: key,
    // OpenSSH certificates don't name their issuer: only its key is written.
    issuer: sshpk.identityForHost('ca'),
    issuerKey: authority.key,
    serial: NO_SERIAL,
    validFrom: wholeSeconds(validFrom),
    validUntil: wholeSeconds(validUntil),
    signatures: unsigned(keyId, optionsOf(params)),
  })
  // By its own name alone the encoder would sign with SHA-1 where the authority's key is RSA.
  const format = sshpk.Certificate.formats.openssh as sshpk.Format.OpenSshCert
  let trouble: Error | undefined
  format.signAsync(
    certificate,
    (bytes, done) => done(undefined, authority.sign(bytes)),
    (error) => {
      trouble = error
    },
  )
  if (trouble) throw new ProviderError('broken', 'the certificate could not be signed', { cause: trouble })
  return certificate.toString('openssh')
}

/** The encoder adds nonce and signature; its published types ask for both before there is either. */
function unsigned(keyId: string, exts: Option[]): sshpk.CertificateOptions['signatures'] {
  return { openssh: { keyId, exts } } as unknown as sshpk.CertificateOptions['signatures']
}

interface Option {
  readonly critical: boolean
  readonly name: string
  readonly data: Buffer
}

/** Critical options and extensions, each in the order of their names, which is part of the format. A value is a string in the string. */
function optionsOf({ force_command, source_addresses, extensions }: Params): Option[] {
  const critical = (name: string, value: string | undefined): Option[] => (value === undefined ? [] : [{ critical: true, name, data: string(value) }])
  return [
    ...critical('force-command', force_command),
    ...critical('source-address', source_addresses?.join(',')),
    ...[...extensions].sort().map((name) => ({ critical: false, name, data: Buffer.alloc(0) })),
  ]
}

function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000)
}
