import { z } from 'zod'
import { beyond } from './permissions.js'
import type { Asked } from './role.js'

/** What GitHub gave with a token, where it is no more than was asked for. */
export interface Granted {
  readonly expiresAt: number
  /** `owner/name` */
  readonly repositories: readonly string[]
  readonly permissions: Readonly<Record<string, string>>
}

const answer = z.object({
  expires_at: z.string().transform((text) => Date.parse(text)),
  permissions: z.record(z.string(), z.string()),
  repository_selection: z.string(),
  repositories: z.array(z.object({ id: z.int(), name: z.string(), full_name: z.string() })).min(1),
})
/** Part of every token, asked for or not: https://docs.github.com/en/rest/overview/permissions-required-for-github-apps */
const ALWAYS = { metadata: 'read' }

/** What was granted; or, in a sentence, why it must not be handed out. */
export function judge(given: unknown, asked: Asked, owner: string | undefined, latest: number): Granted | string {
  const parsed = answer.safeParse(given)
  if (!parsed.success) return 'GitHub gave a token without saying how long, for which repositories and with which permissions'
  const { expires_at: expiresAt, permissions, repositories, repository_selection } = parsed.data
  if (!(expiresAt <= latest)) return "GitHub gave a token for more than an hour: check the broker's clock"
  if (repository_selection !== 'selected') return 'GitHub gave a token for all repositories of the installation'
  const names = new Set(asked.repositories?.map((name) => name.toLowerCase()))
  const isAsked = ({ id, name }: { id: number; name: string }) =>
    asked.repository_ids ? asked.repository_ids.includes(id) : names.has(name.toLowerCase())
  const isOwners = (fullName: string) => owner === undefined || fullName.toLowerCase().startsWith(`${owner.toLowerCase()}/`)
  if (!repositories.every((one) => isAsked(one) && isOwners(one.full_name)))
    return 'GitHub gave a token for a repository that was not asked for, or that has another name now'
  const wider = beyond(permissions, { ...ALWAYS, ...asked.permissions })
  if (wider.length > 0) return 'GitHub gave a token with more permissions than were asked for'
  return { expiresAt, permissions, repositories: repositories.map(({ full_name }) => full_name) }
}
