import { createHmac } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'

/** A service that the configuration names, and the key that what it is sent is signed with. */
export interface Receiver {
  readonly url: string
  /** `whsec_` and base64, as Standard Webhooks writes it. */
  readonly secret: string
  readonly ca?: string
  readonly allowHttpLoopback?: boolean
  readonly allowPrivateAddresses?: boolean
}
export type WebhookOptions = Receiver

/** What is told. `id` stays the same over all attempts, so that a receiver knows a repeat. */
export interface Notice {
  readonly id: string
  readonly type: string
  /** For people: what Slack's incoming webhooks show. */
  readonly text: string
  readonly data: object
}

/** One POST, no redirects, a bounded answer; the status of it. The caller decides what may be reached. */
export type Post = (
  hook: WebhookOptions,
  request: { headers: Readonly<Record<string, string>>; body: string; timeoutMs: number; signal: AbortSignal },
) => Promise<number>

export interface Webhooks {
  /** Answers at once; what happens to it is logged. */
  send(notice: Notice): void
  /** Gives up what is under way. */
  close(): Promise<void>
}

export interface WebhooksTools {
  readonly post: Post
  /** Milliseconds since 1970, of any good clock. */
  readonly now: () => number
  readonly onOutcome: (outcome: 'sent' | 'failed' | 'dropped', about: { hook: number; type: string; id: string; error?: string }) => void
  /** First pause before a repeat; it doubles. */
  readonly firstPauseMs?: number
}

const ATTEMPTS = 6
const FIRST_PAUSE_MS = 1_000
const TIMEOUT_MS = 5_000
/** Not yet delivered, for each hook: a receiver that is down must not fill the memory. */
const MOST_WAITING = 500
const AT_ONCE = 4

/** Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks): signed, repeated with backoff, then given up and said so. */
export function openWebhooks(hooks: readonly WebhookOptions[], tools: WebhooksTools): Webhooks {
  const closing = new AbortController()
  const lines = hooks.map((hook, index) => line(hook, index, tools, closing.signal))
  return {
    send: (notice) => {
      for (const one of lines) one.send(notice)
    },
    close: async () => {
      closing.abort()
      await Promise.all(lines.map((one) => one.idle()))
    },
  }
}

/** State: what waits for one receiver, and how many of it are under way. */
function line(hook: WebhookOptions, index: number, tools: WebhooksTools, closing: AbortSignal) {
  const waiting: Notice[] = []
  const running = new Set<Promise<void>>()
  const next = (): void => {
    while (!closing.aborted && running.size < AT_ONCE) {
      const notice = waiting.shift()
      if (!notice) return
      const work: Promise<void> = deliver(hook, index, notice, tools, closing).finally(() => {
        running.delete(work)
        next()
      })
      running.add(work)
    }
  }
  return {
    send: (notice: Notice) => {
      if (closing.aborted || waiting.length >= MOST_WAITING) return tools.onOutcome('dropped', { hook: index, type: notice.type, id: notice.id })
      waiting.push(notice)
      next()
    },
    idle: () => Promise.all(running),
  }
}

/** Never throws. */
async function deliver(hook: WebhookOptions, index: number, notice: Notice, tools: WebhooksTools, closing: AbortSignal): Promise<void> {
  const about = { hook: index, type: notice.type, id: notice.id }
  const body = bodyOf(notice, tools.now())
  let pauseMs = tools.firstPauseMs ?? FIRST_PAUSE_MS
  for (let attempt = 1; ; attempt++) {
    const error = await once(hook, notice.id, body, tools, closing)
    if (error === undefined) return tools.onOutcome('sent', about)
    if (attempt === ATTEMPTS || closing.aborted) return tools.onOutcome('failed', { ...about, error })
    await pause(pauseMs * (0.5 + Math.random()), undefined, { signal: closing, ref: false }).catch(() => undefined)
    if (closing.aborted) return tools.onOutcome('failed', { ...about, error })
    pauseMs *= 2
  }
}

async function once(hook: WebhookOptions, id: string, body: string, { post, now }: WebhooksTools, signal: AbortSignal): Promise<string | undefined> {
  const timestamp = Math.floor(now() / 1000)
  const headers = {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': sign(hook.secret, id, timestamp, body),
  }
  try {
    const status = await post(hook, { headers, body, timeoutMs: TIMEOUT_MS, signal })
    return status >= 200 && status < 300 ? undefined : `answered ${status}`
  } catch (error) {
    // Its message may hold the URL, and that may be a secret, as Slack's are.
    return error instanceof Error ? error.name : 'unknown'
  }
}

export function sign(secret: string, id: string, timestamp: number, body: string): string {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
}

function bodyOf({ type, text, data }: Notice, now: number): string {
  return JSON.stringify({ type, timestamp: new Date(now).toISOString(), text, data })
}
