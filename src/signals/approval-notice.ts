import type { Approval, Scope } from '../types.js'
import type { Notice } from './webhooks.js'

const LONGEST_WORDS = 300

/** What people in a chat read of an approval. Whatever an agent could have chosen is marked, bounded, and means nothing to Slack's markup. */
export function approvalNotice(what: 'asked' | 'granted' | 'denied', approval: Approval): Notice {
  const { id, task, agent, role, request, needs, consents, denial, askedAt, expiresAt } = approval
  const by = denial?.id ?? consents.map((one) => one.id).join(', ')
  const { owner, provider, access, sensitivity, revocation, residualSeconds, scope, ttlSeconds, policies, reasons, claimed } = request
  const data = {
    approval: id,
    state: approval.state,
    task,
    agent,
    owner,
    role,
    provider,
    access,
    sensitivity,
    revocation: { mode: revocation, residual_seconds: residualSeconds },
    scope,
    ttl: ttlSeconds,
    intent: request.task.intent,
    stated_intent: request.task.statedIntent,
    classified: request.task.classified,
    classified_by: request.task.classifiedBy,
    opened_by: { kind: request.task.openedBy.kind, id: request.task.openedBy.id },
    needs,
    policies,
    reasons,
    claimed,
    decided_by: by || undefined,
    asked_at: new Date(askedAt).toISOString(),
    expires_at: new Date(expiresAt).toISOString(),
  }
  return { id: `${id}.${what}`, type: `approval.${what}`, text: what === 'asked' ? question(approval) : `${words(by)} ${what} ${id}`, data }
}

function question({ id, agent, role, needs, expiresAt, request }: Approval): string {
  const { access, sensitivity, scope, ttlSeconds, reasons, claimed, owner, human, task } = request
  const lines = [
    `Agent ${words(agent)} (owner ${words(owner)}) asks for ${words(role)} (${access}, ${sensitivity}) for ${ttlSeconds} s`,
    ...scopeLine(scope),
    `Task: ${words(task.intent)}${readOf(task)}, opened by ${words(task.openedBy.id)}`,
    ...(human === undefined ? [] : [`On behalf of ${words(human)}`]),
    ...reasons.map((reason) => `Why you are asked: ${words(reason)}`),
    ...claimedLines(claimed),
    `Needed: ${needs.map(({ group, approvals }) => `${approvals} of ${words(group)}`).join(', ')}, until ${new Date(expiresAt).toISOString()}`,
    `mayfly approve ${id}`,
  ]
  return lines.join('\n')
}

/** What is consented to, so all of it, or it is said that there is more. */
function scopeLine(scope: Scope): string[] {
  const parts = Object.entries(scope).map(([key, value]) => `${key} = ${[value].flat().join(', ')}`)
  const text = parts.join('; ')
  return parts.length === 0 ? [] : [`Limited to: ${words(text)}${text.length > LONGEST_WORDS ? '… (all of it: mayfly approvals)' : ''}`]
}

/** Who says that the task is about that. */
function readOf({ classified, classifiedBy, confidence, statedIntent }: Approval['request']['task']): string {
  if (!classified) return ' (not classified)'
  const stated = statedIntent === undefined ? '' : `, stated as "${words(statedIntent)}"`
  return classifiedBy === 'classifier' ? ` (by the classifier, confidence ${confidence}${stated})` : ''
}

function claimedLines({ intent, reason, tool, destination }: Approval['request']['claimed']): string[] {
  const parts = [reason, intent && `it is about: ${intent}`, tool && `tool: ${tool}`, destination && `to: ${destination}`].filter(
    (one) => one !== undefined && one !== '',
  )
  return parts.length === 0 ? [] : [`The agent says (nobody has checked it): "${words(parts.join('; '))}"`]
}

/** One line of plain text: no control or direction characters, no Slack markup (https://api.slack.com/reference/surfaces/formatting#escaping). */
function words(text: string): string {
  return (
    text
      .slice(0, LONGEST_WORDS)
      .toWellFormed()
      .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ')
      // Nor a link to follow.
      .replaceAll('://', '[:]//')
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
  )
}
