import { exportJWK, generateKeyPair, SignJWT } from 'jose'

/** An issuer of people: it signs what they let agents have. */
export interface TestPeople {
  readonly issuer: string
  /** As `issuers.<name>.jwks` takes it. */
  readonly jwks: string
  /** A token of `sub`, for ten minutes unless its claims say otherwise; `aud` and `may_act` are the test's to say. */
  token(sub: string, claims?: Readonly<Record<string, unknown>>): Promise<string>
}

export async function newPeople(issuer = 'https://sso.test'): Promise<TestPeople> {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid: 'people', alg: 'ES256', use: 'sig' }
  return {
    issuer,
    jwks: JSON.stringify({ keys: [jwk] }),
    token(sub, claims = {}) {
      // With its fraction of a second: of two tokens, one is newer.
      const now = Date.now() / 1000
      return new SignJWT({ iss: issuer, sub, iat: now, exp: now + 600, jti: crypto.randomUUID(), ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'people', typ: 'at+jwt' })
        .sign(privateKey)
    },
  }
}
