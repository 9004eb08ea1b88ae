import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { CommandError, type Shell } from './shell.js'

/** What `mayfly login` keeps: one person's access token, for its owner's eyes only. */
export interface Login {
  readonly issuer: string
  readonly access_token: string
  /** RFC 3339. */
  readonly expires_at?: string
}

const OTHERS_MAY = 0o077

/** XDG Base Directory: state that should survive a restart but is not worth a backup. */
export function loginFile({ env, home }: Shell): string {
  const state = env.XDG_STATE_HOME?.startsWith('/') ? env.XDG_STATE_HOME : join(home, '.local', 'state')
  return join(state, 'mayfly', 'login.json')
}

/** Written beside and renamed, so that nobody reads half of it and nobody else's file is written through. */
export async function writeLogin(shell: Shell, login: Login): Promise<string> {
  const file = loginFile(shell)
  const beside = `${file}.${process.pid}`
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  await chmod(dirname(file), 0o700)
  try {
    await writeFile(beside, JSON.stringify(login), { mode: 0o600, flag: 'wx' })
    await rename(beside, file)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
  return file
}

/** The token, or `undefined` when nobody has logged in. */
export async function readLogin(shell: Shell): Promise<string | undefined> {
  const file = loginFile(shell)
  const found = await stat(file).catch(() => undefined)
  if (found === undefined) return undefined
  if ((found.mode & OTHERS_MAY) !== 0) throw new CommandError('token_invalid', `others can read ${file}`, `chmod 600 ${file}, and log in again`)
  const login = parse(await readFile(file, 'utf8'))
  if (login === undefined) throw new CommandError('token_invalid', `${file} is damaged`, 'run mayfly login again')
  if (login.expires_at !== undefined && Date.parse(login.expires_at) <= Date.now())
    throw new CommandError('token_expired', `the login of ${login.issuer} has expired`, `run mayfly login --issuer ${login.issuer} again`)
  return login.access_token
}

function parse(text: string): Login | undefined {
  try {
    const value = JSON.parse(text) as Login
    return typeof value.access_token === 'string' ? value : undefined
  } catch {
    return undefined
  }
}
