import { DEVICE_CLIENT } from './issuer.js'

export interface Running {
  readonly url: string
  readonly issuer: string
  readonly dataDir: string
  readonly tokens: string
  readonly command: string
  readonly kept: boolean
}

/** What `mayfly dev` prints: commands to paste into another terminal. */
export function howToTry({ url, issuer, dataDir, tokens, command, kept }: Running): string {
  return `
Mayfly is ready at ${url} (issuer ${issuer}), on loopback only.
Data is in ${dataDir}${kept ? ', and stays' : ', and goes when this ends'}. Ctrl-C ends it.

In another terminal:

  export MAYFLY_URL=${url} T=${tokens}
  alias mayfly='${command}'

  # the orchestrator opens a task, the agent obtains a credential for it
  TASK=$(mayfly task open --token-file $T/flows --intent incident-triage --confidence 0.9 --agent triage --role api-token)
  mayfly get --token-file $T/triage --task $TASK --role api-token

  # an agent that the task is not for gets nothing
  mayfly get --token-file $T/reporter --task $TASK --role api-token

  # the operator looks; the task ends, and so does its credential
  mayfly leases --token-file $T/oncall
  mayfly task complete $TASK --token-file $T/flows --wait 5

  # the stop: nothing more is issued to the agent until the freeze is thawed
  mayfly revoke --token-file $T/oncall --agent triage --reason drill --wait
  mayfly freeze --token-file $T/oncall

  # as a person: log in as "oncall", with any password
  mayfly login --issuer ${issuer} --client-id ${DEVICE_CLIENT}
  mayfly whoami

The same with curl:

  curl -s $MAYFLY_URL/v1/tasks -H "Authorization: Bearer $(cat $T/flows)" -H 'Content-Type: application/json' -d '{
    "intent": "incident-triage", "confidence": 0.9, "assignees": [{"agent": "triage"}], "envelope": [{"role": "api-token"}],
    "deadline_at": "'$(date -u -d '+15 minutes' +%FT%TZ 2>/dev/null || date -u -v+15M +%FT%TZ)'"}'
  curl -s $MAYFLY_URL/v1/leases -H "Authorization: Bearer $(cat $T/triage)" -H 'Content-Type: application/json' \\
    -d '{"task": "'$TASK'", "role": "api-token"}'
  curl -s ${issuer}/token -d grant_type=client_credentials -d client_id=triage -d client_secret=triage-secret
`
}
