import { describe, expect, it } from '@jest/globals'
import { ERRORS } from '../../src/errors.js'
import { describe as describeRoutes } from '../../src/http/openapi.js'
import { ROUTES, routesOn } from '../../src/http/routes/index.js'

const whole = JSON.parse(JSON.stringify(describeRoutes(ROUTES)))

describe('OpenAPI', () => {
  it('names every route, and each once', () => {
    const described = Object.entries(whole.paths).flatMap(([path, methods]) => Object.keys(Object(methods)).map((method) => `${method} ${path}`))
    expect(described.toSorted()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path.replace('{+', '{')}`).toSorted())
    expect(new Set(described).size).toBe(described.length)
    const ids = Object.values(whole.paths).flatMap((methods) => Object.values(Object(methods)).map((operation) => Object(operation).operationId))
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('resolves every reference that it makes', () => {
    const references = [...JSON.stringify(whole).matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference]) => reference)
    expect(references.length).toBeGreaterThan(50)
    for (const reference of references) {
      expect(reference).toMatch(/^#\/components\/schemas\/\w+$/)
      expect(whole.components.schemas).toHaveProperty(String(reference?.split('/').at(-1)))
    }
  })

  it('says of each call how it is answered, what it takes and who may make it', () => {
    const { post } = whole.paths['/v1/leases']
    expect(post.security).toEqual([{ workload: [] }])
    expect(post['x-mayfly-callers']).toEqual(['agent'])
    expect(post.requestBody.content['application/json'].schema).toEqual({ $ref: '#/components/schemas/LeaseRequest' })
    expect(post.responses[201].content['application/json'].schema).toEqual({ $ref: '#/components/schemas/IssuedAnswer' })
    expect(post.responses[409].description).toContain('`frozen`')
    expect(post.responses[409].content).toHaveProperty(['application/problem+json'])
    expect(whole.paths['/v1/leases/{id}'].get.parameters).toContainEqual(
      expect.objectContaining({ name: 'id', in: 'path', required: true, schema: { type: 'string', pattern: '^lease_[0-9]{2}[a-z2-7]{26}$' } }),
    )
    expect(whole.paths['/v1/leases'].get.parameters.map(({ name }: { name: string }) => name)).toContain('cursor')
    expect(whole.paths['/healthz'].get.security).toEqual([])
    expect(whole.paths['/v1/tasks/{id}/complete'].post.requestBody.required).toBe(false)
  })

  it('keeps to the errors of RFC 6749 on OAuth endpoints', () => {
    const { responses, requestBody } = whole.paths['/oauth2/introspect'].post
    expect(Object.keys(requestBody.content)).toEqual(['application/x-www-form-urlencoded'])
    for (const [status, answer] of Object.entries(responses)) {
      if (status === '200') continue
      expect(answer).toHaveProperty(['content', 'application/json', 'schema'], { $ref: '#/components/schemas/OAuthError' })
    }
    expect(responses).not.toHaveProperty('422')
  })

  it('gives each code that a route names the status of the table', () => {
    for (const { codes } of ROUTES) for (const code of codes) expect(ERRORS).toHaveProperty(code)
  })

  it('separates the surfaces', () => {
    const paths = (surface: Parameters<typeof routesOn>[0]) => routesOn(surface).map(({ method, path }) => `${method} ${path}`)
    expect(paths('public')).toContain('post /v1/leases')
    expect(paths('public').filter((path) => /emergency|freezes|agents|get \/v1\/(leases|tasks)$|metrics/.test(path))).toEqual([])
    expect(paths('operator')).toContain('post /v1/emergency/revoke')
    expect(paths('operator').filter((path) => /post \/v1\/(leases|tasks)|metrics|well-known/.test(path))).toEqual([])
    expect(paths('metrics')).toEqual(['get /healthz', 'get /readyz', 'get /metrics'])
    expect(new Set(paths('all'))).toEqual(new Set([...paths('public'), ...paths('operator')]))
    for (const { path, who } of routesOn('public'))
      if (!/whoami|introspect/.test(path)) expect({ path, who }).not.toMatchObject({ who: expect.arrayContaining(['operator']) })
    for (const { path, who } of routesOn('operator'))
      if (who && !/whoami|introspect/.test(path)) expect({ path, who }).toEqual({ path, who: ['operator'] })
  })

  it('is silent about what does not exist yet', () => {
    expect(Object.keys(whole.paths).filter((path) => /events|token/.test(path))).toEqual([])
  })
})
