import { awsSts } from './aws-sts.js'
import { azure } from './azure.js'
import { gcp } from './gcp.js'
import { githubApp } from './github-app.js'
import { http } from './http.js'
import { jwt } from './jwt.js'
import { kubernetes } from './kubernetes.js'
import { mysql } from './mysql.js'
import { oauth2 } from './oauth2.js'
import { openbao } from './openbao.js'
import { postgres } from './postgres.js'
import type { ProviderModule } from './provider.js'
import { rabbitmq } from './rabbitmq.js'
import { redis } from './redis.js'
import { sshCa } from './ssh-ca.js'
import { x509Ca } from './x509-ca.js'

/** Every kind of upstream that Mayfly knows. A new one is added here, with its page in docs/providers and its contract test. */
export const providers: readonly ProviderModule[] = [
  jwt,
  postgres,
  mysql,
  rabbitmq,
  redis,
  awsSts,
  azure,
  gcp,
  kubernetes,
  githubApp,
  oauth2,
  sshCa,
  x509Ca,
  http,
  openbao,
]
