/** As much of a browser as a login needs: cookies, redirects and forms. */
export interface Browser {
  open(url: string): Promise<Page>
}
export interface Page {
  readonly url: string
  readonly text: string
  /** Sends the page's one form with these fields beside its hidden ones. */
  submit(fields?: Readonly<Record<string, string>>): Promise<Page>
}

const MOST_REDIRECTS = 10

export function openBrowser(): Browser {
  const cookies = new Map<string, string>()

  const go = async (url: string, init: RequestInit = {}, redirects = 0): Promise<Page> => {
    if (redirects > MOST_REDIRECTS) throw new Error(`redirected without end: ${url}`)
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const answer = await fetch(url, { ...init, redirect: 'manual', headers: { cookie } })
    for (const set of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? []
      if (value === '') cookies.delete(name)
      else cookies.set(name, value)
    }
    const location = answer.headers.get('location')
    const text = await answer.text()
    if (location !== null) return go(new URL(location, url).href, {}, redirects + 1)
    if (!answer.ok) throw new Error(`${answer.status} at ${url}: ${text.slice(0, 200)}`)
    const submit: Page['submit'] = (fields = {}) => {
      const action = /<form[^>]*action="([^"]+)"/.exec(text)?.[1]
      if (action === undefined) throw new Error(`no form at ${url}: ${text.slice(0, 400)}`)
      return go(new URL(action, url).href, { method: 'POST', body: new URLSearchParams({ ...hiddenOf(text), ...fields }) })
    }
    return { url, text, submit }
  }
  return { open: (url) => go(url) }
}

function hiddenOf(text: string): Record<string, string> {
  const inputs = [...text.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([input]) => input)
  return Object.fromEntries(inputs.map((input) => [attribute(input, 'name'), attribute(input, 'value')]))
}
function attribute(tag: string, name: string): string {
  return new RegExp(`${name}="([^"]*)"`).exec(tag)?.[1] ?? ''
}
