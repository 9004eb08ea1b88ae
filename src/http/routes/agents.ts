import { AgentsAnswer } from '../../api.js'
import { BROKER, permit } from '../operator.js'
import { type Route, route } from '../route.js'

const list = route({
  method: 'get',
  path: '/v1/agents',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'The agents of the configuration, with who answers for each. An id may be a template that claims fill.',
  answers: { 200: AgentsAnswer },
  codes: ['denied'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  const agents = call.around.agents().map(({ id, owner, autonomy, team }) => ({ id, owner, autonomy, team }))
  return { status: 200, body: { agents } }
})

export const agentRoutes: readonly Route[] = [list]
