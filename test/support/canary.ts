/** A secret in all the forms that it could leak in. */
export function formsOf(secret: string): Record<string, string> {
  const bytes = Buffer.from(secret)
  return {
    raw: secret,
    base64: bytes.toString('base64').replace(/=+$/, ''),
    base64url: bytes.toString('base64url'),
    hex: bytes.toString('hex'),
    url: encodeURIComponent(secret),
    json: JSON.stringify(secret).slice(1, -1),
  }
}

/** Where a secret stands, as `place (form)`; empty when it stands nowhere. */
export function find(secrets: Readonly<Record<string, string>>, places: Readonly<Record<string, string>>): string[] {
  const found: string[] = []
  for (const [name, secret] of Object.entries(secrets))
    for (const [place, text] of Object.entries(places))
      for (const [form, value] of Object.entries(formsOf(secret))) if (text.includes(value)) found.push(`${name} in ${place} (${form})`)
  return found
}
