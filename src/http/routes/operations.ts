import { Registry } from 'prom-client'
import { z } from 'zod'
import { HealthAnswer, ReadyAnswer } from '../../api.js'
import { openRoute, type Route } from '../route.js'
import { lookAround, readiness } from '../status.js'

const health = openRoute({
  method: 'get',
  path: '/healthz',
  surfaces: ['public', 'operator', 'metrics'],
  summary: 'The process is alive.',
  answers: { 200: HealthAnswer },
  codes: [],
}).handle(async () => ({ status: 200, body: { state: 'alive' } }))

const ready = openRoute({
  method: 'get',
  path: '/readyz',
  surfaces: ['public', 'operator', 'metrics'],
  summary: 'Fails only while starting or draining; the states of ledger, issuers and providers are in the body.',
  answers: { 200: ReadyAnswer, 503: ReadyAnswer },
  codes: [],
}).handle(async (call) => {
  const body = await readiness(call)
  return { status: body.state === 'ready' ? 200 : 503, body }
})

const metrics = openRoute({
  method: 'get',
  path: '/metrics',
  surfaces: ['metrics'],
  summary: 'Prometheus exposition.',
  answers: { 200: z.string() },
  contentType: Registry.PROMETHEUS_CONTENT_TYPE,
  codes: [],
}).handle(async (call) => {
  await lookAround(call)
  return { status: 200, body: await call.house.metrics.registry.metrics() }
})

const openapi = openRoute({
  method: 'get',
  path: '/openapi.json',
  surfaces: ['public', 'operator'],
  summary: 'This description: OpenAPI 3.1 of what this listener offers.',
  answers: { 200: z.looseObject({ openapi: z.string() }) },
  codes: [],
}).handle(async ({ around }) => ({ status: 200, body: { ...around.openapi() } }))

export const operationRoutes: readonly Route[] = [health, ready, metrics, openapi]
