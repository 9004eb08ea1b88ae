/** Where the ledger's Redis is: one server, a primary that Sentinels know, or a Cluster. */
export type RedisAddress =
  | { readonly url: string }
  | { readonly socketPath: string }
  | { readonly sentinel: SentinelAddress }
  | { readonly cluster: ClusterAddress }

export interface HostAndPort {
  readonly host: string
  readonly port: number
}
export interface Tls {
  /** PEM. Absent: the system's authorities. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly servername?: string
}
export interface Login {
  readonly username?: string
  readonly password?: string
  readonly tls?: Tls
}
export interface SentinelAddress extends Login {
  /** Of the primary, as the Sentinels know it. */
  readonly name: string
  /** Sentinels, not Redis servers. `tls` is for both. */
  readonly nodes: readonly HostAndPort[]
  readonly sentinelUsername?: string
  readonly sentinelPassword?: string
}
export interface ClusterAddress extends Login {
  /** Some of them: the others are learned. */
  readonly nodes: readonly HostAndPort[]
}
